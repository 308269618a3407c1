"""Tables as CSV for pandas, R and spreadsheets: numbers stay numbers, and no text runs as a formula."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from core.over_seeds import KindRow
from core.runs import AblationRow, AblationTable, Compared, Comparison, EvaluationRecord, RunSummary, UtteranceResult

FORMULA = ("=", "+", "-", "@", "−")
"""What a spreadsheet takes a cell for a formula by, the sign of minus included; wide and small forms are folded."""


def ablation_csv(table: AblationTable) -> str:
    """Return an ablation on each of its test sets in turn, in the order of the table: a row for each model, then one
    for all seeds of a kind of runs, where there are several.

    Rates are in percent, differences and their intervals in percentage points, times in seconds, the divergence in nats
    per token, weights in bytes; a cell is empty where there is no such number.
    """
    return written([row for name, each in table.sets.items() for row in _rows(name, each)], ABLATION)


def _rows(called: str, table: AblationTable) -> list[dict[str, Any]]:
    """Return the rows of one test set."""
    references = (("teacher", table.teacher), ("student before", table.student_before))
    rows = [
        _row(table, name, item.subject, item, Compared(evaluation=item))
        for name, item in references
        if item is not None
    ]
    rows += [_row(table, row.name, row.subject, row.evaluation, row) for row in table.several]
    for row in table.rows:
        rows.append(_row(table, row.run.name, "teacher" if row.teaches else "student", row.evaluation, row))
    for kind in table.over_seeds.rows if table.over_seeds else ():
        fields = {
            "name": kind.name,
            "role": "seeds_together",
            "test_set": table.test_set,
            "wer_percent": 100 * kind.mean,
        }
        rows.append({**fields, "baseline": "yes" if kind.is_baseline else "no", **_contrast(kind)})
    return [{**row, "test_set_name": called} for row in rows]


ABLATION = (
    "name",
    "role",
    "method",
    "state",
    "test_set",
    "test_set_name",
    "wer_percent",
    "substitutions",
    "deletions",
    "insertions",
    "words",
    "utterances",
    "baseline",
    "against",
    "difference_points",
    "low_points",
    "high_points",
    "p_adjusted",
    "kl_nats_per_token",
    "kl_of_likeliest_tokens",
    "real_time_factor",
    "real_time_factor_over_teacher",
    "weights_bytes",
    "encoder_layers",
    "decoder_layers",
    "adapter_parameters",
    "projection_parameters",
    "trained_parameters",
    "trained_percent_of_teacher",
    "student_parameters",
    "active_parameters",
    "load_per_expert",
    "step_seconds",
    "training_seconds",
    "seed",
    "run",
)


def _row(
    table: AblationTable, name: str, role: str, item: EvaluationRecord | None, compared: Compared
) -> dict[str, Any]:
    row = compared if isinstance(compared, AblationRow) else None
    fields: dict[str, Any] = {"name": name, "role": role, "test_set": table.test_set}
    if item is not None:
        fields |= _errors(item) | {"utterances": table.utterances or None}
        if table.teacher is not None and table.teacher.real_time_factor and role != "teacher":
            fields["real_time_factor_over_teacher"] = item.real_time_factor / table.teacher.real_time_factor
    fields |= {"against": compared.against, **_contrast(compared)}
    return fields | (_of_run(row) if row else {})


def _contrast(compared: Compared | KindRow) -> dict[str, Any]:
    low, high = compared.interval or (None, None)
    return {
        "difference_points": _hundredfold(compared.difference),
        "low_points": _hundredfold(low),
        "high_points": _hundredfold(high),
        "p_adjusted": compared.p_value,
    }


def _errors(item: EvaluationRecord) -> dict[str, Any]:
    return {
        "wer_percent": 100 * item.wer if item.words else None,
        "substitutions": item.substitutions,
        "deletions": item.deletions,
        "insertions": item.insertions,
        "words": item.words,
        "kl_nats_per_token": item.heldout_kl,
        "kl_of_likeliest_tokens": item.heldout_kl_tokens,
        "real_time_factor": item.real_time_factor,
        "weights_bytes": item.memory,
        "encoder_layers": item.encoder_layers,
        "decoder_layers": item.decoder_layers,
    }


def _of_run(row: AblationRow) -> dict[str, Any]:
    run, counts = row.run, row.parameters
    fields: dict[str, Any] = {
        "method": run.method,
        "state": run.state,
        "baseline": "yes" if row.is_baseline else "no",
        "load_per_expert": " ".join(f"{share:.4f}" for share in row.load),
        "step_seconds": run.step_seconds,
        "training_seconds": run.seconds,
        "seed": run.seed,
        "run": run.id,
    }
    if counts is not None:
        fields |= {
            "adapter_parameters": counts.adapters,
            "projection_parameters": counts.projections,
            "trained_parameters": counts.trainable,
            "trained_percent_of_teacher": 100 * counts.share_of_teacher,
            "student_parameters": counts.student,
            "active_parameters": counts.student_active,
        }
    return fields


def runs_csv(runs: Sequence[RunSummary]) -> str:
    """Return the list of runs, in the order given; rates in percent, times in seconds, moments in UTC."""
    rows = [
        {
            "run": run.id,
            "name": run.name,
            "job": run.job,
            "method": run.method,
            "state": run.state,
            "tags": ", ".join(run.tags),
            "test_set": run.test_set,
            "wer_percent": _hundredfold(run.wer),
            "trained_percent_of_teacher": _hundredfold(run.share_of_teacher),
            "step": run.step,
            "steps": run.steps,
            "training_seconds": run.seconds,
            "created_utc": run.created_at.isoformat(),
        }
        for run in runs
    ]
    return written(rows, RUNS)


RUNS = (
    "run",
    "name",
    "job",
    "method",
    "state",
    "tags",
    "test_set",
    "wer_percent",
    "trained_percent_of_teacher",
    "step",
    "steps",
    "training_seconds",
    "created_utc",
)


def comparison_csv(comparison: Comparison) -> str:
    """Return runs side by side; rates in percent with a column for each test set, the angle in degrees."""
    rates = {test_set: f"wer_percent_{test_set}" for test_set in comparison.test_sets}
    rows = []
    for row in comparison.rows:
        counts = row.parameters
        fields = {
            "run": row.run.id,
            "name": row.run.name,
            "job": row.job,
            "method": row.run.method,
            "state": row.run.state,
            "trained_parameters": counts.trainable if counts else None,
            "trained_percent_of_teacher": 100 * counts.share_of_teacher if counts else None,
            "training_seconds": row.run.seconds,
            "angle_degrees": None if row.angle is None else math.degrees(row.angle),
            "linear_cka": row.linear_cka,
            "seed": row.run.seed,
        }
        rows.append(fields | {rates[name]: 100 * item.wer for name, item in row.evaluations.items() if name in rates})
    first = ("run", "name", "job", "method", "state")
    trained = ("trained_parameters", "trained_percent_of_teacher", "training_seconds")
    return written(rows, (*first, *rates.values(), *trained, "angle_degrees", "linear_cka", "seed"))


def utterances_csv(results: Sequence[UtteranceResult]) -> str:
    """Return what was heard of each utterance of an evaluation, with its errors; lengths in seconds."""
    rows = [
        {
            "utterance": item.utterance_id,
            "speaker": item.speaker,
            "seconds": item.duration,
            "words": item.words,
            "substitutions": item.substitutions,
            "deletions": item.deletions,
            "insertions": item.insertions,
            "reference": item.reference,
            "hypothesis": item.hypothesis,
        }
        for item in results
    ]
    return written(rows, UTTERANCES)


UTTERANCES = (
    "utterance",
    "speaker",
    "seconds",
    "words",
    "substitutions",
    "deletions",
    "insertions",
    "reference",
    "hypothesis",
)


def written(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as CSV: texts in quotes and harmless, numbers with all their digits, what is not known empty.

    Args:
        rows: Values by column; a column that a row lacks is empty in it.
        columns: In their order.
    """
    lines = [columns, *([row.get(name) for name in columns] for row in rows)]
    return "".join(f"{','.join(map(_cell, line))}\n" for line in lines)


def inert(text: str) -> str:
    """Return a text that a spreadsheet shows as it is: an apostrophe stands before what begins like a formula.

    Spaces, control characters and characters that nobody sees before it do not hide a beginning; full-width and small
    forms count as what they stand for.
    """
    if text[:1] in ("\t", "\r", "\n") or _begins(text).startswith(FORMULA):
        return f"'{text}"
    return text


def _begins(text: str) -> str:
    """Return the first character of a text that is seen, in its usual form; empty where there is none."""
    first = next((letter for letter in text if unicodedata.category(letter)[0] not in "ZC"), "")
    return unicodedata.normalize("NFKC", first)


def _cell(value: Any) -> str:
    """Return a value as a cell. A text is in quotes: with a semicolon or a tab it is one cell in every spreadsheet."""
    if isinstance(value, str):
        return '"{}"'.format(inert(value).replace('"', '""'))
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return str(value)


def _hundredfold(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
