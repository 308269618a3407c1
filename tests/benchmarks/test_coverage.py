"""A small part of the simulation, and what is kept of the whole of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import CELLS, GAIN, RATE, RESULTS, Cell, any_false, experiment, measure, rate, setting
from core.power import detectable_difference, power, what_can_be_seen

EXPERIMENTS = 200
ALLOWED = 0.05 + 3 * (0.05 * 0.95 / EXPERIMENTS) ** 0.5
"""Five percent, and three standard errors of so few experiments."""


@pytest.mark.parametrize(
    "cell",
    [
        Cell("utterances", 100),
        Cell("speakers", 300, 5),
        Cell("sentences", 100, 10, 10),
        Cell("seeds", 100, seeds=3, scatter=0.017),
    ],
    ids=lambda cell: cell.title,
)
def test_verdicts_and_intervals_are_wrong_in_five_percent(cell: Cell) -> None:
    found = measure(cell, EXPERIMENTS)
    assert max(found.false, found.missed, found.missed_gain) <= ALLOWED
    assert found.seen > 0


def test_a_baseline_that_is_chosen_for_looking_worst_finds_no_more_than_chance() -> None:
    assert any_false(5, 60, chosen=True) <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


def test_the_rates_of_the_simulation_are_those_that_it_names() -> None:
    cell = Cell("speakers", 6000, 500)
    levels = setting(cell, GAIN)
    drawn = experiment(cell, np.random.default_rng(0), levels)
    better, base = drawn.errors.sum(axis=(1, 2)) / sum(drawn.words)
    assert (better, base) == pytest.approx((RATE - GAIN, RATE), abs=0.008)
    assert drawn.truth == pytest.approx(-GAIN)
    assert rate(0.0, 2.0) == pytest.approx(0.5)


def test_the_whole_simulation_was_run_on_every_cell_and_kept_what_is_promised() -> None:
    stored = json.loads((RESULTS / "coverage.json").read_text(encoding="utf-8"))
    assert [(each["title"], each["utterances"]) for each in stored["cells"]] == [
        (cell.title, cell.utterances) for cell in CELLS
    ]
    assert stored["experiments"] >= 1000
    for each in stored["cells"]:
        assert max(each["false"], each["missed"], each["missed_gain"]) <= coverage.MOST, each["title"]
    assert max(stored["families"].values()) <= coverage.MOST


def test_new_run_foresees_what_the_simulation_saw() -> None:
    stored = json.loads((RESULTS / "coverage.json").read_text(encoding="utf-8"))["cells"]
    plain = [each for each in stored if not (each["sentences"] or each["runaway"] or each["shares"] or each["scatter"])]
    assert len(plain) > 10
    for each in plain:
        size = each["utterances"]
        found = power(GAIN, utterances=size, words=6 * size, rate=RATE, speakers=each["speakers"])
        assert found == pytest.approx(each["seen"], abs=0.06), each["title"]


def test_a_difference_that_can_be_seen_is_seen_in_four_of_five_cases() -> None:
    found = detectable_difference(utterances=300, words=1800, speakers=10)
    assert found is not None
    assert power(found, utterances=300, words=1800, rate=0.1, speakers=10) == pytest.approx(0.8)
    more = detectable_difference(utterances=1200, words=7200, speakers=40)
    assert more is not None
    assert more == pytest.approx(found / 2, rel=0.2)
    fewer = detectable_difference(utterances=300, words=1800, speakers=10, comparisons=6)
    assert fewer is None or fewer > found


@pytest.mark.parametrize(("utterances", "speakers"), [(1, 0), (12, 0), (100, 2)])
def test_what_can_show_nothing_is_said_to_be_too_few(utterances: int, speakers: int) -> None:
    assert detectable_difference(utterances=utterances, words=6 * utterances, speakers=speakers) is None
    assert "too few to tell two runs apart" in what_can_be_seen(
        utterances=utterances, words=6 * utterances, speakers=speakers
    )


def test_the_command_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coverage, "CELLS", (Cell("two", 30, 5), Cell("three", 30)))
    assert coverage.main(["--experiments", "3", "--folder", str(tmp_path)]) in (0, 1)
    assert (tmp_path / "coverage.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert len(json.loads((tmp_path / "coverage.json").read_text(encoding="utf-8"))["cells"]) == 2
