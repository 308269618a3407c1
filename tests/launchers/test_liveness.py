from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, update

import core.launchers.liveness as liveness
from core.config import RunConfig
from core.launchers.liveness import interrupt_dead_jobs, process_of
from core.launchers.process import ProcessIdentity, identify
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
    engine = create_engine(store.url)
    long_ago = datetime.now(UTC) - timedelta(seconds=liveness.NEVER_STARTED_SECONDS + 1)
    with engine.begin() as connection:
        connection.execute(update(jobs).values(created_at=long_ago))
    engine.dispose()
    assert interrupt_dead_jobs(store, tmp_path) == [job.id]
    assert "never started" in store.job(job.id).message


def test_several_that_look_at_once_mark_a_dead_job_once(
    store: Store, configs: tuple[RunConfig, ...], tmp_path: Path
) -> None:
    job = started(store, configs, dead(), "running")
    with ThreadPoolExecutor(4) as threads:
        marked = list(threads.map(interrupt_dead_jobs, [store] * 4, [tmp_path] * 4))
    assert [job_id for ids in marked for job_id in ids] == [job.id]
