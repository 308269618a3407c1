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
from core.runs import AblationRow, AblationTable, Compared, EvaluationRecord, ParameterCounts, RunRecord

WIDTH = 132
"""Columns of a table that goes to a file or a pipe."""

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
    first, config = known[-1], table.rows[-1].run.config
    seeds = ", ".join(str(seed) for seed in sorted({row.run.seed for row in table.rows}))
    source = config["source"]
    speech = "speech from a manifest"
    if source["kind"] == "generated":
        speech = f"generated speech with {_listed(source['noises'])} noise at {source['signal_to_noise']:g} dB"
    size = f"{table.utterances} utterances, " if table.utterances else ""
    lines = [
        f"{table.test_set.capitalize()} set: {size}{first.words} words, {speech}; {table.reading}. Seed {seeds}.",
        f"{first.audio_context:g} s of audio context; normaliser {first.normaliser}; {first.decoding}.",
        "KL: divergence from the teacher on reference tokens, in nats per token.",
    ]
    if table.several:
        lines.append(
            "Rows that teach were read as teachers. RTF: encoder, whole, and decoder, over audio; MB: weights needed."
        )
    if table.test:
        lines.append(f"{table.test} * p < 0.05 against '{table.baseline}'.")
    return lines


def _listed(kinds: Sequence[str]) -> str:
    return " or ".join(kinds)


def _ablation(table: AblationTable, *, title: str) -> Table:
    context = next((item.audio_context for item in _evaluations(table)), 30.0)
    shown = Table(title=Text(title, style="bold"), title_justify="left")
    shown.add_column("Run", no_wrap=True)
    for name in (f"WER % ({context:g} s)", "S", "D", "I", "difference [95 %]", "KL", "trainable", "training"):
        shown.add_column(name, justify="right", no_wrap=name in ("S", "D", "I", "KL"))
    for name in ("RTF", "MB") if table.several else ():
        shown.add_column(name, justify="right", no_wrap=True)
    if table.teacher:
        shown.add_row("teacher", *_counts(table.teacher), "", *_divergence(table.teacher), "", "")
    if table.student_before:
        shown.add_row("student before", *_counts(table.student_before), "", *_divergence(table.student_before), "", "")
    shown.add_section()
    for row in (row for row in table.rows if row.teaches):
        shown.add_row(*_row(row), *(_cost(row) if table.several else []))
    for row in table.several:
        if row.evaluation is not None:
            shown.add_row(Text(row.name), *_counts(row.evaluation), _difference(row), "", "", "", *_cost(row))
    if table.several:
        shown.add_section()
    for row in (row for row in table.rows if not row.teaches):
        shown.add_row(*_row(row), *(_cost(row) if table.several else []))
    return shown


def _row(row: AblationRow) -> list[Text | str]:
    if row.evaluation is None:
        return [Text(row.run.name), Text(row.run.state), *[""] * 7]
    return [
        Text(row.run.name),
        *_counts(row.evaluation),
        _difference(row),
        *_divergence(row.evaluation),
        _trainable(row.parameters),
        "" if row.run.seconds is None else duration(row.run.seconds),
    ]


def _cost(row: Compared) -> list[str]:
    """Return what a model takes where it is deployed: its time beside the audio's, and its weights."""
    item = row.evaluation
    if item is None:
        return ["", ""]
    return [f"{item.real_time_factor:.3f}", "" if item.memory is None else f"{item.memory / 1e6:,.0f}"]


def _evaluations(table: AblationTable) -> list[EvaluationRecord]:
    found = [table.teacher, table.student_before, *(row.evaluation for row in (*table.rows, *table.several))]
    return [item for item in found if item is not None]


def _counts(item: EvaluationRecord) -> list[str]:
    return [f"{100 * item.wer:.1f}", str(item.substitutions), str(item.deletions), str(item.insertions)]


def _divergence(item: EvaluationRecord) -> list[str]:
    return ["" if item.heldout_kl is None else f"{item.heldout_kl:.3f}"]


def _difference(row: Compared) -> str:
    if row.difference is None or row.interval is None:
        return "baseline" if isinstance(row, AblationRow) and row.is_baseline else ""
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
        "several": [
            {
                "name": row.name,
                **(_subject_json(table, row.evaluation, _elsewhere(table, row.name)) or {}),
                **_difference_json(row),
            }
            for row in table.several
        ],
        "runs": [_row_json(table, index) for index in range(len(table.rows))],
    }


def _elsewhere(table: AblationTable, name: str) -> list[EvaluationRecord | None]:
    """Return what one of several teachers, or an ensemble, did on each extra test set."""
    return [next((row.evaluation for row in extra.several if row.name == name), None) for extra in table.extra.values()]


def _difference_json(row: Compared) -> dict[str, Any]:
    return {
        "difference": None if row.difference is None else 100 * row.difference,
        "interval": None if row.interval is None else [100 * end for end in row.interval],
        "p_value": row.p_value,
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
    fields |= {"teaches": row.teaches, "baseline": row.is_baseline, **_difference_json(row)}
    if row.parameters is not None:
        fields["trainable"] = {
            "adapters": row.parameters.adapters,
            "projections": row.parameters.projections,
            "share_of_teacher": row.parameters.share_of_teacher,
        }
        fields["parameters"] = counts_json(row.parameters)
    fields["peak_memory"] = row.run.peak_memory
    fields["step_seconds"] = row.run.step_seconds
    fields["estimate"] = None if row.run.estimate is None else asdict(row.run.estimate)
    return {**fields, "seconds": row.run.seconds, "seed": row.run.seed, "message": row.run.message}


def counts_json(counts: ParameterCounts) -> dict[str, Any]:
    """Return parameters as numbers and as fractions of all teachers' and the largest teacher's, FLOPs per second."""
    parts = ("student", "student_non_embedding", "adapters", "projections", "trainable")
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
        "memory": item.memory,
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
    "difference",
    "low",
    "high",
    "p_value",
    "real_time_factor",
    "memory",
    "adapters",
    "projections",
    "share_of_teacher",
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
    for run in [*data["several"], *data["runs"]]:
        low, high = run["interval"] or (None, None)
        rows.append({**run, **run.get("trainable", {}), "low": low, "high": high})
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
