"""Run: how is this run doing?"""

import pandas as pd
import streamlit as st
import yaml

from app import charts, parts, state, text
from core.runs import ACTIVE, EvaluationRecord, RunRecord

MOST_UTTERANCES = 200


def show() -> None:
    studio = state.studio()
    studio.refresh()
    runs = studio.store.runs(limit=500)
    if not runs:
        st.title("Run")
        st.info("There are no runs yet.", icon=":material/info:")
        state.link("runs", "To the quick start", ":material/list:")
        return
    run = state.chosen_run(runs)
    st.title(text.plain(run.name))
    _head(run)
    overview, curves, utterances, settings = st.tabs(["Overview", "Curves", "Utterances", "Settings"])
    with overview:
        _overview(run)
    with curves:
        _curves(run.id, live=run.state in ACTIVE)
    with utterances:
        _utterances(run)
    with settings:
        st.code(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True), language="yaml")
        st.caption(f"As it ran. Hash {run.config_hash}. Save it as a file and start it again with: manifold run FILE")


def _head(run: RunRecord) -> None:
    job = state.studio().store.job(run.job_id)
    if run.state in ACTIVE:
        _live_head(run.id)
    else:
        parts.state_badge(run.state)
        message = run.message or (job.message if run.state != "finished" else "")
        if message:
            parts.ending(run.state, message)
        if run.state in ("failed", "interrupted"):
            parts.log_tail(job)
    with st.container(horizontal=True):
        state.link("alignment", "Alignment", ":material/scatter_plot:", run=run.id)
        state.link("ablations", "Ablation table", ":material/table:", job=run.job_id)


@st.fragment(run_every=2)
def _live_head(run_id: str) -> None:
    studio = state.studio()
    studio.refresh()
    run = studio.store.run(run_id)
    job = studio.store.job(run.job_id)
    if run.state not in ACTIVE:
        st.rerun()
    parts.state_badge(run.state)
    if run.state == "running":
        st.caption(f"Step {run.step} of {run.steps}")
    parts.job_status(job)
    with st.container(horizontal=True):
        if st.button("Stop", icon=":material/stop_circle:", help="At the next step; what it has is kept."):
            studio.stop(job.id)
        if st.button("Stop now", icon=":material/dangerous:", help="At once; what it was doing is lost."):
            studio.stop(job.id, now=True)
    if job.message:
        parts.log_tail(job)


def _overview(run: RunRecord) -> None:
    store = state.studio().store
    counts = store.parameters(run.id)
    evaluations = [record for record in store.evaluations(job_id=run.job_id) if record.run_id in (None, run.id)]
    own = next((record for record in evaluations if record.run_id and record.test_set == "test"), None)
    test = {record.subject: record for record in evaluations if record.test_set == "test"}
    first, second, third, fourth = st.columns(4)
    teacher, before = test.get("teacher"), test.get("student_before")
    first.metric("WER ↓", text.percent(own.wer if own else None), border=True)
    second.metric("Teacher", text.percent(teacher.wer if teacher else None), border=True)
    third.metric("Student before", text.percent(before.wer if before else None), border=True)
    fourth.metric("Trainable of teacher", text.percent(counts.share_of_teacher if counts else None, 2), border=True)
    if counts is None:
        st.caption("Parameters are counted when the run begins.")
    else:
        st.subheader("Parameters")
        parts.parameters(counts)
    if evaluations:
        st.subheader("Evaluations")
        st.dataframe(
            _evaluation_frame(evaluations),
            hide_index=True,
            column_config={
                "WER": st.column_config.NumberColumn("WER ↓ %", format="%.1f"),
                "CER": st.column_config.NumberColumn("CER ↓ %", format="%.1f"),
                "Held-out KL": st.column_config.NumberColumn(format="%.3f", help="Nats per token; lower is closer."),
                "Real-time factor": st.column_config.NumberColumn(format="%.3f", help="Decoding time over audio time."),
                "Context": st.column_config.NumberColumn(format="%g s"),
            },
        )
        st.caption(f"Seed {run.seed}. {text.plain(evaluations[0].normaliser)}; {text.plain(evaluations[0].decoding)}.")
    st.caption(f"Training time {text.duration(run.seconds)}. Created {text.moment(run.created_at)}.")


def _evaluation_frame(records: list[EvaluationRecord]) -> pd.DataFrame:
    who = {"teacher": "Teacher", "student_before": "Student before", "student": "Student"}
    return pd.DataFrame(
        {
            "Model": [who[record.subject] for record in records],
            "Set": [record.test_set for record in records],
            "Step": [record.step for record in records],
            "WER": [100 * record.wer for record in records],
            "CER": [100 * record.cer for record in records],
            "S": [record.substitutions for record in records],
            "D": [record.deletions for record in records],
            "I": [record.insertions for record in records],
            "Words": [record.words for record in records],
            "Held-out KL": [record.heldout_kl for record in records],
            "Real-time factor": [record.real_time_factor for record in records],
            "Context": [record.audio_context for record in records],
        }
    )


def _curves(run_id: str, *, live: bool) -> None:
    if live:
        _live_curves(run_id)
    else:
        _draw_curves(run_id)


@st.fragment(run_every=2)
def _live_curves(run_id: str) -> None:
    _draw_curves(run_id)


def _draw_curves(run_id: str) -> None:
    metrics = state.studio().store.metrics(run_id)
    if not metrics:
        st.info("Curves appear with the first step.", icon=":material/show_chart:")
        return
    frame = pd.DataFrame(
        [(metric.name, metric.step, metric.value) for metric in metrics], columns=["name", "step", "value"]
    )
    left, right = st.columns(2)
    for place, group, unit, about in (
        (left, "loss/", "Loss", "Each term of the objective, without its weight, and their weighted sum"),
        (right, "share/", "Share", "Share of each weighted term in the sum"),
        (left, "development/wer", "WER %", "Word error rate on the development set, which chooses the checkpoint"),
        (right, "gradient_norm/", "Norm", "Norm of the gradients before clipping"),
        (left, "learning_rate", "Rate", "Learning rate"),
    ):
        part = frame[frame["name"].str.startswith(group)].copy()
        if part.empty:
            continue
        part["series"] = part["name"].str.removeprefix(group).map(text.words).replace("", unit)
        if group == "development/wer":
            part["value"] *= 100
            part["series"] = "Development"
        with place.container(border=True):
            st.markdown(f"**{about}**")
            if group == "share/":
                st.altair_chart(charts.shares(part, description=about), key=f"{group}:{run_id}")
            else:
                chart = charts.curve(part, unit=unit, description=about, markers=group == "development/wer")
                st.altair_chart(chart, key=f"{group}:{run_id}")


def _utterances(run: RunRecord) -> None:
    store = state.studio().store
    evaluations = [
        record for record in store.evaluations(run_id=run.id) if record.subject == "student" and record.words
    ]
    if not evaluations:
        st.info("Utterances appear after the first evaluation.", icon=":material/graphic_eq:")
        return
    named = {record.id: f"{record.test_set}, step {record.step}" for record in evaluations}
    order = sorted(named, key=lambda key: (named[key].startswith("development"), -key))
    choice = st.selectbox("Set", order, format_func=named.__getitem__)
    results = sorted(
        store.utterance_results(choice), key=lambda item: (-item.errors / max(1, item.words), item.position)
    )[:MOST_UTTERANCES]
    frame = pd.DataFrame(
        {
            "Utterance": [item.utterance_id for item in results],
            "WER": [100 * item.errors / max(1, item.words) for item in results],
            "Errors": [item.errors for item in results],
            "Words": [item.words for item in results],
            "Reference": [item.reference for item in results],
        }
    )
    event = st.dataframe(
        frame,
        hide_index=True,
        height=280,
        on_select="rerun",
        selection_mode="single-row",
        key=f"utterances:{choice}",
        column_config={"WER": st.column_config.NumberColumn("WER ↓ %", format="%.0f")},
    )
    st.caption(f"{len(results)} utterances, worst first. Choose a row to hear it.")
    for row in event["selection"]["rows"]:
        item = results[row]
        with st.container(border=True):
            parts.clip(item.audio_path)
            parts.texts(item.reference, [("Student", item.hypothesis)])
