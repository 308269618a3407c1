"""The documentation's table of goals is that of the stored results."""

import json
from pathlib import Path

from benchmarks.goals import GOALS
from benchmarks.measuring import RESULTS, ratio
from benchmarks.table import PAGE, rows, update_page
from tests.documents import between


def test_the_table_in_the_documentation_is_that_of_the_stored_results() -> None:
    assert between("benchmarks") == rows().strip()


def test_new_results_replace_the_table_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks -->\n\nold\n\n<!-- /benchmarks -->\nafter\n", encoding="utf-8")
    update_page(page)
    assert page.read_text(encoding="utf-8") == (
        f"before\n<!-- benchmarks -->\n\n{rows()}\n<!-- /benchmarks -->\nafter\n"
    )
    update_page(page)
    assert page.read_text(encoding="utf-8").count(rows()) == 1
    assert PAGE.is_file()


def test_every_goal_is_told_with_what_was_measured() -> None:
    stored = json.loads((RESULTS / "goals.json").read_text(encoding="utf-8"))
    assert [row["goal"] for row in stored] == [goal.name for goal in GOALS]
    for row, goal in zip(stored, GOALS, strict=True):
        assert row["met"] == goal.reached(row["measured"], goal.gate)
        assert row["target_met"] == goal.reached(row["measured"], goal.target)
        assert row["lowest"] <= row["measured"] <= row["highest"]


def test_a_ratio_is_of_medians_and_its_spread_of_single_rounds() -> None:
    found = ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0], times=8)
    assert (found.value, found.n, found.lowest, found.highest) == (16, 3, 16, 24)
