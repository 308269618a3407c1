"""Many runs at once, for lists and comparisons: a few statements, whatever the number of runs."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ScalarSelect, Select, Text, func, null, select, type_coerce

from core.errors import NotFoundError, quoted
from core.store.reads import Reads, run_record
from core.store.records import ACTIVE, AlignmentRecord, EvaluationRecord, ParameterCounts, RunRecord, State
from core.store.tables import alignments, evaluations, jobs, parameters, runs

MOST_RUNS = 5000
"""A list has at most so many rows."""


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
        with self._read() as connection:
            found = connection.execute(_summaries(in_bin)).all()
        if not found:
            return []
        # Column by column, where a thousand rows would each take longer.
        read: dict[str, Sequence[Any]] = dict(
            zip((*RunSummary._fields, "development"), zip(*found, strict=True), strict=True)
        )
        read["created_at"] = [datetime.fromisoformat(f"{text}+00:00") for text in read["created_at"]]
        # Most runs are tagged alike: JSON is read once for each set of tags, not once for each run.
        tags = {text: tuple(json.loads(text)) for text in set(read["tags"])}
        read["tags"] = [tags[text] for text in read["tags"]]
        read["wer"], read["test_set"] = zip(*map(_judged, read["wer"], read["development"]), strict=True)
        return [RunSummary._make(row) for row in zip(*(read[name] for name in RunSummary._fields), strict=True)]

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
    """Select what a list shows and no settings: reading those of a thousand runs would take longer than the rest."""
    trained = parameters.c.adapters + parameters.c.projections
    columns = {
        **{column.name: column for column in runs.c},
        "created_at": type_coerce(runs.c.created_at, Text),
        "tags": type_coerce(runs.c.tags, Text),
        "job": jobs.c.name,
        "wer": _lowest("test"),
        "test_set": null(),
        "share_of_teacher": trained * 1.0 / parameters.c.teacher,
        "development": _lowest("development"),
    }
    return (
        select(*(columns[name].label(name) for name in (*RunSummary._fields, "development")))
        .join(jobs, jobs.c.id == runs.c.job_id)
        .outerjoin(parameters, parameters.c.run_id == runs.c.id)
        .where(runs.c.deleted_at.is_not(None) if in_bin else runs.c.deleted_at.is_(None))
        .order_by(runs.c.created_at.desc(), runs.c.job_id, runs.c.position)
        .limit(MOST_RUNS)
    )


def _lowest(test_set: str) -> ScalarSelect[float]:
    """Return a run's lowest rate on a test set: one seek for each run, whatever else was ever measured."""
    of_the_run = (evaluations.c.run_id == runs.c.id) & (evaluations.c.test_set == test_set)
    return select(func.min(evaluations.c.wer)).where(of_the_run).correlate(runs).scalar_subquery()


def _judged(test: float | None, development: float | None) -> tuple[float | None, str | None]:
    """Return what a run is judged by, and which set that is of."""
    if test is not None:
        return test, "test"
    return development, None if development is None else "development"
