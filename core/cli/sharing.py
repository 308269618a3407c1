"""Commands that carry jobs between installations, and results to people who have none."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from core.bundles import export_bundle, import_bundle
from core.cli.places import DATABASE, RUNS, Database, Json, Runs, job_of, newest, open_studio
from core.names import visible
from core.reports.contents import MOST_CLIPS
from core.reports.page import freeze

bundle = typer.Typer(help="A job as one file that travels between installations.", no_args_is_help=True)


@bundle.command("export")
def export_job(
    job: Annotated[str, typer.Argument(help="Id of a job that has ended, or of one of its runs.")],
    to: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")],
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
    small: Annotated[
        bool, typer.Option("--small", help="Leave out adapters and states; numbers, clips and maps stay.")
    ] = False,
    mp3: Annotated[bool, typer.Option("--mp3", help="Write the clips as MP3, a fifth of their size.")] = False,
    without_clips: Annotated[
        list[str] | None,
        typer.Option(
            "--without-clips", help="Name of a test set whose audio stays here; its texts go along. May be repeated."
        ),
    ] = None,
) -> None:
    """Write a job with its numbers, texts, clips, maps, states and adapters into one file."""
    with open_studio(db, runs) as studio:
        found = job_of(studio, job)
        packed = export_bundle(studio, found.id, to, small=small, mp3=mp3, without_clips=without_clips or ())
        if as_json:
            print(json.dumps({"job": found.id, "file": str(packed.path), "bytes": packed.size, "files": packed.files}))
            return
        print(f"{packed.path}: {packed.size / 1e6:.1f} MB, {packed.files} files of the job {found.id}.")
        if packed.left_out:
            print(f"Left out: {', '.join(packed.left_out)}.")


@bundle.command("import")
def import_job(
    file: Annotated[Path, typer.Argument(help="Bundle that 'manifold bundle export' made.")],
    db: Database = DATABASE,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Take in the job of a bundle: all of it, after everything in it was checked, or nothing."""
    with open_studio(db, runs, missing="make") as studio:
        job = import_bundle(studio, file)
        found = [run.id for run in studio.store.runs(limit=1000, job_id=job.id)]
        if as_json:
            print(json.dumps({"job": job.id, "name": job.name, "runs": found}))
            return
        print(f"{visible(job.name)}: {len(found)} runs are here now. See their table: manifold ablation show {job.id}")


def report(
    job: Annotated[
        str | None, typer.Argument(help="Id of a job or a run; the job that finished last if not given.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="File to write; in the folder of reports if not given.")] = None,
    db: Database = DATABASE,
    runs: Runs = RUNS,
    notes: Annotated[str, typer.Option(help="Text that stands at the top.")] = "",
    clips: Annotated[int, typer.Option(min=0, max=MOST_CLIPS, help="How many utterances can be heard.")] = MOST_CLIPS,
) -> None:
    """Freeze a job into one HTML file that opens anywhere: table, charts, clips, and where it comes from."""
    with open_studio(db, runs) as studio:
        found = newest(studio) if job is None else job_of(studio, job)
        written = freeze(studio, found.id, to, notes=notes, clips=clips, at=datetime.now(UTC))
        print(f"{written.path}: {written.size / 1e6:.1f} MB of the job {found.id}.")
