"""Runs side by side, of any jobs; their error rates only where they were measured alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from core.errors import Problem
from core.store import AlignmentRecord, EvaluationRecord, ParameterCounts, RunRecord, Store

TEST, DEVELOPMENT = "test", "development"
HOW_MEASURED = {
    "normaliser": "normaliser",
    "test_set_hash": "utterances",
    "decoding": "decoding",
    "audio_context": "audio context",
}
"""What must be the same of an evaluation, and what it is called."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        job: Name of its job.
        parameters: None before they are known.
        evaluations: By test set, of the sets of the comparison alone.
        angle: Mean angle between paired states at the last probe, over all layer pairs, in radians; None without one.
        linear_cka: The same for debiased linear CKA.
    """

    run: RunRecord
    job: str
    parameters: ParameterCounts | None
    evaluations: dict[str, EvaluationRecord]
    angle: float | None
    linear_cka: float | None


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        rows: In the order that was asked for.
        test_sets: Sets whose error rates may stand side by side: the test set, extra sets, the development set.
        problems: Why others may not, one for each thing that differs.
        curve_names: Names of all curves that any of the runs has.
    """

    rows: tuple[ComparedRun, ...]
    test_sets: tuple[str, ...]
    problems: tuple[Problem, ...]
    curve_names: tuple[str, ...]


def compare(store: Store, run_ids: Sequence[str]) -> Comparison:
    """Return runs side by side.

    Raises:
        NotFoundError: If a run does not exist, naming all that do not.
    """
    runs = store.runs_of(run_ids)
    jobs = store.job_names([run.job_id for run in runs])
    counts, alignments = store.parameters_of(run_ids), store.last_alignments(run_ids)
    read = _by_set(store.evaluations_of(run_ids))
    names = {run.id: run.name for run in runs}
    problems, alike = [], []
    for test_set, records in read.items():
        read_by = [(names[run.id], records[run.id]) for run in runs if run.id in records]
        differ = measured_differently(read_by, count=lambda each: len(store.utterance_results(each.id)))
        problems += [Problem(f"{test_set} set, {problem.where}", problem.message) for problem in differ]
        alike += [] if differ else [test_set]
    rows = tuple(
        ComparedRun(
            run=run,
            job=jobs[run.job_id],
            parameters=counts.get(run.id),
            evaluations={test_set: read[test_set][run.id] for test_set in alike if run.id in read[test_set]},
            angle=mean_angle(alignments.get(run.id, ())),
            linear_cka=_mean([record.linear_cka for record in alignments.get(run.id, ())]),
        )
        for run in runs
    )
    return Comparison(rows, tuple(alike), tuple(problems), tuple(store.curve_names(run_ids)))


def how_measured(record: EvaluationRecord) -> tuple[object, ...]:
    """Return what two error rates must share to stand side by side."""
    return (record.test_set, *(getattr(record, what) for what in HOW_MEASURED))


def measured_differently(
    records: Sequence[tuple[str, EvaluationRecord]], *, count: Callable[[EvaluationRecord], int]
) -> list[Problem]:
    """Return what differs in how error rates were measured, in words; nothing where they can be compared.

    Args:
        records: Evaluations with the names of what was evaluated.
        count: Returns how many utterances an evaluation has read; asked where sets differ.
    """
    problems = []
    for what, called in HOW_MEASURED.items():
        values: dict[str, list[tuple[str, EvaluationRecord]]] = {}
        for who, record in records:
            values.setdefault(str(getattr(record, what)), []).append((who, record))
        if len(values) > 1:
            firsts = [group[0][1] for group in values.values()]
            said = _sets_in_words(firsts, count) if what == "test_set_hash" else _in_words(firsts, what)
            sides = zip(said, values.values(), strict=True)
            listed = "; ".join(f"{value} ({', '.join(who for who, _ in group)})" for value, group in sides)
            problems.append(Problem(called, f"differs: {listed}"))
    return problems


def _in_words(records: Sequence[EvaluationRecord], what: str) -> list[str]:
    unit = " s" if what == "audio_context" else ""
    return [f"{getattr(record, what):g}{unit}" if unit else str(getattr(record, what)) for record in records]


def _sets_in_words(records: Sequence[EvaluationRecord], count: Callable[[EvaluationRecord], int]) -> list[str]:
    """Return how sets differ: by their utterances, by their words where those are as many, else as other ones."""
    sizes = [count(record) for record in records]
    words = [_counted(record.words, "word") for record in records]
    # Some never kept their utterances.
    said = [_counted(size, "utterance") for size in sizes] if all(sizes) else list(words)
    if len(set(said)) < len(said):
        said = [f"{size}, {number}" for size, number in zip(said, words, strict=True)] if all(sizes) else said
    often: dict[str, int] = {}
    for place, size in enumerate(said):
        often[size] = often.get(size, 0) + 1
        if often[size] > 1:
            said[place] = f"{size}, but other clips or texts"
    return said


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def mean_angle(records: Sequence[AlignmentRecord]) -> float | None:
    """Return the mean angle over layer pairs, in radians; None without any."""
    return _mean([record.geodesic_angle for record in records])


def _by_set(records: Sequence[EvaluationRecord]) -> dict[str, dict[str, EvaluationRecord]]:
    """Return the evaluation that counts, by set and run: of the development set that of the kept checkpoint."""
    # The last one counts; of two checkpoints alike the later one is kept.
    ordered = sorted(records, key=lambda record: (-record.wer, record.step or 0))
    found: dict[str, dict[str, EvaluationRecord]] = {}
    for record in ordered:
        if record.run_id is not None:
            found.setdefault(record.test_set, {})[record.run_id] = record
    order = {TEST: 0, DEVELOPMENT: 2}
    return {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, 1), name))}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
