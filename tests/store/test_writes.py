from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from core.config import RunConfig
from core.errors import NotFoundError
from core.store import ACTIVE, JobRecord, State, Store

ENDED: tuple[State, ...] = ("finished", "failed", "stopped", "interrupted")


def test_a_new_job_has_its_runs_in_order_and_nothing_started(store: Store, configs: tuple[RunConfig, ...]) -> None:
    job = store.create_job("quickstart", configs)
    assert (job.state, job.pid, job.launcher, job.active) == ("queued", None, "local", True)
    assert datetime.now(UTC) - job.created_at < timedelta(seconds=30)
    runs = store.runs(job_id=job.id)
    assert [run.name for run in runs] == [config.name for config in configs]
    assert [run.position for run in runs] == list(range(len(configs)))
    assert all(run.state == "queued" and run.active and run.step == 0 for run in runs)
    assert [run.steps for run in runs] == [config.training.steps for config in configs]


def test_a_stored_configuration_is_the_run_again(store: Store, job: JobRecord, configs: tuple[RunConfig, ...]) -> None:
    assert tuple(RunConfig.model_validate(run.config) for run in store.runs(job_id=job.id)) == configs


def test_equal_configurations_have_equal_hashes_and_others_do_not(store: Store, configs: tuple[RunConfig, ...]) -> None:
    first, second = (store.runs(job_id=store.create_job("a", configs).id) for _ in range(2))
    hashes = [run.config_hash for run in first]
    assert hashes == [run.config_hash for run in second]
    assert len(set(hashes)) == len(hashes)


def test_times_are_told_when_a_job_begins_and_ends(store: Store, job: JobRecord) -> None:
    assert store.job_state(job.id, "starting")
    began = store.job(job.id).started_at
    assert began is not None
    assert store.job_state(job.id, "running")
    assert store.job(job.id).started_at == began
    assert store.job(job.id).ended_at is None
    assert store.job_state(job.id, "finished")
    ended = store.job(job.id).ended_at
    assert ended is not None
    assert ended >= began


@pytest.mark.parametrize("ending", ENDED)
def test_an_ending_is_final(store: Store, job: JobRecord, ending: State) -> None:
    assert store.job_state(job.id, ending, "so it was")
    for state in (*ACTIVE, *ENDED):
        assert not store.job_state(job.id, state, "no")
        assert not store.job_state(job.id, state, "no", only_from=(ending,))
    assert (store.job(job.id).state, store.job(job.id).message) == (ending, "so it was")
    assert not store.heartbeat(job.id)


def test_a_move_from_another_state_than_the_expected_does_nothing(store: Store, job: JobRecord) -> None:
    assert not store.job_state(job.id, "running", only_from=("starting",))
    assert store.job(job.id).state == "queued"


@pytest.mark.parametrize("ending", ["failed", "stopped", "interrupted"])
def test_runs_that_are_still_active_end_with_their_job(store: Store, job: JobRecord, ending: State) -> None:
    done, working, *waiting = store.runs(job_id=job.id)
    store.run_state(done.id, "finished")
    store.run_state(working.id, "running")
    store.job_state(job.id, ending, "a sentence")
    assert store.run(done.id).state == "finished"
    for run in (working, *waiting):
        after = store.run(run.id)
        assert (after.state, after.message) == (ending, "a sentence")
        assert after.ended_at is not None


def test_a_run_that_its_finished_job_left_undone_has_failed(store: Store, job: JobRecord) -> None:
    store.job_state(job.id, "finished")
    assert {run.state for run in store.runs(job_id=job.id)} == {"failed"}


def test_a_job_that_ends_leaves_other_jobs_alone(store: Store, job: JobRecord, configs: tuple[RunConfig, ...]) -> None:
    other = store.create_job("other", configs)
    store.job_state(job.id, "failed", "a sentence")
    assert {run.state for run in store.runs(job_id=other.id)} == {"queued"}


def test_a_waiting_job_stops_at_once(store: Store, job: JobRecord) -> None:
    store.request_stop(job.id)
    assert store.job(job.id).state == "stopped"
    assert store.stop_requested(job.id)


def test_a_working_job_is_stopping_until_its_worker_ends_it(store: Store, job: JobRecord) -> None:
    store.job_state(job.id, "starting")
    store.job_state(job.id, "running")
    assert not store.stop_requested(job.id)
    store.request_stop(job.id)
    assert store.job(job.id).state == "stopping"
    assert store.job_state(job.id, "stopped")


def test_asking_an_ended_job_to_stop_changes_nothing(store: Store, job: JobRecord) -> None:
    store.job_state(job.id, "finished")
    before = store.job(job.id)
    store.request_stop(job.id)
    assert store.job(job.id) == before


def test_asking_a_job_that_is_not_there_to_stop_says_so(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.request_stop("j0")


def test_a_heartbeat_and_progress_are_seen(store: Store, job: JobRecord) -> None:
    store.set_log_path(job.id, "/somewhere/log.txt")
    store.job_started(job.id, 17, "boot", 12.5)
    first = store.job(job.id).heartbeat_at
    assert first is not None
    assert store.heartbeat(job.id)
    store.progress(job.id, "Training", 3, 10, 12.5)
    after = store.job(job.id)
    assert after.heartbeat_at is not None
    assert after.heartbeat_at >= first
    assert (after.pid, after.boot_id, after.process_started) == (17, "boot", 12.5)
    assert (after.stage, after.done, after.total, after.eta_seconds) == ("Training", 3, 10, 12.5)
    assert (after.log_path, after.state) == ("/somewhere/log.txt", "queued")


@pytest.mark.parametrize("state", ["starting", "running", "stopping", "finished", "failed", "stopped", "interrupted"])
def test_a_job_that_is_no_longer_queued_keeps_its_worker(store: Store, job: JobRecord, state: State) -> None:
    store.job_started(job.id, 17, "boot", 12.5)
    store.job_state(job.id, state)
    before = store.job(job.id)
    store.job_started(job.id, 18, "another boot", 99.0)
    after = store.job(job.id)
    assert (after.pid, after.boot_id, after.process_started) == (17, "boot", 12.5)
    assert after.heartbeat_at == before.heartbeat_at


def test_progress_of_a_run_is_seen(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[1]
    store.run_progress(run.id, 7, 2.5)
    assert (store.run(run.id).step, store.run(run.id).seconds) == (7, 2.5)


def test_the_job_that_waits_longest_is_next(store: Store, configs: tuple[RunConfig, ...]) -> None:
    jobs = [store.create_job(str(number), configs) for number in range(3)]
    for earlier, later in pairwise(jobs):
        assert store.first_queued_job() == earlier.id
        store.job_state(earlier.id, "starting")
        assert store.first_queued_job() == later.id
    store.job_state(jobs[-1].id, "failed")
    assert store.first_queued_job() is None


def test_a_list_of_mistakes_is_stored_with_the_job_and_not_once_more_with_each_run(
    store: Store, job: JobRecord
) -> None:
    message = "The manifests cannot be used:\n" + "\n".join(f"  - row {number} is wrong" for number in range(100))
    store.job_state(job.id, "failed", message)
    assert store.job(job.id).message == message
    assert {run.message for run in store.runs(job_id=job.id)} == {"The manifests cannot be used:"}
