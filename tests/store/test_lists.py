"""Many runs at once."""

from collections.abc import Callable

from sqlalchemy.dialects import sqlite

from core.config import RunConfig
from core.store import EvaluationRecord, JobRecord, ParameterCounts, Store
from core.store.lists import _summaries


def test_a_summary_says_what_its_run_its_job_and_its_counts_say(store: Store, job: JobRecord) -> None:
    first = store.runs(job_id=job.id)[0]
    store.run_progress(first.id, 40, 12.5)
    store.set_parameters(first.id, ParameterCounts(1000, 800, 5, 2))
    store.change_tags([first.id], add=["kept"])
    store.set_notes(first.id, "a note")
    summary = store.summaries()[0]
    run = store.run(first.id)
    shared = ("id", "job_id", "name", "method", "state", "seed", "created_at", "step", "steps", "seconds", "tags")
    assert [getattr(summary, name) for name in shared] == [getattr(run, name) for name in shared]
    assert (summary.job, summary.notes, summary.share_of_teacher) == (job.name, "a note", 0.007)
    assert (summary.wer, summary.test_set) == (None, None)
    assert store.summaries()[1].share_of_teacher is None


def test_the_newest_runs_come_first(store: Store, configs: tuple[RunConfig, ...]) -> None:
    old, new = store.create_job("old", configs), store.create_job("new", configs)
    names = [config.name for config in configs]
    assert [(run.job, run.name) for run in store.summaries()] == [
        (job.name, name) for job in (new, old) for name in names
    ]


def test_a_run_is_judged_by_its_test_set_and_before_by_its_best_checkpoint(
    store: Store, job: JobRecord, evaluate: Callable[..., EvaluationRecord]
) -> None:
    run = store.runs(job_id=job.id)[0]

    def judged() -> tuple[float | None, str | None]:
        summary = next(item for item in store.summaries() if item.id == run.id)
        return summary.wer, summary.test_set

    for step, wer in ((10, 0.4), (20, 0.2), (30, 0.3)):
        evaluate(run_id=run.id, subject="student", test_set="development", step=step, wer=wer)
    assert judged() == (0.2, "development")
    evaluate(run_id=run.id, subject="student", test_set="real", step=20, wer=0.1)
    assert judged() == (0.2, "development")
    evaluate(run_id=run.id, subject="student", test_set="test", step=20, wer=0.25)
    assert judged() == (0.25, "test")
    assert [(item.wer, item.test_set) for item in store.summaries() if item.id != run.id] == [(None, None)] * 3


def test_no_evaluation_is_read_for_the_list_however_many_there_are(store: Store, job: JobRecord) -> None:
    query = _summaries(False).compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with store._read() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    of_evaluations = [step for step in plan if "evaluations" in step]
    assert (
        of_evaluations == ["SEARCH evaluations USING COVERING INDEX evaluations_by_run (run_id=? AND test_set=?)"] * 2
    )
    assert not any(step.startswith("SCAN") for step in plan)


def test_words_are_looked_for_in_everything_that_people_call_a_run(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[3]
    store.change_tags([run.id], add=["Übergröße"])
    store.set_notes(run.id, "the loss spikes")
    summary = next(item for item in store.summaries() if item.id == run.id)
    for words in (["MANIFOLD"], ["quick", run.id], ["übergrö"], ["spikes", "+"], []):
        assert summary.found_by(words), words
    assert not summary.found_by(["manifold", "cosine"])


def test_the_version_of_the_list_changes_with_whatever_it_shows(
    store: Store, job: JobRecord, configs: tuple[RunConfig, ...]
) -> None:
    seen = {store.list_version()}
    runs = [run.id for run in store.runs(job_id=job.id)]

    def changed() -> bool:
        known = len(seen)
        seen.add(store.list_version())
        return len(seen) > known

    assert not changed()
    store.run_state(runs[0], "running")
    assert changed()
    store.job_state(job.id, "finished")
    assert changed()
    store.put_in_bin(runs[:1])
    assert changed()
    store.create_job("another", configs)
    assert changed()
    store.restore(runs[:1])
    assert changed()
