"""Tables: records in, data frames and texts out; no st.*. Rates are in percent here, as they are shown."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from app import phases, text
from core.config import LOSSES
from core.runs import (
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


def _tokens(kept: int | None) -> str:
    """Return of which of the teacher's tokens a divergence is: the likeliest, or all (None); 0 where there is none."""
    return "all tokens" if kept is None else f"top {kept} tokens" if kept else ""


def _kept(counts: Sequence[int | None]) -> dict[str, list[str]]:
    """Return the column that tells divergences apart, where not all are of all tokens."""
    return {"KL of": [_tokens(kept) for kept in counts]} if any(counts) else {}


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
