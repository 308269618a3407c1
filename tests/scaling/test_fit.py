"""What is fitted: known factors are found again, and stored measurements of a real machine are predicted."""

import dataclasses
from pathlib import Path

import pytest

from core.errors import StoreError
from core.scaling.fit import FILE, PARTS, Calibration, Point, read_calibration, write_calibration
from core.scaling.trials import TRIALS
from core.scaling.work import Work
from tests.engine import tiny_en

MEASURED = Path(__file__).parent
LARGEST_ERROR = 0.25


@pytest.fixture(scope="module")
def stored() -> Calibration:
    found = read_calibration(MEASURED)
    assert found is not None
    return found


def test_factors_that_made_the_times_are_found_again(stored: Calibration) -> None:
    amounts = [(1e9, 5), (4e9, 2), (2e9, 9), (7e9, 1)]
    points = [
        Point(str(place), "step", Work(products=products, calls=calls), 1e-9 * products + 0.01 * calls)
        for place, (products, calls) in enumerate(amounts)
    ]
    fitted = dataclasses.replace(stored, points=tuple(points))
    assert fitted.factors["step"]["products"] == pytest.approx(1e-9)
    assert fitted.factors["step"]["calls"] == pytest.approx(0.01)
    assert fitted.seconds("step", Work(products=3e9, calls=3)) == pytest.approx(3.03)


def test_no_factor_is_negative_and_nothing_held_out_is_fitted(stored: Calibration) -> None:
    assert all(value >= 0 for factors in stored.factors.values() for value in factors.values())
    changed = tuple(dataclasses.replace(point, seconds=1e6) if point.held_out else point for point in stored.points)
    assert dataclasses.replace(stored, points=changed).factors == stored.factors


def test_what_was_measured_is_the_work_that_is_counted_now(stored: Calibration) -> None:
    encode = tiny_en().tokenizer.encode
    counted = [trial.work(len(encode(f" {trial.text}", add_special_tokens=False))) for trial in TRIALS]
    for point, trial, work in zip(stored.points, TRIALS, counted, strict=True):
        assert (point.name, point.part, point.held_out) == (trial.name, trial.part, trial.held_out)
        assert point.work.as_list() == pytest.approx(work.as_list())


def test_configurations_that_were_not_fitted_are_predicted(stored: Calibration) -> None:
    held_out = stored.held_out()
    assert {each.part for each in held_out} == {*PARTS, "memory of a step"}
    assert {each.name: each.error for each in held_out if abs(each.error) > LARGEST_ERROR} == {}


def test_points_of_one_trial_say_nothing_of_others_without_held_out_ones(stored: Calibration) -> None:
    fitted = tuple(point for point in stored.points if not point.held_out)
    assert dataclasses.replace(stored, points=fitted).error == 1.0


def test_what_was_measured_is_read_as_it_was_written(stored: Calibration, tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    write_calibration(stored, tmp_path)
    assert read_calibration(tmp_path) == stored


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"format": 0}', '{"format": 1, "points": [1], "kept": []}', "[]"])
def test_a_damaged_file_says_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StoreError, match="manifold plan --measure"):
        read_calibration(tmp_path)
