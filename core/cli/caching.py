"""Commands that show and clear what teachers said and what is kept of it."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.cache import Cache, ShelfRecord
from core.cli.checking import size
from core.cli.places import RUNS, Json, Runs

cache = typer.Typer(help="What teachers said, kept for the next job.", no_args_is_help=True)

DAY = 86_400.0


@cache.command("list")
def list_cache(runs: Runs = RUNS, as_json: Json = False) -> None:
    """List what is kept, used last first, with its size, in all and per second of audio."""
    records = Cache(runs / "cache").records()
    if as_json:
        print(json.dumps([{**asdict(record), "key": record.recipe.key} for record in records]))
        return
    if not records:
        print("Nothing is kept: a job that listens with a teacher fills the cache.")
        return
    table = Table("Model", "Kept", "Utterances", "Size", "KiB/s", "Last used")
    for record in records:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.used))
        dense = f"{record.size / record.audio_seconds / 1024:.2f}" if record.audio_seconds else ""
        context = record.recipe.settings.get("audio_context")
        kept = record.recipe.content + (f", {context:g} s" if context else "")
        table.add_row(record.recipe.model, kept, f"{record.entries:,}", size(record.size), dense, used)
    Console(highlight=False).print(table)
    print(f"{size(sum(record.size for record in records))} in {runs / 'cache'}.")


@cache.command("prune")
def prune_cache(
    runs: Runs = RUNS,
    keep: Annotated[float, typer.Option(min=0, help="Gigabytes that may stay; the longest unused goes first.")] = 0.0,
    unused_days: Annotated[float, typer.Option(min=0, help="What was used within so many days stays.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Throw away what is kept; jobs make it again when they need it."""
    thrown = Cache(runs / "cache").prune(keep_bytes=round(keep * 1e9), unused_seconds=unused_days * DAY)
    if as_json:
        print(json.dumps([asdict(record) for record in thrown]))
        return
    print(f"{len(thrown)} thrown away, {size(_total(thrown))} freed.")


def _total(records: list[ShelfRecord]) -> int:
    return sum(record.size for record in records)
