"""What is best so far: one run for each way in which error rates were measured; no st.*."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from app import tables
from core.runs import EvaluationRecord, how_measured

FEWEST_STEPS = 20
"""A run of fewer steps is a trial of its settings, whatever its rate."""

SMALLEST_SHARE = 0.1
"""And so is one of a smaller share of the steps of the longest run on its set."""


@dataclass(frozen=True)
class Best:
    """The best of the runs whose error rates may stand side by side.

    Attributes:
        record: What it is judged by.
        runs: How many are compared.
        trials: How many are left out as trials of a few steps.
        teacher: Error rate of its best teacher on the same set, a fraction; None where that was not read.
        before: The same of its student before training.
        worse: What those are judged by that ended worse than their student before training, the newest first.
    """

    record: EvaluationRecord
    runs: int
    trials: int
    teacher: float | None
    before: float | None
    worse: tuple[EvaluationRecord, ...]

    @property
    def learned(self) -> bool:
        """Whether training made anything better, as far as that was read."""
        return self.before is None or self.record.wer < self.before

    @property
    def key(self) -> str:
        """A short name of how it was measured, for addresses."""
        return sha256(repr(how_measured(self.record)).encode()).hexdigest()[:8]


def best(records: Sequence[EvaluationRecord], steps: Mapping[str, int]) -> list[Best]:
    """Return the best run of each comparable set: test sets first, then the largest, then the one read last.

    Args:
        records: All evaluations of some jobs.
        steps: The runs that count, with their steps. A set on which there are but trials has no best, nor has one in
            which nothing is said, of which there is no rate.
    """
    own = [record for run_id, record in tables.reported(records).items() if run_id in steps and record.words]
    sets: dict[tuple[object, ...], list[EvaluationRecord]] = {}
    for record in sorted(own, key=lambda record: record.id, reverse=True):
        sets.setdefault(how_measured(record), []).append(record)
    shared: dict[tuple[object, ...], float] = {}
    for record in records:
        if record.run_id is None:
            key = (record.job_id, record.group, record.subject, how_measured(record))
            shared[key] = min(record.wer, shared.get(key, record.wer))

    def beside(record: EvaluationRecord, subject: str) -> float | None:
        return shared.get((record.job_id, record.group, subject, how_measured(record)))

    found = []
    for read in sets.values():
        fewest = max(FEWEST_STEPS, SMALLEST_SHARE * max(steps[record.run_id or ""] for record in read))
        alike = [record for record in read if steps[record.run_id or ""] >= fewest]
        if not alike:
            continue
        first = min(alike, key=lambda record: record.wer)
        known = [(record, beside(record, "student_before")) for record in alike]
        worse = tuple(record for record, before in known if before is not None and record.wer > before)
        rates = beside(first, "teacher"), beside(first, "student_before")
        found.append(Best(first, len(alike), len(read) - len(alike), *rates, worse))
    return sorted(found, key=lambda each: (each.record.test_set != tables.TEST, -each.record.words))
