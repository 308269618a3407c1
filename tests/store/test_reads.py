from collections.abc import Callable

import pytest

from core.config import RunConfig
from core.errors import NotFoundError
from core.store import JobRecord, Store


def test_the_newest_jobs_and_runs_come_first(store: Store, configs: tuple[RunConfig, ...]) -> None:
    old, new = store.create_job("old", configs), store.create_job("new", configs)
    assert [job.id for job in store.jobs()] == [new.id, old.id]
    assert [job.id for job in store.jobs(limit=1)] == [new.id]
    names = [config.name for config in configs]
    assert [(run.job_id, run.name) for run in store.runs()] == [(job.id, name) for job in (new, old) for name in names]
    assert len(store.runs(limit=3)) == 3


def test_jobs_can_be_asked_for_by_state(store: Store, job: JobRecord, configs: tuple[RunConfig, ...]) -> None:
    store.job_state(job.id, "failed")
    waiting = store.create_job("waiting", configs)
    assert [found.id for found in store.jobs(states=("failed",))] == [job.id]
    assert [found.id for found in store.jobs(states=("queued", "running"))] == [waiting.id]
    assert store.jobs(states=("finished",)) == []


def test_an_ended_job_and_run_are_not_active(store: Store, job: JobRecord) -> None:
    store.job_state(job.id, "stopped")
    assert not store.job(job.id).active
    assert not store.runs(job_id=job.id)[0].active


def test_a_new_database_is_empty(store: Store) -> None:
    assert store.jobs() == store.runs() == store.evaluations() == []
    assert store.first_queued_job() is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, name: store.job(name),
        lambda store, name: store.run(name),
        lambda store, name: store.runs_of([name]),
        lambda store, name: store.set_notes(name, ""),
    ],
)
def test_an_unknown_id_is_repeated_no_longer_than_an_id_is(store: Store, ask: Callable[[Store, str], object]) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        ask(store, "nobody")
    with pytest.raises(NotFoundError, match=f"'{'x' * 40}…'") as caught:
        ask(store, "x" * 9000)
    assert len(str(caught.value)) < 120
