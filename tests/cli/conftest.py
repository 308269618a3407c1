from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.cli import main
from core.config import RunConfig, read_preset
from core.launchers.slots import ANALYSIS, CPU, analysis_slots, device_slots, take_slot
from core.runs import JobRecord, ParameterCounts, Studio, UtteranceResult
from core.store import Store

Command = Callable[..., tuple[int, str, str]]

WORDS_EACH = 7


@pytest.fixture
def configs() -> tuple[RunConfig, ...]:
    return read_preset("one-voice")[1]


@pytest.fixture
def studio(store: Store, tmp_path: Path) -> Iterator[Studio]:
    opened = Studio(store.url, tmp_path / "runs")
    yield opened
    opened.close()


@pytest.fixture
def places(studio: Studio) -> list[str]:
    """Return the options that lead a command to the test's own database and folder."""
    return ["--db", studio.store.url, "--runs", str(studio.runs_folder)]


@pytest.fixture
def busy(studio: Studio) -> Iterator[None]:
    """Keep the machine's slots, so that workers wait in the queue, where they import nothing heavy."""
    with ExitStack() as slots:
        for folder, name in ((device_slots(), CPU), (analysis_slots(studio.runs_folder), ANALYSIS)):
            slot = take_slot(folder, name)
            assert slot is not None
            slots.enter_context(slot)
        yield


@pytest.fixture
def complete(store: Store) -> Callable[..., JobRecord]:
    """Return a function that stores what a finished job leaves, as if its worker had done it."""

    def evaluate(job: JobRecord, test_set: str, utterances: int, errors: int, **fields: Any) -> None:
        draw = Random(errors)
        each = [draw.randrange(2 * errors + 1) for _ in range(utterances)]
        results = [
            UtteranceResult(f"u{i}", i, "a reference", "a hypothesis", count, 0, 0, WORDS_EACH, None, 2.0, f"{i}.flac")
            for i, count in enumerate(each)
        ]
        words = WORDS_EACH * utterances
        store.add_evaluation(
            **{
                "job_id": job.id,
                "run_id": None,
                "step": None,
                "test_set": test_set,
                "test_set_hash": test_set,
                "audio_context": 30.0,
                "normaliser": "whisper-english 0.1.15",
                "decoding": "greedy",
                "wer": sum(each) / words,
                "cer": sum(each) / words / 2,
                "substitutions": sum(each),
                "deletions": 0,
                "insertions": 0,
                "words": words,
                "heldout_kl": 0.25 if fields["subject"] != "teacher" else None,
                "real_time_factor": 0.1,
                "seconds": 4.0,
                "results": results,
                **fields,
            }
        )

    def finish(job: JobRecord, *, utterances: int = 100, state: str = "finished", message: str = "") -> JobRecord:
        # The job stays queued until all is stored: its real worker leaves when it is not, and would be found dead.
        for test_set, size in (("test", utterances), ("real", 12)):
            evaluate(job, test_set, size, 1, subject="teacher")
            evaluate(job, test_set, size, 6, subject="student_before")
            for run in store.runs(job_id=job.id):
                evaluate(job, test_set, size, 4 - run.position % 3, subject="student", run_id=run.id, step=150)
        for run in store.runs(job_id=job.id):
            store.set_parameters(run.id, ParameterCounts(37_000_000, 36_000_000, 200_000, 50_000))
            store.run_progress(run.id, 150, 61.0)
            store.run_state(run.id, "finished")
        store.job_state(job.id, state, message)  # pyright: ignore[reportArgumentType]
        return store.job(job.id)

    return finish


@pytest.fixture
def manifold(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command and returns its exit status, output and errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        output, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return int(ended.value.code or 0), output, errors

    return command


@pytest.fixture
def finished(studio: Studio, configs: tuple[RunConfig, ...], complete: Callable[..., JobRecord]) -> JobRecord:
    return complete(studio.store.create_job("quickstart", configs))
