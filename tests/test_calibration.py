"""Measuring the parts of a job, on real passes, steps and transcriptions."""

import time
from collections.abc import Iterator

import pytest
import torch

from core.calibration import measure_parts
from core.scaling.trials import QUERIES_VALUES, TRIALS, Trial

LARGEST_ERROR = 0.25
SMALL = (128, 2, 2)
SMALL_TRIALS = (
    Trial("listening", SMALL, (2, 2), 1, 2, 2),
    Trial("step", SMALL, (2, 2), 1, 2, 2, frozen=2, decoder=QUERIES_VALUES, students=2),
    Trial("transcription", SMALL, (2, 1), 1, 1, 2, frozen=1, compared=True),
)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_every_part_is_measured_with_its_work_and_its_memory() -> None:
    measured = measure_parts(torch.device("cpu"), clock=time.process_time, rounds=1, trials=SMALL_TRIALS)
    assert [point.part for point in measured.points] == ["listening", "step", "transcription"]
    assert all(point.seconds > 0 for point in measured.points)
    assert [one.name for one in measured.kept] == [SMALL_TRIALS[1].name]
    assert measured.kept[0].size > 128 * 4
    assert measured.load_seconds > 0
    assert (measured.threads, measured.device) == (1, "CPU")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("one_thread")
def test_real_configurations_that_were_not_fitted_are_predicted_within_a_quarter() -> None:
    measured = measure_parts(torch.device("cpu"), clock=time.process_time, trials=TRIALS)
    held_out = measured.held_out()
    assert len(held_out) == sum((1 + (trial.part == "step")) * trial.held_out for trial in TRIALS)
    assert {each.name: each.error for each in held_out if abs(each.error) > LARGEST_ERROR} == {}
