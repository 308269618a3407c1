"""Results that go through a journal: whoever stores them waits for no database, and nothing of them is lost."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core.store.journaled as journaled
from core.errors import DatabaseGoneError, StoreError
from core.store import AlignmentRecord, JobRecord, ParameterCounts, RunRecord, Store, UtteranceResult
from core.store.journal import replay
from core.store.journaled import JournaledStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "runs"
    made.mkdir()
    return made


@pytest.fixture
def run(store: Store, job: JobRecord) -> RunRecord:
    return store.runs(job_id=job.id)[0]


def until(holds: Callable[[], Any], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@contextmanager
def held(store: Store, how: str = "BEGIN EXCLUSIVE") -> Iterator[sqlite3.Connection]:
    """Let another program keep the database for itself."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute(how)
        yield other
        other.execute("ROLLBACK")


def steps(store: Store, run: RunRecord) -> list[int]:
    return [metric.step for metric in store.metrics(run.id, ["total"])]


def journals(folder: Path) -> list[Path]:
    return sorted((folder / "journal").iterdir())


ALIGNMENT = {"stage": "before", "side": "encoder", "student_layer": 1, "teacher_layer": 2, "points": 9}
ALIGNMENT |= {"linear_cka": np.float32(0.5), "geodesic_angle": 0.25, "mutual_knn": 0.125, "neighbours": 8}


def store_everything(store: Store, run: RunRecord, evaluation: dict[str, Any]) -> None:
    store.progress(run.job_id, "Training", 1, 1000, None)
    store.run_state(run.id, "running")
    store.set_precision(run.id, "bfloat16")
    store.set_parameters(run.id, ParameterCounts(1000, 800, 5, 2))
    for step in range(5):
        store.add_metrics(run.id, step, {"total": float(step), "nan": math.nan, "inf": np.float64(math.inf)})
        store.run_progress(run.id, step, 0.5 * step)
    store.progress(run.job_id, "Training “ü”", 500, 1000, 12.5)
    store.add_alignments([AlignmentRecord(run_id=run.id, step=4, **ALIGNMENT)])
    text = UtteranceResult("u1", 0, "a ü", "a", 0, 1, 0, 2, None, 1.5, "a.flac")
    store.add_evaluation(job_id=run.job_id, run_id=run.id, results=[text], **evaluation)
    store.set_peak_memory(run.id, 10**10)
    store.request_first_analysis(run.id)
    store.run_state(run.id, "finished")


EVALUATION: dict[str, Any] = {
    "subject": "student", "test_set": "test", "test_set_hash": "abc", "step": 4, "audio_context": 30.0,
    "normaliser": "none", "decoding": "greedy", "wer": 0.5, "cer": 0.25, "substitutions": 0, "deletions": 1,
    "insertions": 0, "words": 2, "heldout_kl": None, "real_time_factor": 0.1, "seconds": 1.0,
}  # fmt: skip


def everything(store: Store, run: RunRecord) -> dict[str, Any]:
    found = store.run(run.id)
    (evaluation,) = store.evaluations(run_id=run.id)
    job = store.job(run.job_id)
    return {
        "run": (found.state, found.step, found.seconds, found.precision, found.peak_memory, found.message),
        "job": (job.state, job.stage, job.done, job.total, job.eta_seconds),
        "metrics": [(each.name, each.step, str(each.value)) for each in store.metrics(run.id)],
        "parameters": store.parameters(run.id),
        "evaluation": (evaluation.wer, evaluation.test_set, evaluation.step),
        "texts": store.utterance_results(evaluation.id),
        "alignments": [(each.step, each.linear_cka, each.stage) for each in store.alignments(run.id)],
        "maps": [(each.side, each.state, each.step) for each in store.maps(run.id)],
        "comparisons": [(each.side, each.step, each.state) for each in store.comparisons(run.id)],
    }


def test_what_goes_through_the_journal_arrives_as_what_does_not(
    store: Store, job: JobRecord, run: RunRecord, folder: Path
) -> None:
    other = store.runs(job_id=job.id)[1]
    store_everything(store, other, EVALUATION)
    with JournaledStore(store, folder, job.id) as results:
        store_everything(results, run, EVALUATION)
        assert results.flush(10)
        assert everything(store, run) == everything(store, other)
    assert journals(folder) == []


def test_results_are_in_the_database_about_a_second_later(
    store: Store, job: JobRecord, run: RunRecord, folder: Path
) -> None:
    with JournaledStore(store, folder, job.id) as results:
        results.add_metrics(run.id, 1, {"total": 1.0})
        until(lambda: steps(store, run) == [1], seconds=5)


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_nobody_waits_for_a_database_that_another_program_holds(
    store: Store, job: JobRecord, run: RunRecord, folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaled, "CLOSING_SECONDS", 0.2)
    with JournaledStore(store, folder, job.id) as results:
        with held(store, how):
            took = []
            for step in range(40):
                began = time.perf_counter()
                results.add_metrics(run.id, step, {"total": 1.0})
                results.run_progress(run.id, step, 1.0)
                took.append(time.perf_counter() - began)
                time.sleep(0.05)
            assert max(took) < 0.1
            began = time.perf_counter()
            assert steps(store, run) == []
            assert time.perf_counter() - began < 1
            assert not results.flush(0.2)
            (line, *_) = journals(folder)[0].read_bytes().splitlines()
            assert json.loads(line)["fields"] == {"run_id": run.id, "step": 0, "values": {"total": 1.0}}
        until(lambda: steps(store, run) == list(range(40)))
    assert journals(folder) == []


def test_an_ending_that_the_database_does_not_take_is_found_by_the_next_that_looks(
    store: Store, job: JobRecord, run: RunRecord, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaled, "CLOSING_SECONDS", 0.1)
    with held(store), JournaledStore(store, folder, job.id) as results:
        results.run_state(run.id, "finished")
        results.job_state(job.id, "failed", "A sentence.")
    ended = time.time()
    assert store.job(job.id).state == "queued"
    time.sleep(1)
    assert replay(store, folder) == set()
    found = store.job(job.id)
    assert (found.state, found.message, store.run(run.id).state) == ("failed", "A sentence.", "finished")
    assert found.ended_at is not None
    assert abs(found.ended_at.timestamp() - ended) < 0.5 + 1
    assert found.ended_at.timestamp() < ended
    assert journals(folder) == []


DIES = """
import os, signal, sys, time
from pathlib import Path
from core.store import Store
from core.store.journaled import JournaledStore

url, folder, job, run = sys.argv[1:5]
with JournaledStore(Store.open(url), Path(folder), job) as results:
    for step in range(int(sys.argv[5]), 10**6):
        results.add_metrics(run, step, {"total": float(step)})
        os.write(1, b"%d\\n" % step)
        time.sleep(0.001)
"""


@contextmanager
def worker(store: Store, run: RunRecord, folder: Path, *, first: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", DIES, store.url, str(folder), run.job_id, run.id, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("locked", [False, True])
def test_a_killed_process_loses_nothing_and_stores_nothing_twice(
    store: Store, run: RunRecord, folder: Path, locked: bool
) -> None:
    with worker(store, run, folder) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with held(store) if locked else closing(open(os.devnull)):
            time.sleep(2.3)
            process.kill()
            told = [int(line) for line in process.stdout.read().splitlines()]
    assert len(told) > 100
    assert journals(folder)
    for _ in range(2):
        assert replay(store, folder) == set()
        found = steps(store, run)
        assert found[: len(told) + 1] == list(range(told[-1] + 1))
        assert len(found) <= len(told) + 2
        assert journals(folder) == []


def test_what_was_moved_but_not_deleted_is_moved_again_without_harm(
    store: Store, job: JobRecord, run: RunRecord, folder: Path
) -> None:
    with held(store), JournaledStore(store, folder, job.id) as results:
        store_everything(results, run, EVALUATION)
        (path,) = journals(folder)
        lines = path.read_bytes()
        results.journal.joinpath("copy").write_bytes(lines)
        journaled_seconds, journaled.CLOSING_SECONDS = journaled.CLOSING_SECONDS, 0.1
    journaled.CLOSING_SECONDS = journaled_seconds
    copy = folder / "journal" / f"{job.id}.1.1.jsonl"
    (folder / "journal" / "copy").rename(copy)
    replay(store, folder)
    first = everything(store, run)
    copy.write_bytes(lines)
    replay(store, folder)
    assert everything(store, run) == first
    assert len(first["metrics"]) == 15


def test_a_line_that_was_cut_off_and_one_that_is_none_are_left_out(
    store: Store, job: JobRecord, run: RunRecord, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def line(operation: str, **fields: Any) -> str:
        return json.dumps({"at": 1, "operation": operation, "fields": fields}) + "\n"

    (folder / "journal").mkdir()
    good = line("add_metrics", run_id=run.id, step=7, values={"total": 1.0})
    strange = [
        "no json\n",
        '["a list"]\n',
        line("close"),
        line("run_progress", run_id=run.id),
        line("add_metrics", run_id="r0000000", step=1, values={"total": 1.0}),
        line("add_metrics", run_id=run.id),
        line("progress", job_id="j0", stage="", done=0, total=0),
    ]
    path = folder / "journal" / f"{job.id}.1.1.jsonl"
    path.write_text("".join(strange) + good + good[:-9])
    replay(store, folder)
    assert steps(store, run) == [7]
    assert journals(folder) == []
    assert "FOREIGN KEY" in caplog.text
    assert "close" in caplog.text


def test_the_journal_of_a_process_that_lives_is_left_to_it(
    store: Store, job: JobRecord, run: RunRecord, folder: Path
) -> None:
    with JournaledStore(store, folder, job.id) as results, held(store):
        results.add_metrics(run.id, 1, {"total": 1.0})
        assert replay(store, folder) == {job.id}
        assert journals(folder)


def test_journals_of_another_database_are_left_alone(store: Store, job: JobRecord, folder: Path) -> None:
    (folder / "journal").mkdir()
    path = folder / "journal" / "jzzzzzzz.1.1.jsonl"
    path.write_text(json.dumps({"at": 1, "operation": "run_progress", "fields": {"run_id": "r", "step": 1}}) + "\n")
    before = path.read_bytes()
    assert replay(store, folder) == {"jzzzzzzz"}
    assert path.read_bytes() == before


def test_a_journal_that_cannot_be_opened_waits_and_stops_nobody(store: Store, job: JobRecord, folder: Path) -> None:
    (folder / "journal" / f"{job.id}.1.1.jsonl").mkdir(parents=True)
    assert replay(store, folder) == {job.id}


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_database_that_goes_away_is_told_to_whoever_stores_next_and_nothing_is_lost(
    store: Store, job: JobRecord, run: RunRecord, folder: Path, how: str
) -> None:
    with JournaledStore(store, folder, job.id) as results:
        results.add_metrics(run.id, 1, {"total": 1.0})
        for path in store.path.parent.glob("experiments.db*"):
            path.unlink()
        if how == "replaced":
            Store.open(store.url).close()
        results.add_metrics(run.id, 2, {"total": 1.0})
        until(lambda: isinstance(results.problem(), DatabaseGoneError))
        for call in (
            lambda: results.add_metrics(run.id, 3, {"total": 1.0}),
            lambda: results.run_progress(run.id, 3, 1.0),
            lambda: results.progress(job.id, "Training", 1, 2),
        ):
            with pytest.raises(DatabaseGoneError, match=how):
                call()
        results.run_state(run.id, "failed", str(results.problem()))
    assert store.path.exists() == (how == "replaced")
    kept = "".join(path.read_text() for path in journals(folder))
    assert '"step":1' in kept
    assert '"step":2' in kept
    assert '"failed"' in kept


def test_a_folder_of_runs_that_goes_away_is_told_and_the_database_has_the_rest(
    store: Store, job: JobRecord, run: RunRecord, folder: Path
) -> None:
    with JournaledStore(store, folder, job.id) as results:
        results.add_metrics(run.id, 1, {"total": 1.0})
        folder.rename(folder.with_name("gone"))
        results.add_metrics(run.id, 2, {"total": 1.0})
        until(lambda: results.problem() is not None)
        with pytest.raises(StoreError, match="deleted or moved while the job worked"):
            results.add_metrics(run.id, 3, {"total": 1.0})
        results.run_state(run.id, "failed", "A sentence.")
    assert steps(store, run) == [1, 2]
    assert store.run(run.id).state == "failed"
    assert not folder.exists()


def test_a_mistake_in_the_thread_is_told_to_whoever_stores_next(
    store: Store, job: JobRecord, run: RunRecord, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*files: Any) -> int:
        raise ZeroDivisionError("a mistake of ours")

    with JournaledStore(store, folder, job.id) as results:
        monkeypatch.setattr(journaled, "move", broken)
        results.add_metrics(run.id, 1, {"total": 1.0})
        until(lambda: results.problem() is not None)
        with pytest.raises(ZeroDivisionError):
            results.add_metrics(run.id, 2, {"total": 1.0})
        monkeypatch.undo()
    assert steps(store, run) == [1]


def test_a_full_disk_of_the_runs_leads_straight_to_the_database(
    store: Store, job: JobRecord, run: RunRecord, folder: Path
) -> None:
    with JournaledStore(store, folder, job.id) as results:
        results.add_metrics(run.id, 1, {"total": 1.0})
        results.flush(5)
        # A journal that cannot be made is as one that cannot be written.
        (folder / "journal").rmdir()
        (folder / "journal").touch()
        results.add_metrics(run.id, 2, {"total": 1.0})
        assert steps(store, run) == [1, 2]


def test_several_processes_write_at_once(store: Store, job: JobRecord, folder: Path) -> None:
    runs = store.runs(job_id=job.id)[:3]
    processes = [worker(store, run, folder) for run in runs]
    opened = [process.__enter__() for process in processes]
    for process in opened:
        assert process.stdout is not None
        process.stdout.readline()
    time.sleep(1.5)
    told = []
    for process, context in zip(opened, processes, strict=True):
        os.kill(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        told.append(len(process.stdout.read().splitlines()) + 1)
        context.__exit__(None, None, None)
    replay(store, folder)
    for run, count in zip(runs, told, strict=True):
        assert count <= len(steps(store, run)) <= count + 1
