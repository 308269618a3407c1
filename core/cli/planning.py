"""What a job of any size takes, predicted from what was measured on this machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.cli.checking import size as in_words
from core.cli.places import RUNS, Json, Runs, read_runs
from core.cli.tables import output
from core.cli.text import Text
from core.config import RunConfig, Teacher
from core.errors import NotFoundError
from core.reports.sheets import duration
from core.scaling.fit import PARTS, Calibration, read_calibration, write_calibration
from core.scaling.plan import USUAL_CLIP, USUAL_SET, Plan, Size, told
from core.scaling.plan import plan as planned
from core.scaling.rows import last_group

TO_MEASURE = "Measure it: manifold plan --measure (some minutes; nothing else should run meanwhile)"


def plan(
    hours: Annotated[float | None, typer.Option(help="Hours of training audio. Without: what was measured.")] = None,
    teachers: Annotated[
        list[str] | None, typer.Option(help="A teacher: a released Whisper or a folder; several times for several.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Name of a preset, or a YAML or JSON file: what the students are made of.")
    ] = "quickstart",
    students: Annotated[int | None, typer.Option(help="Students; without, as many as there are rows.")] = None,
    epochs: Annotated[float, typer.Option(help="How often each reads all the audio.")] = 1.0,
    gpus: Annotated[
        int | None,
        typer.Option(
            help="Devices like the one that was measured, which share the students, or train a single one together; "
            "else training.devices."
        ),
    ] = None,
    clip: Annotated[float, typer.Option(help="Mean length of an utterance, in seconds.")] = USUAL_CLIP,
    development: Annotated[int, typer.Option(help="Utterances that choose the checkpoint.")] = USUAL_SET,
    test: Annotated[int, typer.Option(help="Utterances that are read at the end.")] = USUAL_SET,
    measure: Annotated[bool, typer.Option("--measure", help="Measure this machine's parts first.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Say what a job of any size would take in time, memory and disk; or, without --hours, how far that is right."""
    calibration = _measured(runs) if measure else read_calibration(runs)
    if calibration is None:
        raise NotFoundError(f"Nothing was measured in {runs} yet, so nothing can be predicted. {TO_MEASURE}")
    if hours is None:
        if as_json:
            print(json.dumps(held_out_json(calibration), indent=2, allow_nan=False))
        else:
            print_held_out(calibration, output())
        return
    name, configs = read_runs(preset)
    group, rows = last_group(configs)
    if teachers:
        group = [_taught_by(config, teachers) for config in group]
    many = len(group) if students is None else students
    devices = group[0].training.devices if gpus is None else gpus
    size = Size(hours, many, epochs, devices, clip, development, test)
    found = planned(group, size, calibration, rows=rows)
    if as_json:
        print(json.dumps(plan_json(found, size, name), indent=2, allow_nan=False))
    else:
        print_plan(found, size, name, output())


def _taught_by(config: RunConfig, teachers: Sequence[str]) -> RunConfig:
    return config.model_copy(update={"teachers": tuple(Teacher(model=model) for model in teachers)})


def _measured(runs: Path) -> Calibration:
    """Measure on the device that runs take, keep it, and return it."""
    # Imported late: a plan needs no torch.
    import torch

    from core.calibration import measure_parts

    screen = Console(stderr=True, highlight=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def advance(part: str, done: int, total: int) -> None:
        screen.print(f"Measuring: {part}, round {done + 1} of {total}", markup=False)

    calibration = measure_parts(device, advance=advance)
    screen.print(f"Kept in {write_calibration(calibration, runs)}", markup=False)
    return calibration


def held_out_json(calibration: Calibration) -> dict[str, Any]:
    """Return predictions beside what was measured, for programs; seconds and bytes, errors as fractions."""
    return {
        "device": calibration.device,
        "threads": calibration.threads,
        "clock": calibration.clock,
        "measured_at": calibration.measured_at,
        "versions": calibration.versions,
        "busy": calibration.busy,
        "error": calibration.error,
        "held_out": [{**asdict(each), "error": each.error} for each in calibration.held_out()],
    }


def print_held_out(calibration: Calibration, console: Console) -> None:
    """Print what the parts predict of configurations that took no part in the fit, beside what was measured."""
    shown = Table(title=Text("Held out: predicted and measured", style="bold"), title_justify="left")
    shown.add_column("Part")
    shown.add_column("Configuration")
    for column in ("predicted", "measured", "error"):
        shown.add_column(column, justify="right", no_wrap=True)
    for each in calibration.held_out():
        say = (lambda value: f"{value:.2f} s") if each.part in PARTS else in_words
        shown.add_row(each.part, Text(each.name), say(each.predicted), say(each.measured), f"{100 * each.error:+.0f} %")
    console.print(shown)
    fitted = sum(not point.held_out for point in calibration.points)
    console.print(Text(f"Fitted to {fitted} other points. {told(calibration)}."))


def plan_json(found: Plan, size: Size, name: str) -> dict[str, Any]:
    """Return a plan for programs; seconds and bytes, with the range of each total."""
    totals = {"seconds": found.total_seconds, "memory": found.total_memory, "disk": found.total_disk}
    return {
        "name": name,
        **asdict(size),
        "steps": found.steps,
        "companies": list(found.companies),
        "devices_together": found.together,
        "measured": found.device,
        "error": found.error,
        "seconds": dict(found.seconds),
        "memory": dict(found.memory),
        "disk": dict(found.disk),
        "total": {part: {"value": value, "range": list(found.between(value))} for part, value in totals.items()},
        "memory_of_device": found.free,
        "left_out": found.left_out,
    }


def print_plan(found: Plan, size: Size, name: str, console: Console) -> None:
    """Print what `plan_json` holds."""
    said = f"{name}: {size.hours:g} h in clips of {size.clip_seconds:g} s, {_many(size.students, 'student')}"
    said += f", {size.epochs:g} x {found.steps / size.epochs:,.0f} steps, {_many(size.devices, 'device')}"
    shown = Table(title=Text(said, style="bold"), title_justify="left")
    for column in ("", "Part"):
        shown.add_column(column)
    for column in ("predicted", "from", "to"):
        shown.add_column(column, justify="right", no_wrap=True)
    kinds = (("Time", found.seconds, duration), ("Memory of a device", found.memory, in_words))
    for label, parts, say in (*kinds, ("Disk", found.disk, in_words)):
        for part, value in parts.items():
            shown.add_row("", part, *(say(each) for each in (value, *found.between(value))))
        total = sum(parts.values())
        shown.add_row(
            Text(label, style="bold"),
            "in all",
            *(say(each) for each in (total, *found.between(total))),
            end_section=True,
        )
    console.print(shown)
    if found.total_memory > found.free:
        console.print(
            Text(
                f"A device has {in_words(found.free)} of memory: take less audio, fewer compared layers, or a "
                "smaller model.",
                style="red",
            )
        )
    console.print(Text(f"Predicted from parts: {found.device}."))
    console.print(
        Text(
            f"Ranges are ±{100 * found.error:.0f} %, the largest error of a held-out point, 25 % at least. "
            + found.left_out
        )
    )
    if size.devices > 1:
        console.print(Text("Each device is taken to be the one that was measured, and the first listens for all."))


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
