"""The README's table of goals is the stored results'."""

import json

from benchmarks.goals import GOALS
from benchmarks.measuring import RESULTS, ratio
from benchmarks.table import BEGIN, END, README, rows


def test_the_table_in_the_readme_is_that_of_the_stored_results() -> None:
    shown = README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert shown.strip() == rows().strip()


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
