"""Results as text for people, and as JSON for programs; all from the same records."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from core.cli.text import Text
from core.over_seeds import KindRow
from core.reports.sheets import VERDICT, Sheet, sheets
from core.runs import AblationTable, Compared, EvaluationRecord, ParameterCounts, RunRecord

WIDTH = 210
"""Columns of a table that goes to a file or a pipe."""

RECORDED = "real"
"""What results on the recorded clips are stored under."""


def output() -> Console:
    """Return standard output, wide enough for the tables when it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def print_ablation(table: AblationTable, console: Console) -> None:
    """Print the table, what it rests on, and the details of each test set."""
    for place, sheet in enumerate(sheets(table)):
        if place:
            console.print()
        console.print(_shown(sheet))
        for note in sheet.notes:
            console.print(Text(note, style="dim"))


def _shown(sheet: Sheet) -> Table:
    shown = Table(title=Text(sheet.title, style="bold"), title_justify="left")
    groups = sheet.groups or ("",) * len(sheet.columns)
    for place, (group, name) in enumerate(zip(groups, sheet.columns, strict=True)):
        short = not place or name in ("S", "D", "I", "KL", "RTF")
        shown.add_column(
            Text(f"{group}\n{name}" if group else name),
            justify="right" if place and name != VERDICT else "left",
            no_wrap=short,
        )
    for place, cells in enumerate(sheet.rows):
        if place == sheet.fixed:
            shown.add_section()
        shown.add_row(*map(Text, cells))
    return shown


def ablation_json(table: AblationTable) -> dict[str, Any]:
    """Return the table for programs: error rates in percent, shares as fractions, times in seconds."""
    return {
        "job": table.job.id,
        "name": table.job.name,
        "state": table.job.state,
        "test": table.test,
        "utterances": table.utterances,
        "test_sets": [
            {"test_set": each.test_set, "name": name, "utterances": each.utterances, "test": each.test}
            for name, each in table.sets.items()
        ],
        "teacher": _subject_json(table, table.teacher, [extra.teacher for extra in table.extra.values()]),
        "student_before": _subject_json(
            table, table.student_before, [extra.student_before for extra in table.extra.values()]
        ),
        "several": [
            {
                "name": row.name,
                **(_subject_json(table, row.evaluation, _elsewhere(table, row.name)) or {}),
                **_difference_json(row),
                "differences": _differences_json(table, row.name),
            }
            for row in table.several
        ],
        "runs": [_row_json(table, index) for index in range(len(table.rows))],
        "over_seeds": table.over_seeds
        and {"test": table.over_seeds.test, "kinds": [_kind_json(row) for row in table.over_seeds.rows]},
    }


def _kind_json(row: KindRow) -> dict[str, Any]:
    """Return a kind of runs with all its seeds: rates and differences in percent, by seed."""
    spreads = {"spread": row.spread, "difference_spread": row.difference_spread}
    return {
        "name": row.name,
        "baseline": row.is_baseline,
        "wer": {str(seed): 100 * rate for seed, rate in row.rates.items()},
        "mean_wer": 100 * row.mean,
        **_difference_json(row),
        "differences": {str(seed): 100 * difference for seed, difference in row.differences.items()},
        **{name: None if spread is None else 100 * spread for name, spread in spreads.items()},
    }


def _elsewhere(table: AblationTable, name: str) -> list[EvaluationRecord | None]:
    """Return what one of several teachers, or an ensemble, did on each extra test set."""
    return [next((row.evaluation for row in extra.several if row.name == name), None) for extra in table.extra.values()]


def _differences_json(table: AblationTable, name: str) -> dict[str, Any]:
    """Return how a model differs from the baseline on each test set, by what its results are stored under."""
    found = {}
    for each in table.sets.values():
        row = next((row for other, _, row in each.compared if other == name), Compared())
        found[each.test_set] = {**_difference_json(row), "against": row.against}
    return found


def _difference_json(row: Compared | KindRow) -> dict[str, Any]:
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
    fields |= {"teaches": row.teaches, "baseline": row.is_baseline, "against": row.against, **_difference_json(row)}
    fields["differences"] = {
        each.test_set: {**_difference_json(each.rows[index]), "against": each.rows[index].against}
        for each in table.sets.values()
    }
    if row.parameters is not None:
        fields["trainable"] = {
            "adapters": row.parameters.adapters,
            "projections": row.parameters.projections,
            "share_of_teacher": row.parameters.share_of_teacher,
        }
        fields["parameters"] = counts_json(row.parameters)
    fields["precision"] = row.run.precision
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
        "wer": 100 * item.wer if item.words else None,
        "substitutions": item.substitutions,
        "deletions": item.deletions,
        "insertions": item.insertions,
        "words": item.words,
        "heldout_kl": item.heldout_kl,
        "heldout_kl_tokens": item.heldout_kl_tokens,
        "real_time_factor": item.real_time_factor,
        "memory": item.memory,
        "encoder_layers": item.encoder_layers,
        "decoder_layers": item.decoder_layers,
    }


def print_runs(
    runs: Sequence[RunRecord], wer: dict[str, float], console: Console, stalled: Mapping[str, str] | None = None
) -> None:
    """Print runs, newest first, with the WER of those that were tested, and what is said of those that stand still."""
    stalled = stalled or {}
    shown = Table()
    for name in ("Run", "Job", "Name", "Method", "State", "Step", "WER %", "Started (UTC)"):
        shown.add_column(name, justify="right" if name in ("Step", "WER %") else "left", no_wrap=name in ("Run", "Job"))
    for run in runs:
        shown.add_row(
            run.id,
            run.job_id,
            Text(run.name),
            Text(run.method),
            f"{run.state}, stalled" if run.id in stalled else run.state,
            f"{run.step}/{run.steps}",
            f"{100 * wer[run.id]:.1f}" if run.id in wer else "",
            "" if run.started_at is None else f"{run.started_at:%Y-%m-%d %H:%M}",
        )
    console.print(shown)
    for run in runs:
        if run.id in stalled:
            console.print(Text(f"{run.id} {run.name}: {stalled[run.id]}"))


def runs_json(
    runs: Sequence[RunRecord], wer: dict[str, float], stalled: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return runs for programs, WER in percent, and what is said of those that stand still."""
    stalled = stalled or {}
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
                "stalled": stalled.get(run.id, ""),
            }
            for run in runs
        ]
    }
