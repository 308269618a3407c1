"""What costs as work grows, drawn and written."""

from xml.etree.ElementTree import fromstring

from benchmarks.charts import picture, table
from benchmarks.measuring import Growth

GROWTH = Growth("students", "Students", "students", [1, 2, 4], {"together": [1.0, 1.5, 2.0], "apart": [1.0, 2.0, 4.0]})
SVG = "{http://www.w3.org/2000/svg}"


def test_a_picture_is_a_whole_svg_with_a_line_for_each_cost_and_its_own_colours() -> None:
    drawn = fromstring(picture(GROWTH))
    assert drawn.tag == f"{SVG}svg"
    assert len(drawn.findall(f"{SVG}polyline")) == 2
    assert "--page" in drawn.findtext(f"{SVG}style", "")
    assert "students" in [text.text for text in drawn.iter(f"{SVG}text")]


def test_a_table_has_a_row_for_each_cost_and_a_column_for_each_amount() -> None:
    assert table(GROWTH) == [
        "| students | 1 | 2 | 4 |",
        "|---|---|---|---|",
        "| together, s | 1 | 1.5 | 2 |",
        "| apart, s | 1 | 2 | 4 |",
    ]
