"""What most commands take: where the runs are, and which job is meant."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from core.errors import NotFoundError
from core.runs import JobRecord, Studio

Database = Annotated[str, typer.Option("--db", help="Database of the runs, as sqlite:///PATH.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the runs' files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

DATABASE = "sqlite:///experiments.db"
RUNS = Path("runs")


@contextmanager
def open_studio(database_url: str, runs_folder: Path) -> Iterator[Studio]:
    """Open the database and the folder of runs while the block runs."""
    studio = Studio(database_url, runs_folder)
    try:
        yield studio
    finally:
        studio.close()


def job_of(studio: Studio, job_or_run: str) -> JobRecord:
    """Return the job that is called so, or that has a run which is.

    Raises:
        NotFoundError: If there is neither.
    """
    for run in studio.store.runs(limit=1, job_id=job_or_run):
        return studio.store.job(run.job_id)
    try:
        return studio.store.job(studio.store.run(job_or_run).job_id)
    except NotFoundError:
        raise NotFoundError(f"There is no job or run '{job_or_run}'. List them with: manifold runs") from None


def newest(studio: Studio) -> JobRecord:
    """Return the job that finished last."""
    finished = studio.store.jobs(limit=1, states=("finished",))
    if not finished:
        raise NotFoundError("No job has finished yet. See what is running: manifold runs")
    return finished[0]
