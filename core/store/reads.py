"""Questions to the store. What is missing raises NotFoundError."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, or_, select

from core.errors import NotFoundError, quoted
from core.store.costs import Estimate
from core.store.database import Database
from core.store.records import (
    ACTIVE,
    AlignmentRecord,
    EvaluationRecord,
    JobRecord,
    Metric,
    ParameterCounts,
    RunRecord,
    UtteranceResult,
)
from core.store.tables import alignments, evaluations, jobs, metrics, parameters, runs, utterance_results


class Reads(Database):
    """The reading side of the store."""

    def job(self, job_id: str) -> JobRecord:
        """Return one job."""
        found = self._rows(select(jobs).where(jobs.c.id == job_id))
        if not found:
            raise NotFoundError(f"There is no job {quoted(job_id)}.")
        return JobRecord(**found[0])

    def jobs(self, limit: int = 50, *, states: Sequence[str] | None = None) -> list[JobRecord]:
        """Return the newest jobs first, of the given states if any are given.

        A job that has ended and whose runs are all in the bin is left out.
        """
        kept = select(runs.c.id).where(runs.c.job_id == jobs.c.id, runs.c.deleted_at.is_(None)).exists()
        query = select(jobs).where(or_(jobs.c.state.in_(ACTIVE), kept))
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        if states is not None:
            query = query.where(jobs.c.state.in_(states))
        return [JobRecord(**row) for row in self._rows(query)]

    def first_queued_job(self) -> str | None:
        """Return the id of the job that has waited longest, or None when none waits."""
        query = select(jobs.c.id).where(jobs.c.state == "queued").order_by(jobs.c.created_at, jobs.c.id).limit(1)
        found = self._rows(query)
        return found[0]["id"] if found else None

    def stop_requested(self, job_id: str) -> bool:
        """Return whether a user asked this job to stop."""
        return self.job(job_id).stop_requested

    def run(self, run_id: str) -> RunRecord:
        """Return one run."""
        found = self._rows(select(runs).where(runs.c.id == run_id))
        if not found:
            raise NotFoundError(f"There is no run {quoted(run_id)}. List them with: manifold runs")
        return run_record(found[0])

    def runs(self, limit: int = 200, *, job_id: str | None = None) -> list[RunRecord]:
        """Return the newest runs first but for those in the bin, or all runs of one job in their order."""
        query = select(runs).limit(limit)
        if job_id is None:
            query = query.where(runs.c.deleted_at.is_(None))
            query = query.order_by(runs.c.created_at.desc(), runs.c.job_id, runs.c.position)
        else:
            query = query.where(runs.c.job_id == job_id).order_by(runs.c.position)
        return [run_record(row) for row in self._rows(query)]

    def metrics(self, run_id: str, names: Sequence[str] | None = None, after_step: int = -1) -> list[Metric]:
        """Return the curves of a run after a step, by name and step; all of them if no names are given."""
        query = select(metrics).where(metrics.c.run_id == run_id, metrics.c.step > after_step)
        if names is not None:
            query = query.where(metrics.c.name.in_(names))
        return [Metric(**row) for row in self._rows(query.order_by(metrics.c.name, metrics.c.step))]

    def parameters(self, run_id: str) -> ParameterCounts | None:
        """Return the parameter counts of a run, or None before they are known."""
        found = self._rows(select(parameters).where(parameters.c.run_id == run_id))
        return ParameterCounts(**{k: v for k, v in found[0].items() if k != "run_id"}) if found else None

    def evaluations(
        self, *, job_id: str | None = None, run_id: str | None = None, test_set: str | None = None
    ) -> list[EvaluationRecord]:
        """Return evaluations, oldest first, of a job, a run, a test set, or what they have in common."""
        query = select(evaluations).order_by(evaluations.c.id)
        for column, value in (
            (evaluations.c.job_id, job_id),
            (evaluations.c.run_id, run_id),
            (evaluations.c.test_set, test_set),
        ):
            if value is not None:
                query = query.where(column == value)
        return [EvaluationRecord(**row) for row in self._rows(query)]

    def utterance_results(self, evaluation_id: int) -> list[UtteranceResult]:
        """Return the utterances of an evaluation in the order of their test set."""
        query = select(utterance_results).where(utterance_results.c.evaluation_id == evaluation_id)
        found = self._rows(query.order_by(utterance_results.c.position))
        return [UtteranceResult(**{k: v for k, v in row.items() if k != "evaluation_id"}) for row in found]

    def alignments(self, run_id: str) -> list[AlignmentRecord]:
        """Return how alike the layers are, by step, side and layer."""
        query = select(alignments).where(alignments.c.run_id == run_id)
        order = (alignments.c.step, alignments.c.side, alignments.c.student_layer, alignments.c.teacher_layer)
        return [AlignmentRecord(**row) for row in self._rows(query.order_by(*order))]

    def _rows(self, query: Select[*tuple[Any, ...]]) -> list[dict[str, Any]]:
        with self._read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def run_record(row: dict[str, Any]) -> RunRecord:
    """Return a row of the table of runs as a record."""
    estimate = row["estimate"]
    told = {"estimate": None if estimate is None else Estimate(**estimate), "tags": tuple(row["tags"])}
    return RunRecord(**{**row, **told})
