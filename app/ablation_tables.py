"""An ablation as data frames and texts; no st.*. Rates are in percent here, as they are shown."""

from typing import Any

import pandas as pd

from app import phases, text
from app.charts import TEACHER
from app.tables import SUBJECTS
from core.reports.colours import run_colour
from core.reports.columns import Column, Line, columns, lines
from core.reports.sheets import Sheet, cell
from core.reports.sheets import verdict as in_words
from core.runs import AblationRow, AblationTable, Compared


def ablation(table: AblationTable) -> pd.DataFrame:
    """Return an ablation as it is shown, a row for each model and all test sets side by side.

    Returns:
        A column for each of `columns` in its order after ``Model``; two heads, the upper one the test set, where there
        are several.
    """
    shown, rows = columns(table), lines(table)
    cells: dict[tuple[str, str], list[Any]] = {("", "Model"): [_spelt(line) for line in rows]}
    cells |= {(column.test_set, column.title): [_shown(line, column) for line in rows] for column in shown}
    frame = pd.DataFrame(cells)
    texts = {("", "Model")} | {(column.test_set, column.title) for column in shown if column.key in TEXTS}
    frame = frame.astype({name: "float" for name in cells if name not in texts})
    if len(table.sets) == 1:
        frame.columns = pd.Index([name for _, name in cells])
    return frame


TEXTS = ("difference", "kl_tokens", "layers", "training")
"""Columns that are no numbers."""


def _spelt(line: Line) -> str:
    return (
        line.name if line.run or line.subject not in SUBJECTS or line.subject == "ensemble" else SUBJECTS[line.subject]
    )


def _shown(line: Line, column: Column) -> Any:
    value, here = line.value(column), line.at(column)
    if column.key == "difference" and here.evaluation is None:
        return verdict(here) if line.run else ""
    if column.key == "trainable":
        return None if value is None else 100 * value.share_of_teacher
    return (cell(line, column) or "").replace("-", "−") if column.key in TEXTS else value


def details(table: AblationTable) -> pd.DataFrame:
    """Return what each model did on one test set: kinds of errors, divergence, and time."""
    rows = lines(table)
    frame = pd.DataFrame(
        {
            "Model": [_spelt(line) for line in rows],
            "WER": [line.value(Column("wer")) for line in rows],
            "S": [line.value(Column("substitutions")) for line in rows],
            "D": [line.value(Column("deletions")) for line in rows],
            "I": [line.value(Column("insertions")) for line in rows],
            "Held-out KL": [line.value(Column("kl")) for line in rows],
            "Real-time factor": [line.value(Column("real_time_factor")) for line in rows],
        }
    )
    return frame.astype(dict.fromkeys(("WER", "Held-out KL", "Real-time factor"), "float"))


def verdicts(table: AblationTable) -> list[tuple[str, str]]:
    """Return in words of each model whether it differs from the baseline by more than chance, where that is known."""
    return [(name, said) for name, _, row in table.compared if (said := verdict(row))]


def sheet(found: Sheet) -> pd.DataFrame:
    """Return a table of texts as it is."""
    return pd.DataFrame(list(found.rows), columns=list(found.columns))


def verdict(row: Compared) -> str:
    """Return in words whether a model differs from the baseline by more than chance, or what its run is doing."""
    run = row.run if isinstance(row, AblationRow) else None
    if run is None or row.evaluation is not None or run.state == "finished":
        return in_words(row)
    said = phases.of_run(run)
    return f"baseline, {said}" if isinstance(row, AblationRow) and row.is_baseline else said


def over_seeds(table: AblationTable) -> pd.DataFrame:
    """Return kinds of runs with all their seeds together, as they are shown; empty where no kind has several."""
    return pd.DataFrame(
        [
            {
                "Model": row.name,
                "Seeds": str(len(row.rates)),
                "Mean WER": text.percent(row.mean),
                "Verdict": row.verdict,
                "SD": _points(row.spread),
                "Range": f"{text.percent(min(row.rates.values()))} to {text.percent(max(row.rates.values()))}",
                "Difference": "" if row.is_baseline else text.points(row.difference),
                "95 % interval": text.interval(row.interval) if row.interval else "",
                "SD of difference": "" if row.is_baseline else _points(row.difference_spread),
                "Seeds better": "" if row.is_baseline else f"{row.better} of {len(row.differences)}",
            }
            for row in (table.over_seeds.rows if table.over_seeds else ())
        ]
    )


def _points(fraction: float | None) -> str:
    """Return a length in points, without a sign."""
    return text.decimal(None if fraction is None else 100 * fraction, 1)


def rates(table: AblationTable) -> tuple[pd.DataFrame, str]:
    """Return what the chart of rates shows, and a sentence about what it leaves out.

    The student before training transcribes nothing right: on one axis it would push all others into a corner.
    """
    rows = [("Teacher", "Teacher", table.teacher, TEACHER)] if table.teacher else []
    rows += [(name, role, row.evaluation, colour(row)) for name, role, row in table.compared if row.evaluation]
    frame = pd.DataFrame(
        [(name, role, 100 * record.wer, own) for name, role, record, own in rows if record and record.words],
        columns=["name", "role", "wer", "colour"],
    )
    before = table.student_before
    if before is None or frame.empty:
        return frame, ""
    return frame, f"Outside the picture: the student before training, {text.percent(before.wer)}."


def contrasts(table: AblationTable) -> pd.DataFrame:
    """Return what the chart of differences shows: each model, or all its seeds, against the baseline, in points."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "difference": 100 * row.difference,
                "low": 100 * row.interval[0],
                "high": 100 * row.interval[1],
                "verdict": row.verdict,
                "clear": row.significant,
                "colour": TEACHER if place is None else run_colour(place),
            }
            for name, row, place in table.tested
            if row.difference is not None and row.interval is not None
        ],
        columns=["name", "difference", "low", "high", "verdict", "clear", "colour"],
    )


def colour(row: Compared) -> str:
    """Return the colour of a model: the run's own, or the teacher's for teachers that are no runs of the job."""
    return run_colour(row.run.position) if isinstance(row, AblationRow) else TEACHER
