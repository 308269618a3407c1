"""The map is the same to the byte, small on the wire, and tells both sides by more than colour."""

import base64

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import charts, map_charts


def points_on_a_map(number: int) -> go.Figure:
    random = np.random.default_rng(0)
    student, teacher = random.normal(size=(2, number, 2))
    return map_charts.alignment_map(
        student=student,
        teacher=teacher,
        apart=np.linalg.norm(student - teacher, axis=1),
        labels=[f"utterance-{place:05d}@{place}" for place in range(number)],
        extent=np.array([[-4, -4], [4, 4]]),
    )


def test_the_map_tells_teacher_from_student_by_shape_and_colour() -> None:
    figure = points_on_a_map(3)
    markers = {
        trace["name"]: (trace["marker"]["symbol"], trace["marker"]["color"])
        for trace in figure.to_plotly_json()["data"]
        if "name" in trace
    }
    assert markers == {"Teacher": ("circle", charts.TEACHER), "Student": ("diamond", charts.STUDENT)}


def test_the_map_is_the_same_to_the_byte_when_drawn_again() -> None:
    assert points_on_a_map(50).to_json() == points_on_a_map(50).to_json()


def test_lines_join_the_pairs_that_are_furthest_apart() -> None:
    teacher = np.zeros((300, 2), dtype=np.float32)
    student = np.stack([np.arange(300), np.zeros(300)], axis=1).astype(np.float32)
    labels = [str(place) for place in range(300)]
    # What counts is the angle before the map, here the reverse of the distance on it.
    figure = map_charts.alignment_map(
        student=student, teacher=teacher, apart=np.arange(300)[::-1], labels=labels, extent=np.array([[0, 0], [300, 1]])
    )
    sent = figure.to_plotly_json()["data"][0]["x"]
    ends = np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"])[1::3]
    assert ends.tolist() == list(range(200))


def test_of_many_points_no_names_are_sent_and_of_each_at_most_thirty_bytes() -> None:
    sent = str(points_on_a_map(20_000).to_json())
    assert "utterance-00001" not in sent
    assert len(sent) < 30 * 20_000
    assert "utterance-00001" in str(points_on_a_map(200).to_json())


def test_no_line_is_drawn_beyond_two_hundred() -> None:
    sent = points_on_a_map(1000).to_plotly_json()["data"][0]["x"]
    assert len(np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"])) == 3 * map_charts.MOST_LINES


def test_maps_that_follow_each_other_have_one_extent() -> None:
    figure = points_on_a_map(30)
    assert list(figure.layout.xaxis.range) == [-4.4, 4.4]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_close_up_tells_both_sides_by_shape_and_colour_and_the_chosen_by_size() -> None:
    frame = pd.DataFrame(
        {"x": [0.0, 1.0], "y": [0.0, 1.0], "side": ["Teacher", "Student"], "name": ["a", "a"], "chosen": [True, True]}
    )
    path = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "order": [0, 1]})
    drawn = map_charts.close_up(frame, path, description="a and its neighbours").to_dict()
    dots = drawn["layer"][1]["encoding"]
    assert drawn["description"] == "a and its neighbours"
    assert dots["shape"]["scale"]["range"] == ["circle", "diamond"]
    assert dots["color"]["scale"]["range"] == [charts.TEACHER, charts.STUDENT]


def test_the_grid_writes_its_numbers_and_frames_what_is_compared() -> None:
    frame = pd.DataFrame({"student": [0, 0], "teacher": [0, 1], "cka": [0.9, 0.1], "compared": [True, False]})
    drawn = map_charts.layer_grid(frame, description="grid").to_dict()
    assert drawn["layer"][1]["encoding"]["text"]["field"] == "cka"
    assert drawn["layer"][0]["encoding"]["strokeWidth"]["condition"] == {"test": "datum.compared", "value": 2.5}


# WCAG 2.2: relative luminance of sRGB, written again here.
def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_number_of_every_cell_stands_out_from_it() -> None:
    values = [*np.linspace(-0.1, 1.1, 241), float("nan")]
    frame = pd.DataFrame({"student": range(242), "teacher": 0, "cka": values, "compared": False})
    drawn = map_charts.layer_grid(frame, description="grid").to_dict()
    assert drawn["layer"][1]["encoding"]["color"] == {"field": "ink", "scale": None, "type": "nominal"}
    scale = drawn["layer"][0]["encoding"]["color"]["scale"]
    low, high = (np.array([int(end[place : place + 2], 16) for place in (1, 3, 5)]) for end in scale["range"])
    assert (scale["domain"], scale["clamp"], scale["interpolate"]) == ([0, 1], True, "rgb")
    (rows,) = drawn["datasets"].values()
    for row in rows:
        share = 0.0 if row["cka"] is None else min(1.0, max(0.0, row["cka"]))
        drawn_as = "#" + "".join(f"{round(channel):02x}" for channel in low + share * (high - low))
        lighter, darker = sorted((luminance(drawn_as), luminance(row["ink"])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, row


def test_names_on_the_map_are_no_markup() -> None:
    spot = np.zeros((1, 2), dtype=np.float32)
    figure = map_charts.alignment_map(
        student=spot,
        teacher=spot,
        apart=np.zeros(1),
        labels=["<b>x</b> <a href='y'>&amp;"],
        extent=np.array([[0, 0], [1, 1]]),
    )
    sent = figure.to_plotly_json()["data"][1]["customdata"]
    assert list(sent) == ["&lt;b&gt;x&lt;/b&gt; &lt;a href='y'&gt;&amp;amp;"]
