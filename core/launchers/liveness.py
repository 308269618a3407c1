"""Who still lives and gets on: dead jobs are interrupted, those that do not stop are killed, and those that hang named.

All times are seconds since the boot (core.boot): a clock that is set changes nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from core.boot import boot_id, uptime
from core.launchers.process import ProcessIdentity, find, kill_tree, standing_still
from core.store import ACTIVE, JobRecord, RunRecord, State, Store
from core.store.journal import replay

NEVER_STARTED_SECONDS = 30.0
"""A job without a process is given up after this long."""

GRACE_SECONDS = 120.0
"""A job that is asked to stop may take so long to reach its next step; then it is killed."""

STALLED_SECONDS = 240.0
"""A job that gets on with nothing for so long is said to have stalled, where it is not known how long a step takes."""

STALLED_STEPS, SHORTEST_STALL_SECONDS = 20, 120.0
"""Where it is known: so many steps, and no less than so long."""


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
        ending = _epitaph(job)
        if ending and job.id not in waiting and store.job_state(job.id, *ending, only_from=(job.state,)):
            marked.append(job.id)
    return marked


def kill_overdue_jobs(store: Store, runs_folder: Path) -> list[str]:
    """Kill jobs that were asked to stop and have not in their time; return the ids of those that this call ended.

    Raises:
        StoreError: If the database does not answer.
    """
    ended = []
    for job in store.jobs(limit=1000, states=ACTIVE):
        process = process_of(job)
        if job.stop_by is None or process is None or job.boot_id != boot_id() or uptime() < job.stop_by:
            continue
        message = (
            "Stopped: it did not reach its next step in the time that it was given, so it was killed. "
            "What was stored until then is kept."
        )
        if end_by_force(store, runs_folder, job, process, message):
            ended.append(job.id)
    return ended


def end_by_force(store: Store, runs_folder: Path, job: JobRecord, process: ProcessIdentity, message: str) -> bool:
    """Kill a job's processes, store what they left in their journals, and say how it ended; return whether it did now.

    Raises:
        StoreError: If the database does not answer; the processes are gone all the same.
    """
    left = kill_tree(process)
    replay(store, runs_folder, job_id=job.id)
    still = "" if not left else (
        f" Process {left[0]} is still there: it waits for a disk or a network share, and ends when that answers."
    )  # fmt: skip
    return store.job_state(job.id, "stopped", f"{message}{still}")


def stalls(store: Store) -> dict[str, str]:
    """Return a sentence for every job and run that works and has got on with nothing for long, by their ids."""
    found: dict[str, str] = {}
    for job in store.jobs(limit=1000, states=("starting", "running", "stopping")):
        process = process_of(job)
        if process is None or job.boot_id != boot_id():
            continue
        runs = [run for run in store.runs(1000, job_id=job.id) if run.state == "running"]
        said = {run.id: sentence for run in runs if (sentence := _stall(run.advanced_at, [run]))}
        if not said and not any(run.advanced_at is not None for run in runs):
            sentence = _stall(job.advanced_at, ())
            said = {} if not sentence else {job.id: sentence, **{run.id: sentence for run in runs}}
        if said:
            reason = standing_still(process)
            rest = f"; {reason}." if reason else "."
            said = {key: f"{sentence}{rest} Stop it: manifold stop {job.id}" for key, sentence in said.items()}
            found |= said | {job.id: next(iter(said.values()))}
    return found


def _stall(advanced_at: float | None, runs: Sequence[RunRecord]) -> str:
    """Return what to say of work that last got on at some time; nothing where that is not long ago."""
    if advanced_at is None:
        return ""
    quiet = uptime() - advanced_at
    step = next((run.step_seconds for run in runs), None)
    if quiet < (STALLED_SECONDS if step is None else max(SHORTEST_STALL_SECONDS, STALLED_STEPS * step)):
        return ""
    if step is None:
        return f"No progress for {_minutes(quiet)}"
    return f"No step for {_minutes(quiet)}, where one took {step:.2g} s"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _epitaph(job: JobRecord) -> tuple[State, str] | None:
    """Return how a dead job has ended, and what to say about it; None for a living one."""
    identity = process_of(job)
    if identity is None:
        # Of a job of an older version, or of another boot, nobody will start the worker any more.
        queued_at = job.queued_at if job.boot_id == boot_id() else None
        if queued_at is not None and uptime() - queued_at < NEVER_STARTED_SECONDS:
            return None
        return (
            "interrupted",
            f"The worker never started. Start the run again; its log, if there is one, is {job.log_path or 'missing'}.",
        )
    if find(identity) is not None:
        return None
    last = job.heartbeat_at or job.created_at
    if job.stop_requested:
        return "stopped", f"Stopped on request; its worker ended at about {last:%H:%M:%S} UTC. What it stored is kept."
    return (
        "interrupted",
        f"The worker (process {identity.pid}) is gone without a word; it was last heard of at {last:%H:%M:%S} UTC. "
        "It was killed, ran out of memory, or the machine was restarted. What was stored until then is kept. "
        f"Its log is {job.log_path}; start the run again to repeat it.",
    )
