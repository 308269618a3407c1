import errno
import logging
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

import core.store.journaled as journaled
import core.worker as worker
from core.config import RunConfig, read_preset
from core.config.models import Teacher
from core.errors import ModelError, NotFiniteError, SomeRunsFailed, Stopped, StoreError
from core.launchers.liveness import process_of
from core.launchers.local import LocalLauncher
from core.launchers.process import find as find_process
from core.launchers.process import identify
from core.launchers.slots import CPU, SLOTS, device_slots, slot_taken, take_slot
from core.progress import Progress
from core.runs import JobRecord, Studio
from core.store import State, Store
from core.worker import main, run_worker

SMALL_WORKER = Path(__file__).parent / "launchers"


@pytest.fixture
def configs() -> tuple[RunConfig, ...]:
    return read_preset("one-voice")[1][:2]


@pytest.fixture
def studio(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """Yield a studio whose jobs are small: see small_worker.py."""
    monkeypatch.setenv("PYTHONPATH", str(SMALL_WORKER))
    opened = Studio(store.url, tmp_path / "runs", launcher=LocalLauncher(worker="small_worker"))
    yield opened
    for job in opened.store.jobs():
        opened.stop(job.id, now=True)
    opened.close()


def wait_until(holds: Callable[[], Any], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def work_through(
    store: Store, configs: tuple[RunConfig, ...], folder: Path, work: Callable[..., None], *, told: bool = False
) -> JobRecord:
    """Let this process be the worker of a new job; return how it ended."""
    job = store.create_job("a job", configs)
    run_worker(job.id, store=store, runs_folder=folder, work=work, told_to_stop=lambda: told)
    return store.job(job.id)


def test_work_that_returns_has_finished(store: Store, configs: tuple[RunConfig, ...], tmp_path: Path) -> None:
    seen = []

    def work(job_id: str, *, store: Store, runs_folder: Path, stop: Callable[[], bool]) -> None:
        seen.append((store.job(job_id).state, runs_folder, stop()))
        for run in store.runs(job_id=job_id):
            store.run_state(run.id, "finished")

    job = work_through(store, configs, tmp_path, work)
    assert seen == [("starting", tmp_path, False)]
    assert (job.state, job.message) == ("finished", "")
    me = identify()
    assert (job.pid, job.boot_id) == (me.pid, me.boot_id)
    assert {run.state for run in store.runs(job_id=job.id)} == {"finished"}


class OutOfMemoryError(RuntimeError):
    """Bears the name of PyTorch's own, which is not imported here."""


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (Stopped("Stopped by the user."), "stopped", "The machine told the worker to end (SIGTERM)."),
        (ModelError("The model 'x' was not found."), "failed", "The model 'x' was not found."),
        (NotFiniteError("The loss became NaN."), "failed", "The loss became NaN."),
        (MemoryError(), "failed", "The machine ran out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "failed", "The machine ran out of memory."),
        (OutOfMemoryError("CUDA out of memory."), "failed", "The GPU ran out of memory."),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "The disk is full."),
        (OSError(errno.EIO, "Input/output error"), "failed", "did not expect (OSError)"),
        (KeyError("weights"), "failed", "did not expect (KeyError)"),
    ],
)
def test_every_ending_has_its_sentence_and_the_log_the_rest(
    store: Store,
    configs: tuple[RunConfig, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    state: str,
    said: str,
) -> None:
    def work(job_id: str, **places: Any) -> None:
        raise error

    job = work_through(store, configs, tmp_path, work)
    assert job.state == state
    assert said in job.message
    assert "Traceback" not in job.message
    assert ("Traceback" in capsys.readouterr().err) == (state == "failed")
    assert {(run.state, run.message) for run in store.runs(job_id=job.id)} == {(job.state, job.message)}


def test_a_stop_by_a_user_is_told_from_one_by_the_machine(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    def work(job_id: str, **places: Any) -> None:
        store.request_stop(job_id)
        raise Stopped("Stopped by the user.")

    assert work_through(store, configs, tmp_path, work).message.startswith("Stopped on request.")


def test_a_stop_is_recorded_where_the_database_does_not_say_who_asked_for_it(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.create_job("a job", configs)

    def silent(job_id: str) -> bool:
        raise StoreError("Another process keeps it locked.")

    def work(job_id: str, **places: Any) -> None:
        monkeypatch.setattr(store, "stop_requested", silent)
        raise Stopped("Told to end.")

    state = run_worker(job.id, store=store, runs_folder=tmp_path, work=work, told_to_stop=lambda: False)
    assert state == "stopped"
    assert store.job(job.id).message.startswith("The machine told the worker to end")


def test_a_job_whose_devices_cannot_be_locked_fails_and_says_what_to_do(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(SLOTS, str(tmp_path / "file" / "slots"))
    job = work_through(store, configs, tmp_path, lambda *a, **k: pytest.fail("it began"))
    assert job.state == "failed"
    assert job.message.startswith(f"The lock {tmp_path / 'file' / 'slots' / 'cpu.lock'} cannot be opened")
    assert SLOTS in job.message


def test_a_worker_that_is_told_to_end_while_it_waits_never_begins(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    job = work_through(store, configs, tmp_path, lambda *a, **k: pytest.fail("it began"), told=True)
    assert (job.state, job.message) == ("stopped", "Stopped before it began.")


@pytest.mark.parametrize("state", ["starting", "interrupted", "stopped"])
def test_a_job_that_does_not_wait_is_left_alone(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, state: State
) -> None:
    job = store.create_job("a job", configs)
    store.job_state(job.id, state, "As it was.")
    places = {"store": store, "runs_folder": tmp_path, "told_to_stop": lambda: False}
    assert run_worker(job.id, work=lambda *a, **k: pytest.fail("it began"), **places) == state
    assert store.job(job.id).message == "As it was."


def test_work_hears_of_a_stop_within_a_heartbeat(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.05)

    def work(job_id: str, *, stop: Callable[[], bool], **places: Any) -> None:
        first = store.job(job_id).heartbeat_at
        wait_until(lambda: store.job(job_id).heartbeat_at != first)
        assert not stop()
        store.request_stop(job_id)
        wait_until(stop)
        raise Stopped("Stopped by the user.")

    assert work_through(store, configs, tmp_path, work).state == "stopped"


def test_a_worker_that_was_declared_dead_is_told_to_stop_and_changes_nothing(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.05)

    def work(job_id: str, *, stop: Callable[[], bool], **places: Any) -> None:
        store.job_state(job_id, "interrupted", "It was thought dead.")
        wait_until(stop)

    job = work_through(store, configs, tmp_path, work)
    assert (job.state, job.message) == ("interrupted", "It was thought dead.")


def test_an_ending_that_cannot_be_stored_at_first_is_stored_later(
    store: Store,
    configs: tuple[RunConfig, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.05)
    lock = Path(f"{store.path}.lock")

    def work(job_id: str, **places: Any) -> None:
        # A folder in the place of the lock file: every write is refused until it is gone.
        lock.unlink()
        lock.mkdir()
        threading.Timer(0.5, lock.rmdir).start()

    assert work_through(store, configs, tmp_path, work).state == "finished"
    told = capsys.readouterr().err
    assert "heartbeat: " in told
    assert "cannot be stored" not in told


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back the handler that the worker sets."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("signals")
def test_an_ending_that_can_never_be_stored_ends_the_worker_with_an_error(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(worker, "ENDING_SECONDS", 0.2)
    monkeypatch.setattr(journaled, "CLOSING_SECONDS", 0.2)
    lock = Path(f"{store.path}.lock")

    def work(job_id: str, **places: Any) -> None:
        lock.unlink()
        lock.mkdir()

    job = store.create_job("a job", configs)
    assert main([job.id, "--database-url", store.url, "--runs", str(tmp_path)], work=work) == 1
    lock.rmdir()
    assert store.job(job.id).active


@pytest.mark.usefixtures("signals")
def test_the_exit_status_tells_whether_it_went_well(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(job_id: str, **places: Any) -> None:
        raise ModelError("no")

    places = ["--database-url", store.url, "--runs", str(tmp_path)]
    assert main([store.create_job("a", configs).id, *places], work=lambda *a, **k: None) == 0
    assert main([store.create_job("b", configs).id, *places], work=fail) == 1
    assert main(["j0", *places], work=fail) == 1
    assert "There is no job 'j0'." in capsys.readouterr().err


@pytest.mark.usefixtures("signals")
def test_the_log_has_what_begins_once_with_its_time_and_how_it_ended(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(job_id: str, *, stop: Callable[[], bool], **places: Any) -> None:
        progress = Progress(total=1.0, report=lambda *told: None, stop=stop)
        for stage in ("Loading the models", "Listening with the teacher", "Listening with the teacher"):
            progress.begin(stage)
            progress.advance(0.1)
        written = capsys.readouterr().err
        assert "Listening with the teacher" in written  # long before it has ended
        print(written, end="", file=sys.stderr)
        raise ModelError("The model 'x' was not found.")

    job = store.create_job("a", configs)
    before = datetime.now(UTC)
    assert main([job.id, "--database-url", store.url, "--runs", str(tmp_path)], work=work) == 1
    lines = capsys.readouterr().err.splitlines()
    timed = [found for line in lines if (found := re.fullmatch(r"([-\d]{10} [:\d]{8}) UTC  (.+)", line))]
    assert [found[2] for found in timed] == [
        f"The worker of {job.id} waits for its turn",
        "Its turn",
        "Loading the models",
        "Listening with the teacher",
        "Failed. The model 'x' was not found.",
    ]
    for found in timed:
        at = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        assert before - timedelta(seconds=1) <= at <= datetime.now(UTC)
    assert not logging.getLogger("core").handlers


@pytest.mark.usefixtures("signals")
def test_a_signal_asks_the_work_to_stop(store: Store, configs: tuple[RunConfig, ...], tmp_path: Path) -> None:
    def work(job_id: str, *, stop: Callable[[], bool], **places: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(stop)
        raise Stopped("Stopped by the user.")

    job = store.create_job("a", configs)
    assert main([job.id, "--database-url", store.url, "--runs", str(tmp_path)], work=work) == 0
    assert "SIGTERM" in store.job(job.id).message


@pytest.mark.usefixtures("signals")
def test_unless_told_otherwise_the_work_is_the_engines(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    config = configs[0].model_copy(update={"teachers": (Teacher(model=str(tmp_path / "nowhere")),)})
    job = store.create_job("a job", [config])
    assert main([job.id, "--database-url", store.url, "--runs", str(tmp_path)]) == 1
    assert store.job(job.id).state == "failed"
    assert str(tmp_path / "nowhere") in store.job(job.id).message


def test_a_worker_that_waits_imports_nothing_heavy(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    slot = take_slot(device_slots(), CPU)
    assert slot is not None
    job = store.create_job("a job", configs)
    script = (
        "import sys; from core.worker import main; main(sys.argv[1:])\n"
        "print(sorted({'torch', 'transformers'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", script, job.id, "--database-url", store.url, "--runs", str(tmp_path)]
    with slot, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: store.job(job.id).pid == process.pid)
        time.sleep(2 * worker.TURN_SECONDS)
        assert store.job(job.id).state == "queued"
        store.request_stop(job.id)
        assert process.communicate(timeout=20)[0] == "[]\n"


def test_jobs_of_one_machine_work_one_after_the_other_in_their_order(
    studio: Studio, configs: tuple[RunConfig, ...]
) -> None:
    jobs = [studio.start(configs, name=f"short {number}") for number in range(3)]
    wait_until(lambda: not any(studio.store.job(job.id).active for job in jobs))
    ended = [studio.store.job(job.id) for job in jobs]
    assert [job.state for job in ended] == ["finished"] * 3
    for earlier, later in pairwise(ended):
        assert earlier.ended_at is not None
        assert later.started_at is not None
        assert earlier.ended_at <= later.started_at


def test_a_dead_job_in_front_does_not_keep_the_others_waiting(studio: Studio, configs: tuple[RunConfig, ...]) -> None:
    slot = take_slot(device_slots(), CPU)
    assert slot is not None
    with slot:
        first, second = (studio.start(configs, name="short") for _ in range(2))
        pid = studio.store.job(first.id).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not studio.store.job(second.id).active)
    assert studio.store.job(first.id).state == "interrupted"
    assert studio.store.job(second.id).state == "finished"


def kill_at_random(studio: Studio, configs: tuple[RunConfig, ...], moment: random.Random) -> None:
    """Kill a job that counts; nothing that it was told is stored may be missing, and it may not look alive."""
    job = studio.start(configs, name="count")
    run = studio.store.runs(job_id=job.id)[0]
    acknowledged = studio.runs_folder / f"{job.id}.acknowledged"
    wait_until(acknowledged.exists)
    time.sleep(moment.uniform(0, 0.3))
    pid = studio.store.job(job.id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    while studio.store.job(job.id).active:
        studio.refresh()
    assert time.monotonic() - killed < 15
    steps = {int(line) for line in acknowledged.read_text().split("\n")[:-1]}
    assert steps
    assert steps <= {metric.step for metric in studio.store.metrics(run.id)}
    assert studio.store.job(job.id).state == "interrupted"
    assert {each.state for each in studio.store.runs(job_id=job.id)} == {"interrupted"}


def test_a_killed_worker_loses_nothing_and_is_soon_interrupted(studio: Studio, configs: tuple[RunConfig, ...]) -> None:
    moment = random.Random(0)
    for _ in range(3):
        kill_at_random(studio, configs, moment)


@pytest.mark.long
def test_forty_killed_workers_lose_nothing(studio: Studio, configs: tuple[RunConfig, ...]) -> None:
    moment = random.Random(1)
    for _ in range(40):
        kill_at_random(studio, configs, moment)


def counting(studio: Studio, configs: tuple[RunConfig, ...], name: str = "count") -> JobRecord:
    """Start a job that stores one metric after the other, and return once it has stored some."""
    job = studio.start(configs, name=name)
    wait_until((studio.runs_folder / f"{job.id}.acknowledged").exists)
    return studio.store.job(job.id)


def test_a_suspended_worker_that_is_asked_to_stop_is_killed_after_its_grace(
    studio: Studio, configs: tuple[RunConfig, ...]
) -> None:
    job = counting(studio, configs)
    assert job.pid is not None
    os.kill(job.pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(job.pid).status() == psutil.STATUS_STOPPED)
    acknowledged = (studio.runs_folder / f"{job.id}.acknowledged").read_text().split()
    assert studio.stop(job.id, grace_seconds=1).state == "stopping"
    wait_until(lambda: studio.refresh() or not studio.store.job(job.id).active, seconds=10)
    ended = studio.store.job(job.id)
    assert ended.state == "stopped"
    assert "so it was killed. What was stored until then is kept." in ended.message
    run = studio.store.runs(job_id=job.id)[0]
    assert {int(step) for step in acknowledged} <= {metric.step for metric in studio.store.metrics(run.id)}


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_job_works_on_and_finishes_while_another_program_holds_the_database(
    studio: Studio, configs: tuple[RunConfig, ...], how: str
) -> None:
    job = counting(studio, configs, "count to 200")
    with closing(sqlite3.connect(studio.store.path, isolation_level=None)) as other:
        other.execute(how)
        acknowledged = studio.runs_folder / f"{job.id}.acknowledged"
        wait_until(lambda: len(acknowledged.read_text().split()) == 200)
        began = time.monotonic()
        studio.refresh()
        assert studio.store.runs(job_id=job.id)
        assert time.monotonic() - began < 5
    wait_until(lambda: studio.refresh() or not studio.store.job(job.id).active)
    assert studio.store.job(job.id).state == "finished"
    run = studio.store.runs(job_id=job.id)[0]
    assert [metric.step for metric in studio.store.metrics(run.id)] == list(range(200))
    assert list((studio.runs_folder / "journal").iterdir()) == []


def test_a_job_that_finished_while_the_database_was_held_is_not_called_interrupted(
    studio: Studio, configs: tuple[RunConfig, ...]
) -> None:
    job = counting(studio, configs, "count to 200")
    with closing(sqlite3.connect(studio.store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: "Finished." in studio.log_tail(job.id))
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)
        wait_until(lambda: (process := process_of(job)) is None or find_process(process) is None)
        studio.refresh()
        assert studio.store.job(job.id).active
    wait_until(lambda: studio.refresh() or not studio.store.job(job.id).active)
    assert studio.store.job(job.id).state == "finished"
    assert {run.state for run in studio.store.runs(job_id=job.id)} == {"finished"}


def child_of(studio: Studio) -> int:
    """Return the process that a job's worker has started; its file is there before the number is in it."""
    written = studio.runs_folder / "child.pid"
    wait_until(lambda: written.exists() and bool(written.read_text()))
    return int(written.read_text())


def test_a_database_that_is_deleted_under_a_job_ends_it_and_is_told_in_its_log(
    studio: Studio, configs: tuple[RunConfig, ...]
) -> None:
    job = counting(studio, configs)
    for path in studio.store.path.parent.glob(f"{studio.store.path.name}*"):
        path.unlink()
    identity = process_of(job)
    wait_until(lambda: identity is None or find_process(identity) is None)
    said = studio.log_tail(job.id)
    assert "was deleted while it was in use" in said
    assert "Finished" not in said
    assert list((studio.runs_folder / "journal").glob(f"{job.id}.*"))
    for look in (studio.refresh, lambda: studio.store.job(job.id), lambda: studio.start(configs, name="short")):
        with pytest.raises(StoreError, match="was deleted while it was in use"):
            look()
    assert not studio.store.path.exists()
    studio.store = Store.open(studio.store.url)  # for what comes after a test


def test_a_folder_of_runs_that_is_deleted_under_a_job_ends_it_and_the_job_says_so(
    studio: Studio, configs: tuple[RunConfig, ...]
) -> None:
    job = studio.start(configs, name="breed")
    child = child_of(studio)
    shutil.rmtree(studio.runs_folder)
    wait_until(lambda: not studio.store.job(job.id).active)
    ended = studio.store.job(job.id)
    assert ended.state == "failed"
    assert "was deleted or moved while the job worked" in ended.message
    with pytest.raises(StoreError, match="was deleted or moved while the studio was open"):
        studio.refresh()
    assert not studio.runs_folder.exists()
    os.kill(child, signal.SIGKILL)


def test_a_job_of_which_some_runs_failed_has_finished_and_says_so(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    def work(job_id: str, *, store: Store, **places: Any) -> None:
        first, second = store.runs(job_id=job_id)
        store.run_state(first.id, "finished")
        store.run_state(second.id, "failed", "It went wrong.")
        raise SomeRunsFailed("1 of 2 runs failed.\nsecond: It went wrong.")

    job = work_through(store, configs, tmp_path, work)
    assert (job.state, job.message) == ("finished", "1 of 2 runs failed.\nsecond: It went wrong.")
    assert [run.state for run in store.runs(job_id=job.id)] == ["finished", "failed"]


NVIDIA_SMI = """#!/bin/sh
echo "GPU 0: NVIDIA H200 (UUID: GPU-aaaa)"
echo "GPU 1: NVIDIA H200 (UUID: GPU-bbbb)"
"""


def test_jobs_work_at_once_on_gpus_of_their_own_whatever_their_studios(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two studios, three jobs, two GPUs, as far as a machine without any can tell."""
    tools = tmp_path / "tools"
    (tools / "torch-9.0.0+cu130.dist-info").mkdir(parents=True)
    (tools / "torch-9.0.0+cu130.dist-info" / "METADATA").write_text("Name: torch\nVersion: 9.0.0+cu130\n")
    (tools / "nvidia-smi").write_text(NVIDIA_SMI)
    (tools / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{SMALL_WORKER}:{tools}")
    launcher = LocalLauncher(worker="small_worker")
    studios = [Studio(f"sqlite:///{tmp_path}/{n}.db", tmp_path / f"runs {n}", launcher=launcher) for n in range(2)]
    started = []
    try:
        for studio in studios:
            started.append((studio, counting(studio, configs)))
        assert slot_taken(device_slots(), "GPU-aaaa")
        assert slot_taken(device_slots(), "GPU-bbbb")
        assert not slot_taken(device_slots(), CPU)
        third = studios[0].start(configs, name="count")
        cpu = {"training": configs[0].training.model_copy(update={"device": "cpu"})}
        on_cpu = tuple(config.model_copy(update=cpu) for config in configs)
        time.sleep(3 * worker.TURN_SECONDS)
        assert studios[0].store.job(third.id).state == "queued"
        counting(studios[1], on_cpu)
        seen = []
        for studio, job in started:
            assert job.pid is not None
            seen.append((studio.runs_folder / f"{job.id}.gpus").read_text())
        assert sorted(seen) == ["GPU-aaaa", "GPU-bbbb"]
        studios[1].stop(started[1][1].id, now=True)
        wait_until(lambda: studios[0].store.job(third.id).state == "running")
    finally:
        for studio in studios:
            for job in studio.store.jobs():
                studio.stop(job.id, now=True)
            studio.close()


def test_jobs_of_two_studios_take_turns_on_one_cpu(
    studio: Studio, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    first = counting(studio, configs)
    other = Studio(f"sqlite:///{tmp_path}/other.db", tmp_path / "others", launcher=LocalLauncher(worker="small_worker"))
    try:
        second = other.start(configs, name="short")
        time.sleep(3 * worker.TURN_SECONDS)
        assert other.store.job(second.id).state == "queued"
        studio.stop(first.id, now=True)
        wait_until(lambda: other.store.job(second.id).state == "finished")
    finally:
        for job in other.store.jobs():
            other.stop(job.id, now=True)
        other.close()
