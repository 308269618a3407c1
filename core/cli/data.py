"""Commands that fetch recorded speech and say what there is."""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.cli.checking import size
from core.cli.places import RUNS, Json, Runs
from core.cli.tables import output
from core.cli.text import Text
from core.errors import ManifoldError
from core.names import visible
from core.paths import expanded, is_folder
from core.reports.sheets import duration
from core.runs import JobRecord, Studio
from core.store.files import make_folder_private

if TYPE_CHECKING:
    from core.sources import DataSet

data = typer.Typer(help="Recorded speech that can be had without a data hub.", no_args_is_help=True)


@data.command("list")
def list_data(runs: Runs = RUNS, as_json: Json = False) -> None:
    """List what can be had: whether it is here, its size, its licence."""
    from core.sources import DATA_SETS

    folder = expanded(runs).absolute() / "data"
    if as_json:
        print(json.dumps([_row(each, folder) for each in DATA_SETS], indent=2))
        return
    table = Table()
    for name in ("Name", "Here", "What it is", "Licence", "By"):
        table.add_column(name, no_wrap=name == "Name")
    for name in ("Clips", "Speakers", "Words", "Length", "Download"):
        table.add_column(name, justify="right")
    for each in DATA_SETS:
        here = "yes" if each.here(folder) else "no"
        said = (each.name, here, each.summary, each.licence, each.credit)
        counts = (str(each.utterances), str(each.speakers), f"{each.words:,}", duration(each.seconds))
        table.add_row(*map(Text, (*said, *counts, size(each.download_bytes))))
    output().print(table)
    print(visible(f"They are kept in {folder}. Fetch one: manifold data get NAME"))


@data.command("get")
def get_data(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="What to fetch; manifold data list says what.")],
    runs: Runs = RUNS,
) -> None:
    """Fetch recorded speech, and write it as manifests that runs can use. What is here already stays as it is."""
    from core.sources import data_set, get

    wanted = [data_set(name) for name in names]
    home = expanded(runs).absolute()
    missing = []
    for each in wanted:
        try:
            manifest = get(each, home / "data")
        except ManifoldError as error:
            missing.append(each.name)
            print(visible(f"{each.name} is not here. {error}"), file=sys.stderr)
        else:
            print(visible(f"{each.name}: {each.utterances} clips, {each.words:,} words ({each.licence}): {manifest}"))
    if is_folder(home):
        make_folder_private(home)
    if missing:
        raise typer.Exit(1)


def told_without_recordings(studio: Studio, job: JobRecord, screen: Console) -> None:
    """Say that the quick start tests generated speech alone, where it does."""
    from core.sources import DATA_SETS

    run = next(iter(studio.store.runs(job_id=job.id)), None)
    if run is not None and not run.config["evaluation"]["extra_tests"]:
        names = " ".join(each.name for each in DATA_SETS)
        screen.print(
            f"It tests generated speech alone: no recorded speech is here. Fetch some: manifold data get {names}",
            markup=False,
            soft_wrap=True,
        )


def _row(each: "DataSet", folder: Path) -> dict[str, Any]:
    """Return a data set for programs, with the paths of its manifests where they are here."""
    paths = {name: str(folder / getattr(each, name)) for name in ("manifest", "quick_start")}
    kept = {
        item.name: getattr(each, item.name) for item in fields(each) if item.name not in (*paths, "write", "download")
    }
    here = each.here(folder)
    return {**kept, "here": here, **{name: path if here else None for name, path in paths.items()}}
