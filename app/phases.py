"""What runs and jobs are doing, in the words of the pages; no st.*."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from core.runs import JobRecord


class Phase(NamedTuple):
    """How a phase is shown: a sign where there is only text, and an icon and a colour where there are more."""

    sign: str
    colour: str
    icon: str


PHASES = {
    "waiting": Phase("○", "gray", ":material/schedule:"),
    "preparing": Phase("◔", "blue", ":material/hourglass_top:"),
    "training": Phase("▶", "blue", ":material/play_circle:"),
    "testing": Phase("▷", "blue", ":material/hearing:"),
    "stopping": Phase("◼", "orange", ":material/stop_circle:"),
    "finished": Phase("✓", "green", ":material/check_circle:"),
    "failed": Phase("✕", "red", ":material/error:"),
    "stopped": Phase("◼", "gray", ":material/stop_circle:"),
    "interrupted": Phase("⚠", "orange", ":material/link_off:"),
}

STATES = {
    "queued": "waiting",
    "starting": "preparing",
    "running": "training or testing",
    "stopping": "stopping",
    "finished": "finished",
    "failed": "failed",
    "stopped": "stopped",
    "interrupted": "interrupted",
}
"""States as they are stored, which addresses name, and what they are called."""


class Run(Protocol):
    """What a phase is told by."""

    @property
    def job_id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...


def of_run(run: Run, preparing: Collection[str] = ()) -> str:
    """Return what a run is doing: a key of `PHASES`.

    Args:
        run: The run.
        preparing: Ids of jobs at work of which no run has begun; see `preparing`.
    """
    if run.state == "running":
        return "training" if run.step < run.steps else "testing"
    if run.state == "queued" and run.job_id in preparing:
        return "preparing"
    return STATES[run.state]


def of_job(job: JobRecord, runs: Sequence[Run]) -> str:
    """Return what a job is doing, by what its runs do."""
    if job.state not in ("starting", "running"):
        return STATES[job.state]
    found = {of_run(run) for run in runs}
    return next((phase for phase in ("training", "testing") if phase in found), "preparing")


def preparing(jobs: Iterable[tuple[JobRecord, Sequence[Run]]]) -> frozenset[str]:
    """Return the ids of the jobs at work of which no run has begun: they read models and speech."""
    return frozenset(
        job.id
        for job, runs in jobs
        if job.state in ("starting", "running") and all(run.state in ("queued", "starting") for run in runs)
    )


def signed(phase: str) -> str:
    """Return a phase with its sign, for tables and titles."""
    return f"{PHASES[phase].sign} {phase}"
