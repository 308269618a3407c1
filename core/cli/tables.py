"""Results as text for people, and as JSON and CSV for programs; all from the same records."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.cli.watching import duration
from core.runs import AblationRow, AblationTable, EvaluationRecord, ParameterCounts, RunRecord

WIDTH = 148
"""Columns of a table that goes to a file or a pipe."""

LOAD = (
    "Load: share of the development set's points that each expert has; each module's experts are put in order before "
    "the mean over the modules is taken."
)

RECORDED = "real"
"""Name of the recorded utterances among the extra test sets."""

INERT = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that a spreadsheet would take for a formula."""


def output() -> Console:
    """Return standard output, wide enough for the tables when it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def print_ablation(table: AblationTable, console: Console) -> None:
    """Print the table, what it rests on, and a table for each extra test set."""
    console.print(_ablation(table, title=f"{table.job.name}: word error rate on the {table.test_set} set"))
    for note in notes(table):
        console.print(Text(note, style="dim"))
    mixtures = _mixtures(table)
    if mixtures is not None:
        console.print()
        console.print(mixtures)
        console.print(Text(LOAD, style="dim"))
    for name, extra in table.extra.items():
        console.print()
        console.print(_ablation(extra, title=f"{name}: {extra.utterances} utterances, on their own"))
        if extra.test:
            console.print(Text(extra.test, style="dim"))


def notes(table: AblationTable) -> list[str]:
    """Return what a reader has to know about the numbers."""
    known = [row.evaluation for row in table.rows if row.evaluation] or [table.teacher] * bool(table.teacher)
    if not known or known[0] is None:
        return ["Nothing was evaluated yet."]
    first, config = known[0], table.rows[0].run.config
    seeds = ", ".join(str(seed) for seed in sorted({row.run.seed for row in table.rows}))
    source = config["source"]
    speech = "speech from a manifest"
    if source["kind"] == "generated":
        speech = f"generated speech with noise at {source['signal_to_noise']:g} dB"
    size = f"{table.utterances} utterances, " if table.utterances else ""
    lines = [
        f"{table.test_set.capitalize()} set: {size}{first.words} words, {speech}; {table.reading}. Seed {seeds}.",
        f"{first.audio_context:g} s of audio context; normaliser {first.normaliser}; {first.decoding}.",
        "KL: divergence from the teacher on reference tokens, in nats per token. RTF: decoding time over audio time.",
    ]
    if table.test:
        lines.append(f"{table.test} * p < 0.05 against '{table.baseline}'.")
    return lines


def _ablation(table: AblationTable, *, title: str) -> Table:
    context = next((item.audio_context for item in _evaluations(table)), 30.0)
    shown = Table(title=Text(title, style="bold"), title_justify="left")
    shown.add_column("Run", no_wrap=True)
    for name in (f"WER % ({context:g} s)", "S", "D", "I", "difference [95 %]", "KL", "RTF", "trainable", "step s"):
        shown.add_column(name, justify="right", no_wrap=name in ("S", "D", "I", "KL", "RTF"))
    shown.add_column("training", justify="right")
    for name, item in (("teacher", table.teacher), ("student before", table.student_before)):
        if item:
            shown.add_row(name, *_counts(item), "", *_divergence(item), f"{item.real_time_factor:.3f}", "", "", "")
    shown.add_section()
    for row in table.rows:
        if row.evaluation is None:
            shown.add_row(Text(row.run.name), Text(row.run.state), *[""] * 9)
            continue
        shown.add_row(
            Text(row.run.name),
            *_counts(row.evaluation),
            _difference(row),
            *_divergence(row.evaluation),
            f"{row.evaluation.real_time_factor:.3f}",
            _trainable(row.parameters),
            "" if row.run.step_seconds is None else f"{row.run.step_seconds:.3f}",
            "" if row.run.seconds is None else duration(row.run.seconds),
        )
    return shown


def _mixtures(table: AblationTable) -> Table | None:
    """Return what the rows with experts have of their own, beside the others; None where no row has any."""
    if not any(row.load for row in table.rows):
        return None
    shown = Table(title=Text("Parameters that the student stores, and that a frame or token goes through"))
    shown.add_column("Run", no_wrap=True)
    for name in ("stored", "active", "load per expert, busiest first"):
        shown.add_column(name, justify="right")
    for row in table.rows:
        counts = row.parameters
        if counts is not None:
            active = "" if counts.student_active is None else f"{counts.student_active:,}"
            load = " ".join(f"{share:.2f}" for share in row.load)
            shown.add_row(Text(row.run.name), f"{counts.student:,}", active, load)
    return shown


def _evaluations(table: AblationTable) -> list[EvaluationRecord]:
    found = [table.teacher, table.student_before, *(row.evaluation for row in table.rows)]
    return [item for item in found if item is not None]


def _counts(item: EvaluationRecord) -> list[str]:
    return [f"{100 * item.wer:.1f}", str(item.substitutions), str(item.deletions), str(item.insertions)]


def _divergence(item: EvaluationRecord) -> list[str]:
    return ["" if item.heldout_kl is None else f"{item.heldout_kl:.3f}"]


def _difference(row: AblationRow) -> str:
    if row.difference is None or row.interval is None:
        return "baseline" if row.run.position == 0 else ""
    low, high = row.interval
    mark = " *" if row.significant else ""
    return f"{100 * row.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{mark}".replace("[", r"\[")


def _trainable(counts: ParameterCounts | None) -> str:
    return "" if counts is None else f"{counts.trainable:,} ({100 * counts.share_of_teacher:.2f} %)"


def ablation_json(table: AblationTable) -> dict[str, Any]:
    """Return the table for programs: error rates in percent, shares as fractions, times in seconds."""
    return {
        "job": table.job.id,
        "name": table.job.name,
        "state": table.job.state,
        "test": table.test,
        "utterances": table.utterances,
        "teacher": _subject_json(table, table.teacher, [extra.teacher for extra in table.extra.values()]),
        "student_before": _subject_json(
            table, table.student_before, [extra.student_before for extra in table.extra.values()]
        ),
        "runs": [_row_json(table, index) for index in range(len(table.rows))],
    }


def _subject_json(
    table: AblationTable, item: EvaluationRecord | None, extra: Sequence[EvaluationRecord | None]
) -> dict[str, Any] | None:
    if item is None:
        return None
    fields = {"method": item.subject, **_evaluation_json(item)}
    others = {name: _evaluation_json(other) for name, other in zip(table.extra, extra, strict=True) if other}
    if others:
        fields["extra_tests"] = others
    if RECORDED in others:
        fields["real_speech"] = others[RECORDED]
    return fields


def _row_json(table: AblationTable, index: int) -> dict[str, Any]:
    row = table.rows[index]
    fields: dict[str, Any] = {"id": row.run.id, "name": row.run.name, "method": row.run.method, "state": row.run.state}
    if row.evaluation is not None:
        extra = [other.rows[index].evaluation for other in table.extra.values()]
        fields |= {**(_subject_json(table, row.evaluation, extra) or {}), "method": row.run.method}
    fields["difference"] = None if row.difference is None else 100 * row.difference
    fields["interval"] = None if row.interval is None else [100 * end for end in row.interval]
    fields["p_value"] = row.p_value
    if row.parameters is not None:
        fields["trainable"] = {
            "adapters": row.parameters.adapters,
            "projections": row.parameters.projections,
            "share_of_teacher": row.parameters.share_of_teacher,
        }
        fields["parameters"] = counts_json(row.parameters)
    fields["peak_memory"] = row.run.peak_memory
    fields["step_seconds"] = row.run.step_seconds
    fields["load"] = list(row.load) or None
    fields["estimate"] = None if row.run.estimate is None else asdict(row.run.estimate)
    return {**fields, "seconds": row.run.seconds, "seed": row.run.seed, "message": row.run.message}


def counts_json(counts: ParameterCounts) -> dict[str, Any]:
    """Return parameters as numbers and as fractions of all teachers' and the largest teacher's, FLOPs per second."""
    parts = ("student", "student_active", "student_non_embedding", "adapters", "projections", "trainable")
    numbers = {name: getattr(counts, name) for name in parts}
    shares = {name: counts.shares(number) for name, number in numbers.items() if number is not None}
    return {
        "teacher": counts.teacher,
        "largest_teacher": counts.largest_teacher,
        **numbers,
        "share_of_teachers": {name: of_all for name, (of_all, _) in shares.items()},
        "share_of_largest_teacher": {name: of_one for name, (_, of_one) in shares.items()},
        "flops_per_second": {"teacher": counts.teacher_flops, "student": counts.student_flops},
    }


def _evaluation_json(item: EvaluationRecord) -> dict[str, Any]:
    return {
        "wer": 100 * item.wer,
        "substitutions": item.substitutions,
        "deletions": item.deletions,
        "insertions": item.insertions,
        "words": item.words,
        "heldout_kl": item.heldout_kl,
        "real_time_factor": item.real_time_factor,
    }


CSV_COLUMNS = (
    "name",
    "method",
    "wer",
    "substitutions",
    "deletions",
    "insertions",
    "words",
    "heldout_kl",
    "real_time_factor",
    "difference",
    "low",
    "high",
    "p_value",
    "adapters",
    "projections",
    "share_of_teacher",
    "student",
    "student_active",
    "load",
    "step_seconds",
    "seconds",
    "seed",
)


def ablation_csv(table: AblationTable) -> str:
    """Return the table as CSV, with the units of `ablation_json`; text that looks like a formula is made inert."""
    data = ablation_json(table)
    rows = [
        {"name": "teacher", **(data["teacher"] or {})},
        {"name": "student before", **(data["student_before"] or {})},
    ]
    for run in data["runs"]:
        low, high = run["interval"] or (None, None)
        load = " ".join(f"{share:.4f}" for share in run["load"] or ())
        counts = {name: run.get("parameters", {}).get(name) for name in ("student", "student_active")}
        rows.append({**run, **run.get("trainable", {}), **counts, "load": load, "low": low, "high": high})
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in row.items()} for row in rows)
    return file.getvalue()


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(INERT) else value


def print_runs(runs: Sequence[RunRecord], wer: dict[str, float], console: Console) -> None:
    """Print runs, newest first, with the WER of those that were tested."""
    shown = Table()
    for name in ("Run", "Job", "Name", "Method", "State", "Step", "WER %", "Started (UTC)"):
        shown.add_column(name, justify="right" if name in ("Step", "WER %") else "left", no_wrap=name in ("Run", "Job"))
    for run in runs:
        shown.add_row(
            run.id,
            run.job_id,
            Text(run.name),
            Text(run.method),
            run.state,
            f"{run.step}/{run.steps}",
            f"{100 * wer[run.id]:.1f}" if run.id in wer else "",
            "" if run.started_at is None else f"{run.started_at:%Y-%m-%d %H:%M}",
        )
    console.print(shown)


def runs_json(runs: Sequence[RunRecord], wer: dict[str, float]) -> dict[str, Any]:
    """Return runs for programs, WER in percent."""
    return {
        "runs": [
            {
                "id": run.id,
                "job": run.job_id,
                "name": run.name,
                "method": run.method,
                "state": run.state,
                "step": run.step,
                "steps": run.steps,
                "wer": 100 * wer[run.id] if run.id in wer else None,
                "seconds": run.seconds,
                "seed": run.seed,
                "created_at": run.created_at.isoformat(),
                "message": run.message,
            }
            for run in runs
        ]
    }
