"""What is known of runs before they start, for people and for programs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.cli.text import Text
from core.config import RunConfig
from core.job_power import test_power
from core.reports.sheets import duration
from core.runs import Estimate, expected


@contextmanager
def told_while(configs: Sequence[RunConfig], *, measured: bool) -> Iterator[Callable[[str], None]]:
    """Say on standard error what a check does while the block runs, and how long it may take.

    Yields:
        What says the next thing that is done; on a terminal with the time since it began.
    """
    screen = Console(stderr=True, highlight=False)
    many = "one run" if len(configs) == 1 else f"{len(configs)} runs"
    long = "a quarter of a minute or more for each; --no-measure leaves that out" if measured else "some seconds"
    doing = "Checking and measuring" if measured else "Checking"
    screen.print(Text(f"{doing} {many}: {long}.", style="dim"))
    if not screen.is_terminal:
        yield lambda said: screen.print(Text(f"{said} ...", style="dim"))
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=screen) as shown:
        task = shown.add_task("")
        yield lambda said: shown.update(task, description=escape(said))


def checks_json(name: str, configs: Sequence[RunConfig], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of core.checking.check for programs, with what the whole job takes; bytes and seconds."""
    estimates = [Estimate(**result["estimate"]) if result.get("estimate") else None for result in results]
    job = expected(configs, estimates)
    problems = [
        {"run": config.name, **problem}
        for config, result in zip(configs, results, strict=True)
        for problem in result["problems"]
    ]
    return {
        "name": name,
        "well": not problems,
        "problems": problems,
        "test_power": test_power(configs),
        "job": None if job is None else asdict(job),
        "runs": [{"name": config.name, **result} for config, result in zip(configs, results, strict=True)],
    }


def print_checks(found: dict[str, Any], console: Console) -> None:
    """Print what `checks_json` holds."""
    counted = [run for run in found["runs"] if "parameters" in run]
    if counted:
        console.print(_table(found["name"], counted))
        for line in _about(counted[0]):
            console.print(Text(line, style="dim"))
    for line in _words(found["runs"]):
        console.print(Text(line, style="dim"))
    if found["test_power"]:
        console.print(Text(found["test_power"], style="dim"))
    if found["job"] is not None:
        for line in _job(found["job"], counted):
            console.print(Text(line))
    if found["well"]:
        many = f"These {len(found['runs'])} runs" if len(found["runs"]) > 1 else "This run"
        console.print(Text(f"{many} can start.", style="green"))
        return
    mistakes = _by_mistake(found)
    console.print(Text("One mistake:" if len(mistakes) == 1 else f"{len(mistakes)} mistakes:", style="red"))
    for line in mistakes:
        console.print(Text(f"  - {line}"))


def _table(name: str, runs: Sequence[dict[str, Any]]) -> Table:
    shown = Table(title=Text(name, style="bold"), title_justify="left")
    shown.add_column("Run")
    for column in ("adapted", "rank", "adapters", "projections", "trainable", "step", "training", "run", "memory"):
        shown.add_column(column, justify="right")
    for run in runs:
        counts, estimate = run["parameters"], run.get("estimate")
        times = ["", "", "", ""]
        if estimate:
            times = [
                f"{estimate['step_seconds']:.2f} s",
                duration(estimate["training_seconds"]),
                duration(estimate["run_seconds"]),
                size(estimate["peak_memory"]),
            ]
        shown.add_row(
            Text(run["name"]),
            f"{len(run['adapted'])} modules",
            "{number} x {rank}".format(**experts) if (experts := run.get("experts")) else str(run["rank"]),
            f"{counts['adapters']:,}",
            f"{counts['projections']:,}",
            f"{100 * counts['share_of_teacher']:.2f} %",
            *times,
        )
    return shown


def _about(run: dict[str, Any]) -> list[str]:
    """Return what a job's runs have in common."""
    counts, tokens = run["parameters"], run["tokens"]
    same = tokens["shared"] == tokens["student"] == tokens["teacher"]
    tables = f"token tables that share {tokens['shared']:,} of {tokens['teacher']:,} tokens"
    lines = [
        f"Teacher: {counts['teacher']:,} parameters, {counts['teacher_flops'] / 1e9:.2f} GFLOP per second of audio.",
        f"Student: {counts['student']:,} parameters ({100 * counts['shares']['student'][0]:.1f} %), "
        f"{counts['student_non_embedding']:,} without tables of tokens and positions, "
        f"{counts['student_flops'] / 1e9:.2f} GFLOP per second of audio.",
        f"Teacher and student have {'one token table' if same else tables}. Weights from {run['origin']}.",
    ]
    if "gradients" in run:
        lines.append("Every term and every adapter has a gradient.")
    return lines


def _words(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return what makes the words that are counted, and what is to be known of it."""
    names = dict.fromkeys(run["normaliser"] for run in runs if "normaliser" in run)
    notes = dict.fromkeys(note for run in runs for note in run.get("notes", ()))
    return [f"Words are counted by {'; '.join(names)}."] * bool(names) + [f"Note: {note}." for note in notes]


def _job(job: dict[str, Any], runs: Sequence[dict[str, Any]]) -> list[str]:
    first = next(run["estimate"] for run in runs if run.get("estimate"))
    lines = [
        f"The whole job takes about {duration(job['seconds'])} on {first['device']}, {size(job['memory'])} of "
        f"{size(job['memory_free'])} of memory and {size(job['disk'])} of {size(job['disk_free'])} of disk.",
        f"{first['transcribe_seconds']:.2f} s for transcribing an utterance.",
    ]
    if any(run["estimate"]["busy"] for run in runs if run.get("estimate")):
        lines.append("The machine had other work meanwhile: the times are too long.")
    return lines


def _by_mistake(found: dict[str, Any]) -> list[str]:
    """Return each mistake once, with the runs that make it."""
    runs: dict[str, list[str]] = {}
    for problem in found["problems"]:
        said = f"{problem['where']}: {problem['message']}" if problem["where"] else problem["message"]
        runs.setdefault(said, []).append(problem["run"])
    everywhere = len(found["runs"])
    return [said if len(names) == everywhere else f"{', '.join(names)}: {said}" for said, names in runs.items()]


def size(count: float) -> str:
    """Return a number of bytes in words."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
