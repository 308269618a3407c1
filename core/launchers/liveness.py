"""Who still lives: jobs whose process is gone are interrupted, with a sentence for their page."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.launchers.process import ProcessIdentity, find
from core.store import ACTIVE, JobRecord, Store
from core.store.journal import replay

NEVER_STARTED_SECONDS = 30.0
"""A job without a process is given up after this long."""


def process_of(job: JobRecord) -> ProcessIdentity | None:
    """Return the process that works on a job, or None before there is one."""
    if job.pid is None or job.boot_id is None or job.process_started is None:
        return None
    return ProcessIdentity(job.pid, job.boot_id, job.process_started)


def interrupt_dead_jobs(store: Store, runs_folder: Path) -> list[str]:
    """Mark every active job whose process is gone; return the ids of those that were marked by this call.

    What a dead process left in its journal is stored first: it may say how the job ended. Any number of processes may
    do this at once: the row moves only from the state that was seen.

    Raises:
        StoreError: If the database does not answer.
    """
    waiting = replay(store, runs_folder)
    marked = []
    for job in store.jobs(limit=1000, states=ACTIVE):
        message = _epitaph(job)
        if (
            message
            and job.id not in waiting
            and store.job_state(job.id, "interrupted", message, only_from=(job.state,))
        ):
            marked.append(job.id)
    return marked


def _epitaph(job: JobRecord) -> str | None:
    """Return what to say about a dead job, or None for a living one."""
    identity = process_of(job)
    if identity is None:
        waited = datetime.now(UTC) - job.created_at
        if waited < timedelta(seconds=NEVER_STARTED_SECONDS):
            return None
        return (
            f"The worker never started. Start the run again; its log, if there is one, is {job.log_path or 'missing'}."
        )
    if find(identity) is not None:
        return None
    last = job.heartbeat_at or job.created_at
    return (
        f"The worker (process {identity.pid}) is gone without a word; it was last heard of at {last:%H:%M:%S} UTC. "
        "It was killed, ran out of memory, or the machine was restarted. What was stored until then is kept. "
        f"Its log is {job.log_path}; start the run again to repeat it."
    )
