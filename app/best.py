"""What is best so far: one run for each way in which error rates were measured; no st.*."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app import tables
from core.runs import EvaluationRecord, how_measured


@dataclass(frozen=True)
class Best:
    """The best of the runs whose error rates may stand side by side.

    Attributes:
        record: What it is judged by.
        runs: How many are compared.
        teacher: Error rate of its best teacher on the same set, a fraction; None where that was not read.
        before: The same of its student before training.
        worse: What those are judged by that ended worse than their student before training, the newest first.
    """

    record: EvaluationRecord
    runs: int
    teacher: float | None
    before: float | None
    worse: tuple[EvaluationRecord, ...]


def best(records: Sequence[EvaluationRecord], kept: Collection[str]) -> list[Best]:
    """Return the best run of each comparable set, the set that was read last first.

    Args:
        records: All evaluations of some jobs.
        kept: The runs that count.
    """
    own = [record for run_id, record in tables.reported(records).items() if run_id in kept]
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
    for alike in sets.values():
        first = min(alike, key=lambda record: record.wer)
        worse = tuple(record for record in alike if record.wer > (beside(record, "student_before") or record.wer))
        found.append(Best(first, len(alike), beside(first, "teacher"), beside(first, "student_before"), worse))
    return found
