"""What a run will take, on small random models and generated speech."""

import dataclasses
from pathlib import Path

import pytest

from core.config import PrunedStudent, RunConfig
from core.estimates import WARM_STEPS, Enough, Stopwatch, all_terms_at_once, crowded, measure
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.sample import CLIPS, Sample, take_sample
from core.scaling.work import PROBE_POINTS, PROBE_UTTERANCES
from core.store import Estimate
from tests.engine import random_whisper, run_config


@pytest.fixture(scope="module")
def config() -> RunConfig:
    source = {"kind": "generated", "train": 200, "development": 30, "test": 50}
    return run_config(source=source, evaluation={"audio_context": 10, "batch_size": 2, "tokens_per_second": 2})


@pytest.fixture(scope="module")
def teacher() -> Whisper:
    return random_whisper()


@pytest.fixture(scope="module")
def sample(config: RunConfig, teacher: Whisper, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    student = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3)))
    return take_sample([config], student=student, teachers=(teacher,), runs_folder=folder / "runs", folder=folder)


@pytest.fixture(scope="module")
def estimate(config: RunConfig, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Estimate:
    folder = tmp_path_factory.mktemp("measure")
    return measure(config, sample, runs_folder=folder / "runs", folder=folder, load_seconds=100.0)


def test_only_as_many_utterances_are_made_as_are_listened_to(sample: Sample) -> None:
    assert len(sample.train) == CLIPS
    assert sample.sizes == (200, 30, 50)
    made = [item.utterance.audio_path for item in sample.train]
    assert len(list(made[0].parent.iterdir())) == CLIPS + 2
    mean = sum(path.stat().st_size for path in made) / len(made)
    assert sample.audio_bytes == pytest.approx(280 * mean, rel=0.3)


def test_time_is_that_of_the_steps_and_of_all_that_comes_with_them(
    config: RunConfig, sample: Sample, estimate: Estimate
) -> None:
    assert estimate.training_seconds == pytest.approx(config.training.steps * estimate.step_seconds)
    assert estimate.run_seconds > estimate.training_seconds + 50 * sample.test.after
    assert estimate.shared_seconds == pytest.approx(100 + sample.shared_seconds)
    assert sample.shared_seconds > 230 * sample.development.listen + 50 * sample.test.listen
    assert 0 < sample.test.after <= sample.test.before


def test_memory_and_disk_grow_with_the_utterances_of_the_job(
    config: RunConfig, sample: Sample, estimate: Estimate, tmp_path: Path
) -> None:
    larger = dataclasses.replace(sample, prepared_bytes=sample.prepared_bytes + 10**12)
    other = measure(config, larger, runs_folder=tmp_path / "runs", folder=tmp_path)
    assert other.peak_memory > 10**12 > estimate.peak_memory
    one = 32 * 2  # float16 of one state
    probed = min(PROBE_UTTERANCES, sample.sizes[1])
    frames = sum(len(item.teachers[0].states["encoder", 3]) for item in sample.train) * probed / CLIPS / 4
    # Encoder layer 2 as it is, and both sides of the pair; decoder states come on top.
    assert estimate.state_bytes > PROBE_POINTS * 3 * frames * one
    assert estimate.adapter_bytes > 2 * 4 * 32 * 32  # best and last, float32, the projection alone
    assert estimate.disk_free > 0


@pytest.mark.parametrize(("load", "crowding"), [(0.5, False), (1.9, False), (6.0, True)])
def test_work_of_others_is_told_since_steps_take_longer_beside_it(
    load: float, crowding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("psutil.getloadavg", lambda: (load, 0.0, 0.0))
    assert crowded() == crowding


def test_every_term_counts_from_the_first_measured_step(config: RunConfig) -> None:
    late = {"kind": "geodesic", "begins": 0.5, "warmup": 0.2, "final": 0.0}
    staged = run_config(method={"name": "late", "losses": [{"kind": "cross_entropy"}, late]})
    short = all_terms_at_once(staged, steps=1)
    assert short.training.steps == 1
    assert [loss.weight_at(1.0) for loss in short.method.losses] == [1.0, 1.0]


def test_a_loop_that_takes_too_long_may_stop_after_one_step_that_is_warm() -> None:
    watch = Stopwatch(longest_seconds=-1.0)
    watch.pause(0)
    for step in range(1, WARM_STEPS + 1):
        watch.step(step, {}, 0.1)
        watch.pause(step)
    watch.step(WARM_STEPS + 1, {}, 0.1)
    with pytest.raises(Enough):
        watch.pause(WARM_STEPS + 1)
    assert len(watch.seconds[WARM_STEPS:]) == 1
