"""Jobs and runs: their rows, their states, their progress."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, insert, update

from core.boot import boot_id, uptime
from core.config import RunConfig, groups
from core.errors import NotFoundError, quoted
from core.names import cleaned, visible
from core.store.costs import Estimate
from core.store.reads import Reads
from core.store.records import ACTIVE, JobRecord, State, config_hash
from core.store.tables import jobs, runs


class Writes(Reads):
    """The side of the store that moves jobs and runs on."""

    def create_job(
        self, name: str, configs: Sequence[RunConfig], launcher: str = "local", *, expectation: str = ""
    ) -> JobRecord:
        """Store a job and one run per configuration, all queued; nothing is started.

        Args:
            name: What the job is called in lists.
            configs: The runs in their order; the first is the baseline. They never change again.
            launcher: Where the job will run.
            expectation: What its starter expects of it, in their words.
        """
        now = _now()
        job_id = _new_id("j")
        rows = []
        numbered = [(group, config) for group, part in enumerate(groups(configs)) for config in part]
        for position, (group, config) in enumerate(numbered):
            fields = config.model_dump(mode="json")
            rows.append(
                {
                    "id": _new_id("r"),
                    "job_id": job_id,
                    "position": position,
                    "name": config.name,
                    "method": config.method.name,
                    "state": "queued",
                    "config": fields,
                    "config_hash": config_hash(fields),
                    "seed": config.seed,
                    "created_at": now,
                    "steps": config.training.steps,
                    "group": group,
                }
            )
        with self._write() as connection:
            fields = {"id": job_id, "name": cleaned(name), "launcher": launcher}
            fields |= {"expectation": visible(expectation).strip()}
            fields |= {"boot_id": boot_id(), "queued_at": uptime()}
            connection.execute(insert(jobs).values(**fields, state="queued", created_at=now))
            connection.execute(insert(runs), rows)
        return self.job(job_id)

    def set_log_path(self, job_id: str, path: str) -> None:
        """Say where the job's output goes."""
        self._update_job(job_id, log_path=path)

    def job_started(self, job_id: str, pid: int, boot_id: str, process_started: float) -> None:
        """Say which process will work on a job, and that it lives; a job that is not queued has its worker already."""
        identity = {"pid": pid, "boot_id": boot_id, "process_started": process_started}
        with self._write() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.state == "queued")
                .values(**identity, heartbeat_at=_now())
            )

    def heartbeat(self, job_id: str) -> bool:
        """Say that the worker lives; return whether the job is still active (if not, the worker has lost it)."""
        with self._write() as connection:
            query = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(ACTIVE)).values(heartbeat_at=_now())
            return connection.execute(query).rowcount > 0

    def progress(self, job_id: str, stage: str, done: int, total: int, eta_seconds: float | None = None) -> None:
        """Say what the worker does now: `done` of `total` steps of a stage, and the time until the job ends."""
        self._update_job(job_id, stage=stage, done=done, total=total, eta_seconds=eta_seconds)

    def job_state(
        self,
        job_id: str,
        state: State,
        message: str = "",
        *,
        only_from: Sequence[State] | None = None,
        at: datetime | None = None,
    ) -> bool:
        """Move a job to a state; return whether it moved.

        An ended job never moves again: what declared it dead was right, or its successor is at work. The runs that are
        still active end with their job and take its message's first line; a list that follows is stored once.

        Args:
            job_id: The job.
            state: Where it goes.
            message: Why, in a sentence.
            only_from: States that it may come from; all active ones if not given.
            at: When it did; now if not given.
        """
        now = at or _now()
        of_runs = "The job ended before this run did." if state == "finished" else message
        with self._write() as connection:
            if not _move(connection, jobs, job_id, state, message, only_from, now):
                return False
            if state not in ACTIVE:
                connection.execute(
                    update(runs)
                    .where(runs.c.job_id == job_id, runs.c.state.in_(ACTIVE))
                    .values(
                        state="failed" if state == "finished" else state,
                        message=of_runs.partition("\n")[0],
                        ended_at=now,
                    )
                )
            return True

    def run_state(
        self,
        run_id: str,
        state: State,
        message: str = "",
        *,
        only_from: Sequence[State] | None = None,
        at: datetime | None = None,
    ) -> bool:
        """Move a run to a state, as `job_state` does for a job; return whether it moved."""
        with self._write() as connection:
            return _move(connection, runs, run_id, state, message, only_from, at or _now())

    def run_progress(self, run_id: str, step: int, seconds: float) -> None:
        """Say how many steps a run has made and how long it has trained, in seconds."""
        with self._write() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(step=step, seconds=seconds))

    def advanced(self, job_id: str, run_ids: Sequence[str], at: float) -> None:
        """Say that a job and some of its runs got on with their work, at a time since the boot (core.boot)."""
        with self._write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(advanced_at=at))
            if run_ids:
                connection.execute(update(runs).where(runs.c.id.in_(run_ids)).values(advanced_at=at))

    def set_estimate(self, run_id: str, estimate: Estimate) -> None:
        """Say what a run is expected to take."""
        with self._write() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(estimate=asdict(estimate)))

    def set_precision(self, run_id: str, precision: str) -> None:
        """Say what a run multiplies in."""
        with self._write() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(precision=precision))

    def set_peak_memory(self, run_id: str, peak_memory: int) -> None:
        """Say how much memory a run's training took, in bytes."""
        with self._write() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(peak_memory=peak_memory))

    def request_stop(self, job_id: str, *, stop_by: float | None = None) -> None:
        """Ask a job to stop: one that waits is stopped at once, one that works is `stopping` until its worker ends it.

        A job that has ended stays as it is.

        Args:
            job_id: The job.
            stop_by: When its patience ends, in seconds since the boot (core.boot); see core.launchers.liveness.
        """
        if self.job(job_id).active:
            self._update_job(job_id, stop_requested=True, stop_by=stop_by)
            if not self.job_state(job_id, "stopped", "Stopped before it began.", only_from=("queued",)):
                self.job_state(job_id, "stopping", only_from=("starting", "running"))

    def _update_job(self, job_id: str, **fields: Any) -> None:
        with self._write() as connection:
            if connection.execute(update(jobs).where(jobs.c.id == job_id).values(**fields)).rowcount == 0:
                raise NotFoundError(f"There is no job {quoted(job_id)}.")


def _move(
    connection: Connection,
    table: Any,
    row_id: str,
    state: State,
    message: str,
    only_from: Sequence[State] | None,
    now: datetime,
) -> bool:
    allowed = ACTIVE if only_from is None else [old for old in only_from if old in ACTIVE]
    query = update(table).where(table.c.id == row_id, table.c.state.in_(allowed)).values(state=state, message=message)
    if state in ("starting", "running"):
        query = query.values(started_at=func.coalesce(table.c.started_at, now))
    elif state not in ACTIVE:
        query = query.values(ended_at=now)
    return connection.execute(query).rowcount > 0


def _new_id(prefix: str) -> str:
    return prefix + base64.b32encode(secrets.token_bytes(5)).decode("ascii").lower()[:7]


def _now() -> datetime:
    return datetime.now(UTC)
