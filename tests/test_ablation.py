import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest

from core.ablation import AblationRow, ablation_table
from core.config import RunConfig
from core.errors import ConfigError, NotFoundError
from core.significance import paired_difference
from core.store import EvaluationRecord, JobRecord, ParameterCounts, Store, UtteranceResult

WORDS = 5

Evaluate = Callable[..., EvaluationRecord]


@pytest.fixture
def job(store: Store, make_config: Callable[..., RunConfig]) -> JobRecord:
    return store.create_job("ablation", [make_config(name=name) for name in ("ce", "kd", "manifold")])


@pytest.fixture
def evaluate(store: Store, job: JobRecord) -> Evaluate:
    """Return a function that stores what a run (or, without a position, the teacher) did on a set."""

    def add(errors: Sequence[int], position: int | None = None, *, words: Sequence[int] = (), **fields: Any) -> Any:
        counts = list(words) or [WORDS] * len(errors)
        owner = fields.get("job_id", job.id)
        run_id = None if position is None else store.runs(job_id=owner)[position].id
        usual: dict[str, Any] = {
            "job_id": owner,
            "run_id": run_id,
            "subject": "teacher" if position is None else "student",
            "test_set": "test",
            "test_set_hash": "abc",
            "step": None,
            "audio_context": 30.0,
            "normaliser": "whisper-english 0.1.15",
            "decoding": "greedy",
            "wer": sum(errors) / sum(counts) if sum(counts) else math.inf,
            "cer": 0.0,
            "substitutions": sum(errors),
            "deletions": 0,
            "insertions": 0,
            "words": sum(counts),
            "heldout_kl": None,
            "real_time_factor": 0.1,
            "seconds": 1.0,
            "results": [
                UtteranceResult(f"u{i}", i, f"reference {i}", "hypothesis", own, 0, 0, count, None, 1.0, f"{i}.flac")
                for i, (own, count) in enumerate(zip(errors, counts, strict=True))
            ],
        }
        return store.add_evaluation(**(usual | fields))

    return add


def test_runs_are_compared_with_the_first_of_them(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    errors = [[2] * 100, [index % 3 for index in range(100)], [0] * 99 + [4]]
    for position, own in enumerate(errors):
        evaluate(own, position)
    table = ablation_table(store, job.id)
    baseline, *others = table.rows
    assert (table.baseline, table.utterances, baseline.difference, baseline.interval) == ("ce", 100, None, None)
    for row in others:
        assert row.evaluation is not None
        assert baseline.evaluation is not None
        assert row.difference == pytest.approx(row.evaluation.wer - baseline.evaluation.wer)
        assert row.significant
        assert row.verdict.endswith(" than ce (single runs), p < 0.001")
    # Both are rejected: the first at half of 5 %, the second at 5 %.
    first, second = (paired_difference(own, errors[0], [WORDS] * 100) for own in errors[1:])
    assert [row.interval for row in others] == [first.interval(0.025), second.interval(0.05)]
    assert "sign flips (paired permutation) over 100 utterances" in table.test
    assert "adjusted for 2 comparisons (Holm)" in table.test


def test_two_comparisons_count_as_two(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    baseline = [1, 0] * 50
    own = [0, 0] * 5 + [1, 0] * 45
    for position, errors in enumerate((baseline, own, own)):
        evaluate(errors, position)
    alone = paired_difference(own, baseline, [WORDS] * 100).p_value
    assert [row.p_value for row in ablation_table(store, job.id).rows] == [None, 2 * alone, 2 * alone]


def test_equal_runs_do_not_differ(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    for position in range(2):
        evaluate([1, 0] * 50, position)
    row = ablation_table(store, job.id).rows[1]
    assert (row.difference, row.interval, row.p_value, row.significant) == (0.0, (0.0, 0.0), 1.0, False)


def test_a_small_test_set_is_judged_by_all_signs_and_a_smaller_one_not_at_all(
    store: Store, job: JobRecord, evaluate: Evaluate
) -> None:
    evaluate([3] * 12, 0)
    evaluate([2] * 6 + [3] * 6, 1)
    row = ablation_table(store, job.id).rows[1]
    assert (row.p_value, row.significant) == (2 / 2**6, True)
    for position, errors in ((0, [3] * 5), (1, [0] * 5)):
        evaluate(errors, position)
    table = ablation_table(store, job.id)
    assert (table.rows[1].difference, table.rows[1].interval) == (pytest.approx(-3 / WORDS), None)
    assert (table.rows[1].verdict, table.test) == ("too few to test", "5 utterances are too few to test.")


def test_errors_in_an_utterance_that_says_nothing_count(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    evaluate([1, 1, 9], 0, words=[5, 5, 0])
    evaluate([0, 1, 0], 1, words=[5, 5, 0])
    assert ablation_table(store, job.id).rows[1].difference == pytest.approx(-1.0)


def test_a_test_set_without_any_words_is_not_compared(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    for position, errors in enumerate(([2] * 8, [1] * 8)):
        evaluate(errors, position, words=[0] * 8, wer=0.0)
    table = ablation_table(store, job.id)
    assert table.rows[1].verdict == "not compared"
    assert "Nothing is said" in table.test


def test_all_test_sets_of_a_job_are_one_family(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    baseline, own = [1, 0] * 50, [0, 0] * 5 + [1, 0] * 45
    for test_set in ("test", "phone"):
        for position, errors in enumerate((baseline, own)):
            evaluate(errors, position, test_set=test_set)
    evaluate([3] * 3, 0, test_set="tiny")
    evaluate([1] * 3, 1, test_set="tiny")
    alone = paired_difference(own, baseline, [WORDS] * 100).p_value
    table = ablation_table(store, job.id)
    for each in (table, *table.extra.values()):
        if each.test_set == "tiny":
            assert (each.rows[1].p_value, each.test) == (None, "3 utterances are too few to test.")
        else:
            assert each.rows[1].p_value == 2 * alone
            assert each.test.endswith("adjusted for 2 comparisons on all test sets (Holm).")
    assert ablation_table(store, job.id, "phone") == table.extra["phone"]


def test_a_baseline_that_is_chosen_after_reading_is_marked_and_corrected_for_all_pairs(
    store: Store, job: JobRecord, evaluate: Evaluate
) -> None:
    errors = [[1, 0] * 50, [0, 0] * 5 + [1, 0] * 45, [0, 1] * 50]
    for position, own in enumerate(errors):
        evaluate(own, position)
    chosen = ablation_table(store, job.id, against="manifold")
    alone = [paired_difference(own, errors[2], [WORDS] * 100).p_value for own in errors[:2]]
    smaller, larger = sorted(alone)
    expected = {smaller: min(1.0, 3 * smaller), larger: min(1.0, max(3 * smaller, 2 * larger))}
    assert [row.p_value for row in chosen.rows[:2]] == [expected[each] for each in alone]
    assert "the baseline was chosen after reading, so adjusted for all 3 pairs (Holm)" in chosen.test
    # The baseline that was planned is no choice, whoever names it.
    assert ablation_table(store, job.id, against="ce") == ablation_table(store, job.id)


def test_runs_that_were_not_read_yet_are_left_open(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    teacher = evaluate([0] * 3)
    before = evaluate([5] * 3, subject="student_before")
    table = ablation_table(store, job.id)
    assert (table.teacher, table.student_before, table.test, table.utterances) == (teacher, before, "", 3)
    first, *others = store.runs(job_id=job.id)
    assert table.rows == (AblationRow(run=first, is_baseline=True), *(AblationRow(run=run) for run in others))


def test_nothing_is_compared_before_the_baseline_was_read(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    evaluate([1] * 3, 1)
    table = ablation_table(store, job.id)
    assert (table.rows[1].difference, table.test, table.utterances) == (None, "", 3)


def test_nothing_is_compared_while_only_the_baseline_was_read(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    evaluate([1] * 3, 0)
    table = ablation_table(store, job.id)
    assert ([row.difference for row in table.rows], table.test) == ([None] * 3, "")


def test_parameters_stand_beside_their_run(store: Store, job: JobRecord) -> None:
    counts = ParameterCounts(1000, 900, 8, 2)
    store.set_parameters(store.runs(job_id=job.id)[1].id, counts)
    assert [row.parameters for row in ablation_table(store, job.id).rows] == [None, counts, None]


def test_the_reading_of_the_latest_step_counts(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    evaluate([3] * 4, 0, step=10)
    latest = evaluate([1] * 4, 0, step=20)
    assert ablation_table(store, job.id).rows[0].evaluation == latest


def test_test_sets_stand_side_by_side_real_speech_first_and_the_order_of_the_settings_counts(
    store: Store, make_config: Callable[..., RunConfig], evaluate: Evaluate
) -> None:
    paths = ["/a/phone.jsonl", "/a/asterisk.jsonl"]
    job = store.create_job("sets", [make_config(name=name, evaluation={"extra_tests": paths}) for name in ("ce", "kd")])
    for test_set in ("test", "asterisk", "real", "phone", "development"):
        for position, errors in enumerate(([2] * 40, [1] * 40)):
            evaluate(errors, position, test_set=test_set, job_id=job.id)
    table = ablation_table(store, job.id)
    assert list(table.sets) == ["phone", "Asterisk prompts", "recorded clips", "generated voice"]
    assert [each.test_set for each in table.sets.values()] == ["phone", "asterisk", "real", "test"]
    assert list(table.extra) == ["phone", "asterisk", "real"]
    assert (table.called, table.charted) == ("generated voice", ("phone", table.extra["phone"]))
    for each in table.sets.values():
        assert each.rows[1].verdict.startswith("better than ce (single runs), p ")
        assert "adjusted for 4 comparisons on all test sets (Holm)" in each.test


def test_charts_show_the_first_test_set_that_is_large_enough_to_test(
    store: Store, job: JobRecord, evaluate: Evaluate
) -> None:
    for test_set, size in (("test", 40), ("real", 3)):
        for position, errors in enumerate(([2] * size, [1] * size)):
            evaluate(errors, position, test_set=test_set)
    name, charted = ablation_table(store, job.id).charted
    assert (name, charted.test_set) == ("generated voice", "test")


def test_extra_test_sets_are_tables_of_their_own_and_never_pooled(
    store: Store, job: JobRecord, evaluate: Evaluate
) -> None:
    for test_set, size in (("test", 4), ("development", 5), ("real", 6)):
        evaluate([0] * size, test_set=test_set)
        evaluate([1] * size, 0, test_set=test_set)
    table = ablation_table(store, job.id)
    assert list(table.extra) == ["real"]
    assert (table.utterances, table.extra["real"].utterances) == (4, 6)
    assert table.extra["real"] == ablation_table(store, job.id, "real")
    assert table.extra["real"].teacher != table.teacher


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("normaliser", "none", "normaliser: differs: whisper-english 0.1.15 (teacher); none (kd)"),
        (
            "test_set_hash",
            "xyz",
            "utterances: differs: 1 utterance, 5 words (teacher); 1 utterance, 5 words, but other clips or texts (kd)",
        ),
        ("decoding", "beam 5", "decoding: differs: greedy (teacher); beam 5 (kd)"),
        ("audio_context", 15.0, "audio context: differs: 30 s (teacher); 15 s (kd)"),
    ],
)
def test_what_was_not_read_alike_is_not_compared(
    store: Store, job: JobRecord, evaluate: Evaluate, field: str, value: object, said: str
) -> None:
    evaluate([1])
    evaluate([1], 1, **{field: value})
    with pytest.raises(ConfigError) as refused:
        ablation_table(store, job.id)
    assert [str(problem) for problem in refused.value.problems] == [said]


def test_a_job_that_is_missing_or_has_no_runs_is_named(store: Store, job: JobRecord) -> None:
    with pytest.raises(NotFoundError, match="no job 'jnobody'"):
        ablation_table(store, "jnobody")
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("DELETE FROM runs")
    with pytest.raises(NotFoundError, match="has no runs"):
        ablation_table(store, job.id)


def test_any_run_can_be_what_the_others_are_compared_with(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    for position, own in enumerate([[2] * 100, [index % 3 for index in range(100)], [0] * 99 + [4]]):
        evaluate(own, position)
    by_name = ablation_table(store, job.id, against="kd")
    first, kd, manifold = by_name.rows
    assert (by_name.baseline, kd.difference) == ("kd", None)
    forward = ablation_table(store, job.id).rows[1]
    assert (first.difference, forward.difference) == (pytest.approx(0.202), pytest.approx(-0.202))
    assert manifold.interval is not None
    assert ablation_table(store, job.id, against=kd.run.id) == by_name
    with pytest.raises(NotFoundError, match=r"no run 'cosine'.*'ce', 'kd', 'manifold'"):
        ablation_table(store, job.id, against="cosine")


@pytest.fixture
def grid(store: Store, make_config: Callable[..., RunConfig]) -> JobRecord:
    """Return a job of two kinds of runs with the seeds 0 and 1 each, and a third kind with seed 2 alone."""
    kinds = {"ce": {}, "kd": {"training": {"learning_rate": 0.002}}, "manifold": {"training": {"learning_rate": 0.004}}}
    cells = [("ce", 0), ("ce", 1), ("kd", 0), ("kd", 1), ("manifold", 2)]
    configs = [make_config(name=f"{name} (seed {seed})", seed=seed, **kinds[name]) for name, seed in cells]
    return store.create_job("grid", configs)


GRID = [[2] * 120, [3, 1] * 60, [0, 2] * 60, [1, 2, 0] * 40, [1] * 120]


def test_a_run_is_compared_with_the_baseline_of_its_own_seed(store: Store, grid: JobRecord, evaluate: Evaluate) -> None:
    for position, own in enumerate(GRID):
        evaluate(own, position, job_id=grid.id)
    table = ablation_table(store, grid.id)
    assert [row.is_baseline for row in table.rows] == [True, True, False, False, False]
    assert [row.against for row in table.rows] == [None, None, "ce (seed 0)", "ce (seed 1)", "ce (seed 0)"]
    assert [row.difference for row in table.rows[:2]] == [None, None]
    for row, own, base in zip(table.rows[2:], GRID[2:], (GRID[0], GRID[1], GRID[0]), strict=True):
        assert row.difference == pytest.approx((sum(own) - sum(base)) / (WORDS * 120))
        expected = paired_difference(own, base, [WORDS] * 120)
        assert row.interval is not None
        assert row.interval[0] <= expected.low <= expected.high <= row.interval[1]
    assert table.test.startswith(
        "Each run is compared with the baseline's of its own seed, but 'manifold (seed 2)' with 'ce (seed 0)'. 95"
    )
    assert "adjusted for 3 comparisons (Holm)" in table.test
    assert table.against == "ce"


def test_where_the_seed_of_the_baseline_was_not_read_the_baseline_itself_counts(
    store: Store, grid: JobRecord, evaluate: Evaluate
) -> None:
    for position in (0, 3):
        evaluate(GRID[position], position, job_id=grid.id)
    row = ablation_table(store, grid.id).rows[3]
    assert (row.against, row.difference) == ("ce (seed 0)", pytest.approx((120 - 240) / (WORDS * 120)))
    said = ablation_table(store, grid.id).test
    assert said.startswith(
        "Each run is compared with the baseline's of its own seed, but 'kd (seed 1)' with 'ce (seed 0)'."
    )


def test_two_seeds_are_not_judged_together(store: Store, grid: JobRecord, evaluate: Evaluate) -> None:
    for position, own in enumerate(GRID):
        evaluate(own, position, job_id=grid.id)
    found = ablation_table(store, grid.id).over_seeds
    assert found is not None
    ce, kd, manifold = found.rows
    assert [(row.name, list(row.rates)) for row in found.rows] == [
        ("ce", [0, 1]),
        ("kd", [0, 1]),
        ("manifold (seed 2)", [2]),
    ]
    assert (ce.is_baseline, ce.difference, ce.differences) == (True, None, {})
    assert kd.difference == pytest.approx((sum(GRID[2] + GRID[3]) - sum(GRID[0] + GRID[1])) / (2 * WORDS * 120))
    assert (kd.interval, kd.p_value, kd.verdict) == (None, None, "too few seeds to test")
    # No seed of the baseline is the third's: nothing is compared.
    assert (manifold.difference, manifold.p_value, manifold.verdict) == (None, None, "not compared")
    assert found.test.startswith("Fewer than 3 seeds are not tested.")


def test_three_seeds_carry_the_verdict_and_their_runs_point_to_it(
    store: Store, make_config: Callable[..., RunConfig], evaluate: Evaluate
) -> None:
    kinds = {"ce": {}, "kd": {"training": {"learning_rate": 0.002}}}
    cells = [(name, seed) for name in kinds for seed in (0, 1, 2)]
    job = store.create_job(
        "seeds", [make_config(name=f"{name} (seed {seed})", seed=seed, **kinds[name]) for name, seed in cells]
    )
    read = [[2] * 120, [3, 1] * 60, [2, 2] * 60, [1, 1, 0] * 40, [0, 2] * 60, [1] * 120]
    for position, own in enumerate(read):
        evaluate(own, position, job_id=job.id)
    table = ablation_table(store, job.id)
    assert table.over_seeds is not None
    _, kd = table.over_seeds.rows
    assert kd.verdict.startswith("better than ce over 3 seeds, p = ")
    assert "t-test over 120 utterances and 3 seeds, adjusted for one comparison (Holm)" in table.over_seeds.test
    for row in table.rows[3:]:
        assert (row.difference is not None, row.interval, row.p_value) == (True, None, None)
        assert row.verdict == "see over seeds"
    assert table.test == "Runs with other seeds are judged together: see over seeds."


def test_the_kind_of_the_chosen_run_is_the_baseline(store: Store, grid: JobRecord, evaluate: Evaluate) -> None:
    for position, own in enumerate(GRID):
        evaluate(own, position, job_id=grid.id)
    table = ablation_table(store, grid.id, against="kd (seed 1)")
    assert [row.against for row in table.rows] == ["kd (seed 0)", "kd (seed 1)", None, None, "kd (seed 1)"]
    assert table.over_seeds is not None
    forward = ablation_table(store, grid.id).over_seeds
    assert forward is not None
    assert [row.is_baseline for row in table.over_seeds.rows] == [False, True, False]
    assert table.over_seeds.rows[0].difference == pytest.approx(-(forward.rows[1].difference or 0))


def test_a_table_of_one_seed_has_nothing_over_seeds(store: Store, job: JobRecord, evaluate: Evaluate) -> None:
    for position, own in enumerate(GRID[:3]):
        evaluate(own, position)
    table = ablation_table(store, job.id)
    assert (table.over_seeds, table.against) == (None, "ce")
    assert [row.against for row in table.rows] == [None, "ce", "ce"]
    assert table.test == (
        "95 % interval and p of the difference from the baseline: sign flips (paired permutation) over 120 utterances, "
        "adjusted for 2 comparisons (Holm)."
    )


def test_a_set_in_which_nothing_is_said_has_a_rate_by_the_minute(
    store: Store, job: JobRecord, evaluate: Evaluate
) -> None:
    evaluate([1] * 10, 0)
    for position, invented in ((None, 2), (0, 6), (1, 0)):
        inserted = {"substitutions": 0, "insertions": invented}
        evaluate([invented] + [0] * 29, position, words=[0] * 30, test_set="silence", **inserted)
    table = ablation_table(store, job.id).extra["silence"]
    assert table.test == (
        "Nothing is said in the 0.5 min of this set. Words invented a minute: the teacher 4.0; ce 12.0; kd 0.0."
    )
    assert all(row.difference is None for row in table.rows)
