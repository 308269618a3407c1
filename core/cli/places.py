"""What most commands take: where the runs are, and which job is meant."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from core.config import RunConfig, preset_names, read_ablation, read_preset, read_run
from core.errors import ConfigError, NotFoundError, quoted
from core.paths import exists, expanded
from core.runs import JobRecord, Studio
from core.store.database import database_path

Database = Annotated[str, typer.Option("--db", help="Database of the runs, as sqlite:///PATH.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the runs' files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

DATABASE_NAME = "experiments.db"
DATABASE = f"sqlite:///{DATABASE_NAME}"
RUNS = Path("runs")


SQLITE = b"SQLite format 3\0"
"""What every database begins with."""


@contextmanager
def open_studio(
    database_url: str, runs_folder: Path, *, missing: Literal["tell", "make", "lend"] = "tell"
) -> Iterator[Studio]:
    """Open the database and the folder of runs while the block runs, and say what is wrong with where they are.

    Args:
        database_url: As it was typed.
        runs_folder: As it was typed.
        missing: What to do where there is no database: tell, make one, or lend one that is gone afterwards.

    Raises:
        NotFoundError: If there is none and none shall be made, with the one that may be meant.
    """
    with ExitStack() as stack:
        path = database_path(database_url)
        if missing == "tell" and not path.exists():
            raise NotFoundError(_no_database(path))
        if missing == "lend" and not path.exists():
            folder = stack.enter_context(TemporaryDirectory(prefix="manifold-"))
            database_url = f"sqlite:///{folder}/experiments.db"
        studio = stack.enter_context(closing(Studio(database_url, runs_folder)))
        for sentence in studio.trouble():
            print(sentence, file=sys.stderr)
        yield studio


def _no_database(path: Path) -> str:
    """Return that there is none, and which one may be meant: one of almost that name, or of that name close by."""
    here = [file for file in path.parent.glob("*") if _is_database(file)] if path.parent.is_dir() else []
    names = get_close_matches(path.name, [file.name for file in here], n=1, cutoff=0.5)
    places = [*path.parent.parents, Path.cwd(), *Path.cwd().parents]
    likely = [path.parent / name for name in names]
    likely += [folder / name for folder in places for name in dict.fromkeys((path.name, DATABASE_NAME))]
    likely += here
    found = next((file for file in likely if file != path and _is_database(file)), None)
    meant = f" Did you mean --db sqlite:///{found} ?" if found else ""
    return (
        f"There is no database at {path}.{meant} One is made by the first run: manifold quickstart, manifold run or "
        "manifold serve."
    )


def _is_database(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        with open(file, "rb") as opened:
            return opened.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


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
