"""Tables: records in, data frames and texts out; no st.*. Rates are in percent here, as they are shown."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from app import phases, text
from app.charts import TEACHER
from core.config import LOSSES
from core.reports.colours import run_colour
from core.reports.columns import Column, Line, columns, lines
from core.reports.sheets import Sheet, cell
from core.reports.sheets import verdict as in_words
from core.runs import (
    AblationRow,
    AblationTable,
    Compared,
    ComparedRun,
    Comparison,
    EvaluationRecord,
    Metric,
    RunSummary,
    UtteranceResult,
)

ABOUT_KEPT = (
    "Of which of the teacher's tokens: kept likeliest ones and one class for all others (teacher outputs 'compact') "
    "give less than all tokens do."
)

SUBJECTS = {"teacher": "Teacher", "ensemble": "Ensemble", "student_before": "Student before", "student": "Student"}
TEST, DEVELOPMENT = "test", "development"


def reported(records: Iterable[EvaluationRecord]) -> dict[str, EvaluationRecord]:
    """Return what each run is judged by: its test set, or its best checkpoint's development set until that is read.

    Args:
        records: Evaluations of any runs and sets; those of no run are ignored.
    """
    own = [record for record in records if record.run_id and record.test_set in (TEST, DEVELOPMENT)]
    # The last one counts; of two checkpoints alike the later one is kept.
    own.sort(key=lambda record: (record.test_set == TEST, -record.wer, record.step or 0))
    return {record.run_id: record for record in own if record.run_id}


def runs(records: Sequence[RunSummary], preparing: Collection[str] = ()) -> pd.DataFrame:
    """Return the list of runs, in the order given.

    Args:
        records: The runs.
        preparing: Jobs at work of which no run has begun.
    """
    return pd.DataFrame(
        {
            "State": [phases.signed(phases.of_run(run, preparing)) for run in records],
            "Run": [text.pressed(run.name) for run in records],
            "WER": [_scaled(run.wer) for run in records],
            "Set": [run.test_set or text.NOTHING for run in records],
            "Job": [run.job for run in records],
            "Tags": [", ".join(run.tags) for run in records],
            "Trainable": [_scaled(run.share_of_teacher) for run in records],
            "Step": [f"{run.step} / {run.steps}" for run in records],
            "Training": [text.duration(run.seconds) for run in records],
            "Created": [run.created_at for run in records],
            "Id": [run.id for run in records],
        }
    ).astype({"WER": "float", "Trainable": "float"})


def curves(metrics: Sequence[Metric]) -> pd.DataFrame:
    """Return metrics as columns ``name``, ``step`` and ``value``; values that are not finite are left out."""
    frame = pd.DataFrame([(item.name, item.step, item.value) for item in metrics], columns=["name", "step", "value"])
    return frame.loc[frame["value"].abs() < float("inf")].reset_index(drop=True)


def curves_of(metrics: Sequence[Metric]) -> pd.DataFrame:
    """Return metrics of several runs as `curves` does, with the run of each in a column ``run``."""
    return curves(metrics).assign(run=[item.run_id for item in metrics if abs(item.value) < float("inf")])


def evaluations(records: Sequence[EvaluationRecord]) -> pd.DataFrame:
    """Return evaluations as they are listed on a run's page."""
    labels = {record.label for record in records if record.subject == "teacher"}
    told = {record.id: f" · {record.label}" for record in records if record.label and len(labels) > 1}
    return pd.DataFrame(
        {
            "Model": [SUBJECTS[record.subject] + told.get(record.id, "") for record in records],
            "Set": [record.test_set for record in records],
            "Step": [text.NOTHING if record.step is None else str(record.step) for record in records],
            "WER": [_scaled(record.wer) for record in records],
            "CER": [100 * record.cer for record in records],
            "S": [record.substitutions for record in records],
            "D": [record.deletions for record in records],
            "I": [record.insertions for record in records],
            "Words": [record.words for record in records],
            "Held-out KL": [record.heldout_kl for record in records],
            **_kept([record.heldout_kl_tokens if record.heldout_kl is not None else 0 for record in records]),
            "Real-time factor": [record.real_time_factor for record in records],
            "Context": [record.audio_context for record in records],
        }
    ).astype({"Held-out KL": "float"})


def utterances(results: Sequence[UtteranceResult], before: Mapping[str, int] | None = None) -> pd.DataFrame:
    """Return utterances with their errors, in the order given.

    Args:
        results: The utterances.
        before: Errors before training, by utterance; a column where there are any.
    """
    earlier = {"Before": [_rate(before.get(item.utterance_id), item.words) for item in results]} if before else {}
    return pd.DataFrame(
        {
            "Utterance": [item.utterance_id for item in results],
            "WER": [_rate(item.errors, item.words) for item in results],
            **earlier,
            "S": [item.substitutions for item in results],
            "D": [item.deletions for item in results],
            "I": [item.insertions for item in results],
            "Reference": [item.reference for item in results],
            "Student": [item.hypothesis for item in results],
        }
    )


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


def _tokens(kept: int | None) -> str:
    """Return of which of the teacher's tokens a divergence is: the likeliest, or all (None); 0 where there is none."""
    return "all tokens" if kept is None else f"top {kept} tokens" if kept else ""


def _kept(counts: Sequence[int | None]) -> dict[str, list[str]]:
    """Return the column that tells divergences apart, where not all are of all tokens."""
    return {"KL of": [_tokens(kept) for kept in counts]} if any(counts) else {}


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


def differences(base: Mapping[str, Any], other: Mapping[str, Any]) -> pd.DataFrame:
    """Return the settings in which two runs differ, but for what they are called."""
    left, right = _flat(base), _flat(other)
    changed = [key for key in dict.fromkeys([*left, *right]) if left.get(key, _ABSENT) != right.get(key, _ABSENT)]
    changed = [key for key in changed if key not in ("name", "method.name")]
    # Settings that are none on one side are told by their fields on the other.
    changed = [key for key in changed if not any(other.startswith(f"{key}.") for other in changed)]
    return pd.DataFrame(
        {
            "Setting": changed,
            "Baseline": [_setting(left.get(key, _ABSENT)) for key in changed],
            "This run": [_setting(right.get(key, _ABSENT)) for key in changed],
        }
    )


def settings_apart(configs: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> pd.DataFrame:
    """Return the settings in which some of several runs differ, one column for each run.

    Args:
        configs: The settings of the runs.
        labels: What each is called, no two alike.
    """
    flat = [_flat(config) for config in configs]
    known = dict.fromkeys(key for fields in flat for key in fields if key not in ("name", "method.name"))
    apart = [key for key in known if any(fields.get(key, _ABSENT) != flat[0].get(key, _ABSENT) for fields in flat)]
    columns = {
        label: [_setting(fields.get(key, _ABSENT)) for key in apart] for label, fields in zip(labels, flat, strict=True)
    }
    return pd.DataFrame({"Setting": apart, **columns})


def labels(rows: Sequence[ComparedRun]) -> list[str]:
    """Return what the runs of a comparison are called: by name, with job or id where names are alike."""
    names = [row.run.name for row in rows]
    longer = [f"{row.run.name} · {row.job}" for row in rows]
    longest = [f"{row.run.name} · {row.run.id}" for row in rows]
    return [
        name if names.count(name) == 1 else long if longer.count(long) == 1 else full
        for name, long, full in zip(names, longer, longest, strict=True)
    ]


def compared(comparison: Comparison, preparing: Collection[str] = ()) -> pd.DataFrame:
    """Return the numbers of runs side by side; a set that only one of them has read is listed, too. See `runs`."""
    rows = comparison.rows
    rates = {
        test_set: [_scaled(own.wer if (own := row.evaluations.get(test_set)) else None) for row in rows]
        for test_set in comparison.test_sets
    }
    frame = pd.DataFrame(
        {
            "Run": labels(rows),
            # Before the state: a phone shows one column beside the names.
            **rates,
            "State": [phases.signed(phases.of_run(row.run, preparing)) for row in rows],
            "Parameters": [text.count(row.parameters.trainable if row.parameters else None) for row in rows],
            "Trainable": [_scaled(row.parameters.share_of_teacher if row.parameters else None) for row in rows],
            "Training": [text.duration(row.run.seconds) for row in rows],
            "Angle": [text.degrees(row.angle) for row in rows],
            "CKA": [text.decimal(row.linear_cka, 2) for row in rows],
            "Seed": [row.run.seed for row in rows],
            "Job": [row.job for row in rows],
            "Id": [row.run.id for row in rows],
        }
    )
    return frame.astype({"Trainable": "float", **dict.fromkeys(rates, "float")})


def difference_in_words(base: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the settings in which a run differs from another, on one line."""
    frame = differences(base, other)
    parts = [
        f"without {_spoken(setting)}" if here == text.NOTHING else f"{_spoken(setting)}: {here}"
        for setting, here in zip(frame["Setting"], frame["This run"], strict=True)
    ]
    return "; ".join(parts) or "nothing but its name"


def _spoken(setting: str) -> str:
    """Return a loss by its name alone, and a setting of the method without the method; any other by its path."""
    loss = setting.removeprefix("method.losses.")
    return setting.removeprefix("method.") if loss == setting else text.spoken(loss)


_ABSENT = object()
_USUAL = {
    loss.model_fields["kind"].default: {name: field.default for name, field in loss.model_fields.items()}
    for loss in LOSSES
}
"""What the fields of a loss are when nobody says anything, by its kind."""


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by path; a member of a list of kinds is one setting, known by its kind."""
    result: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            if all("kind" in item for item in value):
                result.update({f"{prefix}{key}.{item['kind']}": _member(item) for item in value})
                continue
            value = {str(place): item for place, item in enumerate(value)}
        if isinstance(value, Mapping):
            result.update(_flat(value, f"{prefix}{key}."))
        else:
            result[f"{prefix}{key}"] = value
    return result


def _member(item: Mapping[str, Any]) -> str:
    """Return the weight of a member and what it has of its own in words: ``weight 20, no decoder``."""
    usual = _USUAL.get(item["kind"], {})
    told = [(key, value) for key, value in item.items() if key == "weight" or value != usual.get(key, _ABSENT)]
    said = [
        f"{text.spoken(key)} {_setting(value)}" if not isinstance(value, bool) else f"{'' if value else 'no '}{key}"
        for key, value in told
        if key != "kind"
    ]
    return ", ".join(said)


def _setting(value: Any) -> str:
    if value is _ABSENT:
        return text.NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _rate(errors: int | None, words: int) -> float | None:
    return None if errors is None else 100 * errors / max(1, words)


def _scaled(fraction: float | None) -> float | None:
    return None if fraction in (None, float("inf")) else 100 * fraction
