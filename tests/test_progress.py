"""The bar of a job: counted in costs, told seldom, and stopped where the user asks."""

import time

import pytest

from core.errors import Stopped
from core.progress import REPORT_EVERY_SECONDS, Progress

Told = tuple[str, int, int, float | None]


def progress(told: list[Told], *, total: float = 10, stop: bool = False) -> Progress:
    return Progress(total=total, report=lambda *values: told.append(values), stop=lambda: stop)


def test_a_stage_is_told_at_once_and_has_no_time_left_before_anything_was_done() -> None:
    told: list[Told] = []
    progress(told).begin("Loading the models")
    assert told == [("Loading the models", 0, 1000, None)]


def test_done_is_counted_in_thousandths_of_the_whole_cost() -> None:
    told: list[Told] = []
    bar = progress(told)
    bar.advance(2.5)
    bar.begin("Training")
    assert told[-1][:3] == ("Training", 250, 1000)


def test_the_time_left_is_what_the_rest_costs_at_the_speed_so_far() -> None:
    told: list[Told] = []
    bar = progress(told)
    time.sleep(0.2)
    bar.advance(2)
    bar.begin("Training")
    left = told[-1][3]
    assert left == pytest.approx(4 * 0.2, rel=0.5)


def test_what_came_before_the_first_counted_work_does_not_count_as_its_time() -> None:
    told: list[Told] = []
    bar = progress(told)
    bar.begin("Preparing the speech")
    time.sleep(0.5)
    bar.begin("Listening with the teacher")
    time.sleep(0.1)
    bar.advance(2)
    bar.begin("Training")
    left = told[-1][3]
    assert left == pytest.approx(4 * 0.1, rel=0.5)


def test_nothing_is_foretold_from_the_first_batches() -> None:
    told: list[Told] = []
    bar = progress(told, total=100)
    bar.begin("Listening with the teacher")
    bar.advance(1)
    bar.begin("Listening with the teacher")
    assert told[-1] == ("Listening with the teacher", 10, 1000, None)


def test_small_steps_are_not_told_one_by_one() -> None:
    told: list[Told] = []
    bar = progress(told, total=1e6)
    bar.begin("Training")
    for _ in range(1000):
        bar.advance(1)
    assert len(told) <= 2
    time.sleep(REPORT_EVERY_SECONDS)
    bar.advance(1)
    assert told[-1][1] == 1


def test_more_work_than_was_expected_does_not_pass_the_end() -> None:
    told: list[Told] = []
    bar = progress(told)
    bar.advance(25)
    bar.begin("Measuring")
    assert told[-1][1:] == (1000, 1000, 0.0)


def test_the_end_is_told() -> None:
    told: list[Told] = []
    bar = progress(told)
    bar.advance(3)
    bar.finish()
    assert told[-1] == ("Finished", 1000, 1000, 0.0)


def test_a_stop_is_raised_at_the_next_step_and_its_work_still_counts() -> None:
    told: list[Told] = []
    bar = progress(told, stop=True)
    with pytest.raises(Stopped):
        bar.advance(4)
    assert bar.done == 4
