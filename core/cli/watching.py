"""Following a job in the terminal: bars where there is a screen, lines where there is none."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from core.names import visible
from core.reports.sheets import duration
from core.runs import JobRecord, Studio

REFRESH_SECONDS = 0.5
LINE_SECONDS = 30.0
"""Without a screen a line is printed at every new stage, and after this long."""

MAPS_SECONDS = 1800.0


def follow(studio: Studio, job_id: str, *, screen: Console, alive: Callable[[], None] = lambda: None) -> JobRecord:
    """Show how far a job is until it ends, and return how it ended. Ctrl-C raises and leaves the job alone.

    Args:
        studio: Where the job is.
        job_id: The job.
        screen: Where to show it; standard error, so that output stays clean.
        alive: Called often; may raise to end the watch.
    """
    show = _Bar(screen) if screen.is_terminal else _Lines(screen)
    with show:
        while True:
            alive()
            studio.refresh()
            job = studio.store.job(job_id)
            show(_stage(job), job.done, job.total, job.eta_seconds if job.active else None)
            if not job.active:
                return job
            time.sleep(REFRESH_SECONDS)


def follow_maps(studio: Studio, job_id: str, *, screen: Console) -> None:
    """Wait for the maps of a job's runs, showing how many are made; say which could not be."""
    with _Bar(screen) if screen.is_terminal else _Lines(screen) as show:
        maps = studio.wait_for_maps(
            job_id,
            timeout_seconds=MAPS_SECONDS,
            progress=lambda done, total: show("Drawing maps (UMAP)", done, total, None),
        )
    for record in maps:
        if record.state != "finished":
            reason = record.message or "It takes too long here; the studio goes on with it."
            where = record.side
            if record.step is not None:
                where += f" layer {record.student_layer} at step {record.step}"
            screen.print(visible(f"No map of run {record.run_id}, {where}: {reason}"), markup=False, highlight=False)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show on standard error how far something is while the block runs; yield what says the stage, done and total."""
    screen = Console(stderr=True, highlight=False)
    with _Bar(screen) if screen.is_terminal else _Lines(screen) as show:
        yield lambda stage, done, total: show(stage, done, total, None)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _stage(job: JobRecord) -> str:
    if job.state == "queued":
        return "Waiting for its turn"
    if job.state == "stopping":
        return "Stopping"
    return job.stage or "Starting"


class _Bar:
    """A line that moves."""

    def __init__(self, screen: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=screen,
        )
        self._task = self._progress.add_task("", total=None, left="")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int, eta_seconds: float | None) -> None:
        left = "" if eta_seconds is None else f"{duration(eta_seconds)} left"
        self._progress.update(self._task, description=stage, completed=done, total=total or None, left=left)


class _Lines:
    """A line now and then."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._stage = ""
        self._printed = 0.0

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def __call__(self, stage: str, done: int, total: int, eta_seconds: float | None) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._printed < LINE_SECONDS:
            return
        self._stage, self._printed = stage, now
        share = f" {100 * done / total:.0f} %" if total else ""
        left = "" if eta_seconds is None else f", {duration(eta_seconds)} left"
        self._screen.print(visible(f"{stage}{share}{left}"), markup=False, highlight=False)
