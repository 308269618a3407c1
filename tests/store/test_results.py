import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.store import AlignmentRecord, EvaluationRecord, JobRecord, ParameterCounts, Store, UtteranceResult


def test_curves_come_back_by_name_and_step(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    for step in (2, 1, 3):
        store.add_metrics(run.id, step, {"total": step / 2, "clip": float(step)})
    store.add_metrics(run.id, 4, {})
    assert [(m.name, m.step, m.value) for m in store.metrics(run.id, ["total"])] == [
        ("total", 1, 0.5),
        ("total", 2, 1.0),
        ("total", 3, 1.5),
    ]
    assert [(m.name, m.step) for m in store.metrics(run.id, after_step=2)] == [("clip", 3), ("total", 3)]
    assert store.metrics(store.runs(job_id=job.id)[1].id) == []


def test_a_step_that_is_stored_again_replaces_the_first(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    store.add_metrics(run.id, 1, {"total": 1.0})
    store.add_metrics(run.id, 1, {"total": 2.0})
    assert [metric.value for metric in store.metrics(run.id)] == [2.0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(value=st.floats())
def test_every_number_comes_back_as_it_was(store: Store, job: JobRecord, value: float) -> None:
    run = store.runs(job_id=job.id)[0]
    store.add_metrics(run.id, 1, {"total": value})
    back = store.metrics(run.id)[0].value
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_parameter_counts_add_up(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    assert store.parameters(run.id) is None
    store.set_parameters(run.id, ParameterCounts(teacher=1, student=1, adapters=1, projections=1))
    counts = ParameterCounts(teacher=1000, student=800, adapters=5, projections=2)
    store.set_parameters(run.id, counts)
    assert store.parameters(run.id) == counts
    assert counts.trainable == 7
    assert counts.share_of_teacher == pytest.approx(0.007)
    assert counts.shares(700) == (pytest.approx(0.7), None)


def test_all_that_was_counted_comes_back(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    counts = ParameterCounts(1000, 800, 5, 2, 600, 300, 1.5e12, 0.5e12)
    store.set_parameters(run.id, counts)
    assert store.parameters(run.id) == counts
    assert counts.shares(6) == (pytest.approx(0.006), pytest.approx(0.01))


def utterance(position: int) -> UtteranceResult:
    return UtteranceResult(
        utterance_id=f"u{position}",
        position=position,
        reference="one two three",
        hypothesis="one too three four",
        substitutions=1,
        deletions=0,
        insertions=1,
        words=3,
        speaker="a" if position else None,
        duration=1.5,
        audio_path=f"data/{position}.flac",
    )


def test_an_evaluation_comes_back_with_its_utterances_in_order(
    store: Store, evaluate: Callable[..., EvaluationRecord]
) -> None:
    results = [utterance(position) for position in (2, 0, 1)]
    stored = evaluate(results=results)
    assert store.evaluations() == [stored]
    assert store.utterance_results(stored.id) == sorted(results, key=lambda result: result.position)
    assert results[0].errors == 2


def test_evaluations_can_be_asked_for_by_job_run_and_set(
    store: Store, job: JobRecord, evaluate: Callable[..., EvaluationRecord]
) -> None:
    run = store.runs(job_id=job.id)[0]
    teacher = evaluate()
    student = evaluate(run_id=run.id, subject="student", step=10)
    development = evaluate(run_id=run.id, subject="student", test_set="development", step=10)
    assert store.evaluations(job_id=job.id) == [teacher, student, development]
    assert store.evaluations(run_id=run.id) == [student, development]
    assert store.evaluations(run_id=run.id, test_set="test") == [student]
    assert store.evaluations(job_id="j0") == []


def test_an_evaluation_that_is_made_again_replaces_the_first(
    store: Store, evaluate: Callable[..., EvaluationRecord]
) -> None:
    first = evaluate(results=[utterance(0), utterance(1)])
    second = evaluate(wer=0.2, results=[utterance(0)])
    assert store.evaluations() == [second]
    assert len(store.utterance_results(second.id)) == 1
    assert first.id == second.id or store.utterance_results(first.id) == []


@pytest.mark.parametrize("other", [{"step": 5}, {"audio_context": 15.0}, {"test_set": "real"}, {"subject": "student"}])
def test_an_evaluation_of_something_else_stands_beside_the_first(
    store: Store, evaluate: Callable[..., EvaluationRecord], other: dict[str, Any]
) -> None:
    both = [evaluate(), evaluate(**other)]
    assert store.evaluations() == both


def test_alignments_come_back_by_step_and_layer(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    first = AlignmentRecord(run.id, 0, "before", "encoder", 2, 3, 500, 0.6, 0.9, 0.2, 10)
    later = replace(first, step=10, stage="after", linear_cka=0.8)
    store.add_alignments([later, first])
    store.add_alignments([])
    assert store.alignments(run.id) == [first, later]
    store.add_alignments([replace(later, mutual_knn=math.nan)])
    assert math.isnan(store.alignments(run.id)[1].mutual_knn)
