"""Many runs at once, for lists and comparisons: a few statements, whatever the number of runs."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ScalarSelect, Select, Text, func, select, type_coerce

from core.errors import NotFoundError, quoted
from core.store.reads import Reads, run_record
from core.store.records import ACTIVE, AlignmentRecord, EvaluationRecord, ParameterCounts, RunRecord, State
from core.store.tables import alignments, evaluations, jobs, parameters, runs

MOST_RUNS = 5000
"""A list has at most so many rows."""

OF_THE_RUN = (
    *("id", "job_id", "name", "method", "state", "seed"),
    *("created_at", "step", "steps", "seconds", "tags", "notes"),
)
"""What a summary has from the run itself; reading the settings of a thousand runs would take longer than the rest."""


class RunSummary(NamedTuple):
    """A run as a list shows it.

    Attributes:
        job: Name of its job.
        seconds: Training time, in seconds.
        tags: Words that people gave it.
        wer: What it is judged by, a fraction: its test set, or its best checkpoint's development set until that is
            read; None before either.
        test_set: Which of the two that is.
        share_of_teacher: Trained parameters as a fraction of all teachers'; None before they are counted.
    """

    id: str
    job_id: str
    job: str
    name: str
    method: str
    state: State
    seed: int
    created_at: datetime
    step: int
    steps: int
    seconds: float | None
    tags: tuple[str, ...]
    notes: str
    wer: float | None
    test_set: str | None
    share_of_teacher: float | None

    @property
    def active(self) -> bool:
        """Whether something may still happen."""
        return self.state in ACTIVE

    def found_by(self, words: Sequence[str]) -> bool:
        """Return whether all words stand somewhere in what it is called, is tagged with, or has as notes."""
        said = "\n".join((self.id, self.name, self.method, self.job_id, self.job, self.notes, *self.tags)).casefold()
        return all(word.casefold() in said for word in words)


class Lists(Reads):
    """The side of the store that reads many runs at once."""

    def summaries(self, *, in_bin: bool = False) -> list[RunSummary]:
        """Return the newest runs first, at most 5,000: those in the bin, or those that are not."""
        tags = RunSummary._fields.index("tags")
        with self._read() as connection:
            found = connection.execute(_summaries(in_bin)).all()
        # Most runs are tagged alike: JSON is read once for each set of tags, not once for each run.
        read = {text: tuple(json.loads(text)) for text in {row[tags] for row in found}}
        return [RunSummary._make((*row[:tags], read[row[tags]], *row[tags + 1 :])) for row in found]

    def runs_of(self, run_ids: Sequence[str]) -> list[RunRecord]:
        """Return runs by their ids, in that order.

        Raises:
            NotFoundError: If some do not exist, naming them.
        """
        found = {row["id"]: run_record(row) for row in self._rows(select(runs).where(runs.c.id.in_(run_ids)))}
        missing = [quoted(run_id) for run_id in run_ids if run_id not in found]
        if missing:
            raise NotFoundError(f"There is no run {', '.join(missing)}. List them with: manifold runs")
        return [found[run_id] for run_id in run_ids]

    def job_names(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return the names of jobs by their ids."""
        query = select(jobs.c.id, jobs.c.name).where(jobs.c.id.in_(set(job_ids)))
        return {row["id"]: row["name"] for row in self._rows(query)}

    def evaluations_of(self, run_ids: Sequence[str]) -> list[EvaluationRecord]:
        """Return all evaluations of runs, oldest first."""
        query = select(evaluations).where(evaluations.c.run_id.in_(run_ids)).order_by(evaluations.c.id)
        return [EvaluationRecord(**row) for row in self._rows(query)]

    def evaluations_in(self, job_ids: Sequence[str]) -> list[EvaluationRecord]:
        """Return all evaluations of jobs, of their runs and of what these share, oldest first."""
        query = select(evaluations).where(evaluations.c.job_id.in_(job_ids)).order_by(evaluations.c.id)
        return [EvaluationRecord(**row) for row in self._rows(query)]

    def parameters_of(self, run_ids: Sequence[str]) -> dict[str, ParameterCounts]:
        """Return the parameter counts of runs, of those that are counted."""
        found = self._rows(select(parameters).where(parameters.c.run_id.in_(run_ids)))
        return {row.pop("run_id"): ParameterCounts(**row) for row in found}

    def last_alignments(self, run_ids: Sequence[str]) -> dict[str, list[AlignmentRecord]]:
        """Return how alike the layers of runs were when they were measured last."""
        last = select(alignments.c.run_id, func.max(alignments.c.step).label("step")).where(
            alignments.c.run_id.in_(run_ids)
        )
        newest = last.group_by(alignments.c.run_id).subquery("newest")
        same = (alignments.c.run_id == newest.c.run_id) & (alignments.c.step == newest.c.step)
        found: dict[str, list[AlignmentRecord]] = {}
        for row in self._rows(select(alignments).join(newest, same)):
            found.setdefault(row["run_id"], []).append(AlignmentRecord(**row))
        return found

    def list_version(self) -> tuple[object, ...]:
        """Return what differs whenever a run came, went to the bin, came back, or changed its state."""
        counts = select(runs.c.state, runs.c.deleted_at.is_(None), func.count()).group_by(
            runs.c.state, runs.c.deleted_at.is_(None)
        )
        newest = select(func.max(runs.c.created_at), func.max(runs.c.deleted_at), func.max(runs.c.ended_at))
        with self._read() as connection:
            return (*map(tuple, connection.execute(counts).all()), *connection.execute(newest).one())


@cache
def _summaries(in_bin: bool) -> Select[*tuple[Any, ...]]:
    trained = parameters.c.adapters + parameters.c.projections
    columns = {
        **{name: runs.c[name] for name in OF_THE_RUN},
        "tags": type_coerce(runs.c.tags, Text),
        "job": jobs.c.name,
        "wer": evaluations.c.wer,
        "test_set": evaluations.c.test_set,
        "share_of_teacher": trained * 1.0 / parameters.c.teacher,
    }
    return (
        select(*(columns[name].label(name) for name in RunSummary._fields))
        .join(jobs, jobs.c.id == runs.c.job_id)
        .outerjoin(evaluations, evaluations.c.id == _judging())
        .outerjoin(parameters, parameters.c.run_id == runs.c.id)
        .where(runs.c.deleted_at.is_not(None) if in_bin else runs.c.deleted_at.is_(None))
        .order_by(runs.c.created_at.desc(), runs.c.job_id, runs.c.position)
        .limit(MOST_RUNS)
    )


def _judging() -> ScalarSelect[int]:
    """Return the evaluation that a run is judged by: one seek for each run, whatever else was ever measured."""
    same = evaluations.alias("same")
    order = ((same.c.test_set == "test").desc(), same.c.wer, func.coalesce(same.c.step, 0).desc())
    of_the_run = (same.c.run_id == runs.c.id) & same.c.test_set.in_(("test", "development"))
    return select(same.c.id).where(of_the_run).order_by(*order).limit(1).correlate(runs).scalar_subquery()
