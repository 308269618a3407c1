"""What people say of runs, and the bin."""

import pytest

from core.config import RunConfig
from core.errors import JobError, NotFoundError
from core.store import JobRecord, Store


def ended(store: Store, job: JobRecord) -> list[str]:
    store.job_state(job.id, "finished")
    return [run.id for run in store.runs(job_id=job.id)]


def test_tags_are_added_and_taken_away_and_told_in_their_order(store: Store, job: JobRecord) -> None:
    first, second, *_ = (run.id for run in store.runs(job_id=job.id))
    store.change_tags([first, second], add=["  to   report ", "größer, later", ""])
    store.change_tags([first], add=["later", "new"], remove=["to report"])
    assert store.run(first).tags == ("größer", "later", "new")
    assert store.run(second).tags == ("to report", "größer", "later")


def test_notes_are_kept_without_what_surrounds_them(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    store.set_notes(run.id, "  diverged\nat step 40 \n")
    assert store.run(run.id).notes == "diverged\nat step 40"
    with pytest.raises(NotFoundError, match="r0"):
        store.set_notes("r0", "lost")


def test_a_run_in_the_bin_is_in_no_list_but_still_there_and_comes_back(store: Store, job: JobRecord) -> None:
    first, *others = ended(store, job)
    store.put_in_bin([first])
    assert [run.id for run in store.runs()] == others
    assert [run.id for run in store.summaries()] == others
    assert [run.id for run in store.summaries(in_bin=True)] == [first]
    assert store.run(first).deleted_at is not None
    assert [run.id for run in store.runs(job_id=job.id)] == [first, *others]
    store.restore([first])
    assert [run.id for run in store.runs()] == [first, *others]
    assert store.run(first).deleted_at is None


def test_a_run_that_is_at_work_is_not_put_in_the_bin_and_none_beside_it(
    store: Store, job: JobRecord, configs: tuple[RunConfig, ...]
) -> None:
    done = ended(store, job)
    (waiting, *_) = store.runs(job_id=store.create_job("waiting", configs).id)
    with pytest.raises(JobError, match="Not over yet: 'LoRA"):
        store.put_in_bin([done[0], waiting.id])
    assert store.summaries(in_bin=True) == []


def test_a_job_goes_with_the_last_of_its_runs_unless_it_is_at_work(store: Store, job: JobRecord) -> None:
    runs = [run.id for run in store.runs(job_id=job.id)]
    for run in runs:
        store.run_state(run, "finished")
    store.put_in_bin(runs)
    assert [found.id for found in store.jobs()] == [job.id]
    store.job_state(job.id, "finished")
    assert store.jobs() == []
    store.restore(runs[:1])
    assert [found.id for found in store.jobs()] == [job.id]


def test_what_was_expected_is_kept_with_the_job(store: Store, configs: tuple[RunConfig, ...]) -> None:
    job = store.create_job("quickstart", configs, expectation="  The arc wins by a point. ")
    assert store.job(job.id).expectation == "The arc wins by a point."
