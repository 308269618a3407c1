"""Runs side by side."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from core.comparison import compare
from core.config import RunConfig
from core.errors import NotFoundError
from core.store import AlignmentRecord, Store
from tests.app import sample


def test_runs_of_several_jobs_stand_in_the_order_that_was_asked_for(store: Store, tmp_path: Path) -> None:
    first, second = sample.add_finished_job(store, tmp_path), sample.add_tuning_job(store, tmp_path)
    asked = [second[1].id, first[0].id]
    found = compare(store, asked)
    assert [row.run.id for row in found.rows] == asked
    assert [row.job for row in found.rows] == ["quickstart-tuning", "quickstart"]
    assert [row.run for row in found.rows] == [store.run(run_id) for run_id in asked]


def test_a_checkpoint_is_the_best_and_a_set_that_one_run_read_stays(store: Store, tmp_path: Path) -> None:
    first, second = sample.add_finished_job(store, tmp_path), sample.add_tuning_job(store, tmp_path)
    found = compare(store, [second[1].id, first[0].id])
    assert found.test_sets == ("test", "real", "development")
    tuned, read = found.rows
    best = min(store.evaluations(run_id=second[1].id), key=lambda record: record.wer)
    assert tuned.evaluations == {"development": best}
    assert read.evaluations["test"].wer == store.evaluations(run_id=first[0].id, test_set="test")[0].wer


def test_alignment_is_the_mean_of_the_last_probe(store: Store, make_config: Callable[..., RunConfig]) -> None:
    (run,) = store.runs(job_id=store.create_job("a", [make_config()]).id)
    assert compare(store, [run.id]).rows[0].angle is None
    for step, angles in ((0, (1.5, 1.4)), (80, (0.5, 0.3))):
        store.add_alignments(
            [
                AlignmentRecord(run.id, step, "during", "encoder", layer, layer, 100, 0.5 + angle, angle, 0.5, 10)
                for layer, angle in enumerate(angles)
            ]
        )
    (row,) = compare(store, [run.id]).rows
    assert row.angle == pytest.approx(0.4)
    assert row.linear_cka == pytest.approx(0.9)


def test_runs_that_do_not_exist_are_all_named(store: Store, make_config: Callable[..., RunConfig]) -> None:
    (run,) = store.runs(job_id=store.create_job("a", [make_config()]).id)
    with pytest.raises(NotFoundError, match="'r1', 'r2'"):
        compare(store, ["r1", run.id, "r2"])


def test_sets_that_differ_are_told_by_their_sizes_and_never_by_hashes(store: Store) -> None:
    long, short = [f"u{number}" for number in range(100)], [f"u{number}" for number in range(4)]
    runs = [sample.add_read_run(store, name, 0.3, heard=heard) for name, heard in (("a", long), ("b", short))]
    (problem,) = compare(store, [run.id for run in runs]).problems
    assert (problem.where, problem.message) == ("test set, utterances", "differs: 100 utterances (a); 4 utterances (b)")


def test_sets_of_one_size_are_told_by_their_words_or_called_others(store: Store) -> None:
    heard = [["x0", "x1", "x2"], ["y0", "y1", "y2"]]
    runs = [sample.add_read_run(store, name, 0.3, heard=each) for name, each in zip("ab", heard, strict=True)]
    (problem,) = compare(store, [run.id for run in runs]).problems
    words = sum(len(said.split()) for said in sample.SENTENCES[:3])
    alike = f"3 utterances, {words} words"
    assert problem.message == f"differs: {alike} (a); {alike}, but other clips or texts (b)"


def test_contexts_that_differ_have_their_unit(store: Store) -> None:
    first, second = (sample.add_read_run(store, name, 0.3) for name in "ab")
    (record,) = store.evaluations(run_id=second.id)
    changed = {**asdict(replace(record, audio_context=15.0)), "step": record.step}
    store.add_evaluation(**{name: value for name, value in changed.items() if name != "id"})
    (problem,) = compare(store, [first.id, second.id]).problems
    assert (problem.where, problem.message) == ("test set, audio context", "differs: 30 s (a); 15 s (b)")
