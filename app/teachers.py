"""The teachers of a run: what each contributes, what each heard, and which models may teach."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import parts, state, tables, text
from core.config import RUN, Teacher
from core.runs import EvaluationRecord, Metric, RunRecord

COMBINED = {
    "mean": "All teachers count alike.",
    "weighted": "The lower a teacher's WER on the development set, the more it counts.",
    "best": "For each utterance the teacher counts that finds its transcript likeliest.",
    "single": "Only the teacher with the lowest WER on the development set counts.",
}


def several(config: Mapping[str, Any]) -> bool:
    """Return whether a run has more than one teacher."""
    return len(config.get("teachers") or ()) > 1


def named(config: Mapping[str, Any]) -> list[str]:
    """Return what the teachers of a run are called, in their order."""
    return [Teacher.model_validate(teacher).label for teacher in config["teachers"]]


def of_group(records: Sequence[EvaluationRecord], run: RunRecord) -> list[EvaluationRecord]:
    """Return a run's evaluations, and those that it shares with its group: of teachers, ensembles, student before."""
    shared = [record for record in records if record.group == run.group and record.job_id == run.job_id]
    return [record for record in shared if record.run_id in (None, run.id)]


def contributions(
    config: Mapping[str, Any], metrics: Sequence[Metric], records: Sequence[EvaluationRecord], *, test_set: str
) -> pd.DataFrame:
    """Return what each teacher contributes to a run, one row each, rates in percent.

    Args:
        config: The run's settings.
        metrics: Those whose names begin with ``teacher/``.
        records: Evaluations of its group.
        test_set: Whose error rates stand beside those of the development set.
    """
    values = {item.name: item.value for item in metrics}
    read = {
        record.label: record.wer for record in records if record.subject == "teacher" and record.test_set == test_set
    }
    rows = []
    for number, name in enumerate(named(config)):
        of_it = {key: values.get(f"teacher/{number}/{key}") for key in ("weight", "likeliest", "agreement", "wer")}
        rows.append(
            {
                "Teacher": name,
                "Weight": text.percent(of_it["weight"]),
                "Likeliest in": text.percent(of_it["likeliest"]),
                "Agreement": text.percent(of_it["agreement"]),
                "WER, development": text.percent(of_it["wer"]),
                f"WER, {test_set}": text.percent(read.get(name)),
            }
        )
    return pd.DataFrame(rows)


def offered(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return the finished runs whose students may teach, as settings name them, and what they are called."""
    return {f"{RUN}{run.id}": f"{run.name} · {run.id}" for run in runs if run.state == "finished"}


def share(ensemble: Mapping[str, Any], teachers: int) -> str:
    """Return in words how much each teacher will count."""
    how = ensemble.get("combine", "mean")
    said = COMBINED.get(how, "")
    if how == "mean":
        said = f"{said[:-1]}: {text.percent(1 / max(1, teachers))} each."
    elif how == "weighted":
        said += f" A lead of {ensemble.get('temperature', 5):g} points makes it count 2.7 times as much."
    met = "their mean" if ensemble.get("states") == "mean" else "each of them through a projection of its own"
    return f"{said} Aligned states meet {met}."


def show(run: RunRecord) -> None:
    """Show what each of several teachers contributes to a run."""
    store = state.studio().store
    st.caption(text.plain(share(run.config["ensemble"], len(run.config["teachers"]))))
    of_teachers = [metric for metric in store.metrics(run.id) if metric.name.startswith("teacher/")]
    if not of_teachers:
        st.info("Known once the teachers have listened.", icon=":material/hearing:")
        return
    records = of_group(store.evaluations(job_id=run.job_id), run)
    read = tables.TEST if run.config["evaluation"]["test"] else tables.DEVELOPMENT
    frame = contributions(run.config, of_teachers, records, test_set=read)
    parts.table(frame, alt="What each teacher contributes to this run", numbers=list(frame.columns[1:]))
    st.caption(
        "Weight: how much it counts, a mean over the training utterances. Likeliest in: share of them whose transcript "
        "it finds likeliest of all teachers. Agreement: share of the development set's tokens at which its most likely "
        "token is that of all together."
    )


def heard(run: RunRecord, test_set: str, utterance_id: str) -> list[tuple[str, str | None]]:
    """Return what each teacher, and each ensemble, of a run heard in an utterance."""
    store = state.studio().store
    others = of_group(store.evaluations(job_id=run.job_id, test_set=test_set), run)
    teaching = [other for other in others if other.subject in ("teacher", "ensemble")]
    found: list[tuple[str, str | None]] = []
    for other in teaching:
        said = (item.hypothesis for item in store.utterance_results(other.id) if item.utterance_id == utterance_id)
        who = tables.SUBJECTS[other.subject] + (f" · {other.label}" if len(teaching) > 1 else "")
        found.append((who, next(said, None)))
    return found
