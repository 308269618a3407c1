import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine, update

import core.launchers.liveness as liveness
from core.boot import uptime
from core.config import RunConfig
from core.launchers.liveness import interrupt_dead_jobs, kill_overdue_jobs, process_of, stalls
from core.launchers.process import ProcessIdentity, find, identify
from core.store import JobRecord, State, Store
from core.store.tables import jobs


def started(store: Store, configs: tuple[RunConfig, ...], process: ProcessIdentity, state: State) -> JobRecord:
    job = store.create_job("a job", configs)
    store.set_log_path(job.id, "/runs/jobs/log.txt")
    store.job_started(job.id, process.pid, process.boot_id, process.started)
    store.job_state(job.id, state)
    return store.job(job.id)


def dead() -> ProcessIdentity:
    me = identify()
    return ProcessIdentity(me.pid, me.boot_id, me.started - 1000)


def change(store: Store, **fields: Any) -> None:
    engine = create_engine(store.url)
    with engine.begin() as connection:
        connection.execute(update(jobs).values(**fields))
    engine.dispose()


@contextmanager
def sleeper() -> Iterator[ProcessIdentity]:
    """Start a process that has a child; neither ends by itself, nor when asked to."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}]); {deaf}"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        try:
            while not psutil.Process(process.pid).children():
                time.sleep(0.01)
            yield identify(process.pid)
        finally:
            process.kill()


@pytest.mark.parametrize("suspended", [False, True])
def test_a_job_that_does_not_stop_in_its_time_is_killed_with_all_that_it_started(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, suspended: bool
) -> None:
    with sleeper() as process:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        job = started(store, configs, process, "running")
        if suspended:
            for member in family:
                member.suspend()
        store.request_stop(job.id, stop_by=uptime() + 60)
        assert kill_overdue_jobs(store, tmp_path) == []
        assert find(process) is not None
        store.request_stop(job.id, stop_by=uptime() - 1)
        assert kill_overdue_jobs(store, tmp_path) == [job.id]
        assert find(process) is None
        assert psutil.wait_procs(family, timeout=5)[1] == []
    after = store.job(job.id)
    assert after.state == "stopped"
    assert "did not reach its next step in the time that it was given, so it was killed" in after.message
    assert {run.state for run in store.runs(job_id=job.id)} == {"stopped"}


def test_a_job_that_was_to_stop_and_whose_process_is_gone_has_stopped(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    job = started(store, configs, dead(), "running")
    store.request_stop(job.id)
    assert interrupt_dead_jobs(store, tmp_path) == [job.id]
    assert store.job(job.id).state == "stopped"


@pytest.mark.parametrize(
    ("step", "seconds", "quiet", "said"),
    [
        (0, 0.0, 200, ""),
        (0, 0.0, 250, "No progress for 4 min"),
        (10, 5.0, 100, ""),
        (10, 5.0, 130, "No step for 2 min, where one took 0.5 s"),
        (10, 300.0, 500, ""),
        (10, 300.0, 700, "No step for 12 min, where one took 30 s"),
        (10, 5.0, 3 * 3600, "No step for 3.0 h"),
    ],
)
def test_a_run_that_gets_on_with_nothing_is_named_when_that_is_long_for_its_steps(
    store: Store, configs: tuple[RunConfig, ...], step: int, seconds: float, quiet: float, said: str
) -> None:
    job = started(store, configs, identify(), "running")
    run, other, *_ = store.runs(job_id=job.id)
    store.run_state(run.id, "running")
    store.run_progress(run.id, step, seconds)
    store.advanced(job.id, [run.id], uptime() - quiet)
    store.advanced(job.id, [other.id], uptime())
    found = stalls(store)
    assert set(found) == ({run.id, job.id} if said else set())
    assert found.get(run.id, "").startswith(said)
    assert not said or f"manifold stop {job.id}" in found[run.id]


def test_a_job_that_stands_still_before_its_runs_begin_is_named(store: Store, configs: tuple[RunConfig, ...]) -> None:
    job = started(store, configs, identify(), "running")
    assert stalls(store) == {}
    store.advanced(job.id, (), uptime() - 300)
    assert stalls(store)[job.id].startswith("No progress for 5 min")


def test_why_a_job_stands_still_is_said_as_far_as_the_kernel_knows(
    store: Store, configs: tuple[RunConfig, ...]
) -> None:
    with sleeper() as process:
        job = started(store, configs, process, "running")
        store.advanced(job.id, (), uptime() - 300)
        (child,) = psutil.Process(process.pid).children()
        child.suspend()
        deadline = time.monotonic() + 10
        while child.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline
        assert f"process {child.pid} is suspended (SIGSTOP" in stalls(store)[job.id]
        child.kill()


@pytest.mark.parametrize("state", ["queued", "starting", "running", "stopping"])
def test_a_job_whose_process_is_gone_is_interrupted_with_a_sentence(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, state: State
) -> None:
    job = started(store, configs, dead(), state)
    assert interrupt_dead_jobs(store, tmp_path) == [job.id]
    after = store.job(job.id)
    assert after.state == "interrupted"
    assert job.heartbeat_at is not None
    for told in (f"{job.heartbeat_at:%H:%M:%S}", "/runs/jobs/log.txt", "What was stored until then is kept"):
        assert told in after.message
    assert {(run.state, run.message) for run in store.runs(job_id=job.id)} == {("interrupted", after.message)}


@pytest.mark.parametrize("state", ["queued", "starting", "running", "stopping"])
def test_a_job_whose_process_lives_is_left_alone(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path, state: State
) -> None:
    job = started(store, configs, identify(), state)
    assert interrupt_dead_jobs(store, tmp_path) == []
    assert store.job(job.id) == job


def test_an_ended_job_stays_as_it_ended(store: Store, configs: tuple[RunConfig, ...], tmp_path: Path) -> None:
    job = started(store, configs, dead(), "finished")
    assert interrupt_dead_jobs(store, tmp_path) == []
    assert store.job(job.id).state == "finished"


def test_a_job_that_never_got_a_process_is_given_up_after_a_while(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    job = store.create_job("a job", configs)
    assert process_of(job) is None
    assert interrupt_dead_jobs(store, tmp_path) == []
    # A clock that is set forward is no reason: then it was created long ago, but not long since the boot.
    change(store, created_at=datetime.now(UTC) - timedelta(days=400))
    assert interrupt_dead_jobs(store, tmp_path) == []
    change(store, queued_at=uptime() - liveness.NEVER_STARTED_SECONDS - 1)
    assert interrupt_dead_jobs(store, tmp_path) == [job.id]
    assert "never started" in store.job(job.id).message


def test_several_that_look_at_once_mark_a_dead_job_once(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    job = started(store, configs, dead(), "running")
    with ThreadPoolExecutor(4) as threads:
        marked = list(threads.map(interrupt_dead_jobs, [store] * 4, [tmp_path] * 4))
    assert [job_id for ids in marked for job_id in ids] == [job.id]
