"""What most commands take: where the runs are, and which job is meant."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from core.config import RunConfig, preset_names, read_ablation, read_preset, read_run
from core.errors import ConfigError, NotFoundError, quoted
from core.paths import exists, expanded
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
        raise NotFoundError(f"There is no job or run {quoted(job_or_run)}. List them with: manifold runs") from None


def newest(studio: Studio) -> JobRecord:
    """Return the job that finished last."""
    finished = studio.store.jobs(limit=1, states=("finished",))
    if not finished:
        raise NotFoundError("No job has finished yet. See what is running: manifold runs")
    return finished[0]


def read_runs(name: str) -> tuple[str, Sequence[RunConfig]]:
    """Read a preset, an ablation or a run, and return its name and its runs.

    Raises:
        NotFoundError: If there is no preset and no file of that name.
        ConfigError: With every mistake in it.
    """
    if name in preset_names():
        preset, configs = read_preset(name)
        return preset.name, configs
    path = expanded(name)
    if not path.suffix and not exists(path):
        raise NotFoundError(
            f"There is no preset and no file {quoted(name)}. The presets are {', '.join(preset_names())}."
        )
    try:
        config = read_run(path)
    except ConfigError as error:
        # A file with rows is an ablation; its own mistakes are the ones to report.
        if not any(problem.where == "rows" for problem in error.problems):
            raise
        written, configs = read_ablation(path)
        return written.name, configs
    return config.name, [config]
