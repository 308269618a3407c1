"""Alignment: how alike are teacher and student, where, and for which utterances?"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from safetensors.numpy import load_file

from app import charts, parts, state, text
from core.errors import StoreError
from core.runs import AlignmentRecord, MapRecord, RunRecord

LEVELS = {"utterances": "Utterances (mean of their states)", "points": "Points (frames or tokens)"}


def show() -> None:
    studio = state.studio()
    studio.refresh()
    st.title("Alignment")
    runs = studio.store.runs(limit=500)
    if not runs:
        st.info("Maps of teacher and student states appear here with the first run.", icon=":material/scatter_plot:")
        state.link("runs", "To the quick start", ":material/list:")
        return
    run = state.chosen_run(runs)
    records = studio.store.alignments(run.id)
    if not records:
        st.info(
            "No states have been stored yet. They are taken from the first step on.", icon=":material/hourglass_top:"
        )
        state.link("run", "To the run", ":material/monitoring:", run=run.id)
        return
    pair, step, level = _choose(records)
    left, right = st.columns([3, 2], gap="large")
    with left:
        record = studio.request_map(run.id, pair.side, pair.student_layer, pair.teacher_layer, step, level)
        _map(run, record)
    with right:
        _measures([item for item in records if _same_pair(item, pair)])


def _choose(records: list[AlignmentRecord]) -> tuple[AlignmentRecord, int, Any]:
    """Let the user choose layer pair, step and level; the address has them."""
    pairs = {f"{item.side}-{item.student_layer}-{item.teacher_layer}": item for item in records}
    order = sorted(pairs, key=lambda key: (pairs[key].side != "encoder", -pairs[key].student_layer))
    steps = sorted({item.step for item in records})
    layer, level, when = st.columns([2, 2, 3])
    wanted = state.query("layer")
    chosen = layer.selectbox(
        "Layers",
        order,
        index=order.index(wanted) if wanted in order else 0,
        format_func=lambda key: (
            f"{pairs[key].side.title()}: student {pairs[key].student_layer} → teacher {pairs[key].teacher_layer}"
        ),
    )
    kinds = list(LEVELS)
    chosen_level = level.selectbox(
        "Level",
        kinds,
        index=kinds.index("points") if state.query("level") == "points" else 0,
        format_func=LEVELS.__getitem__,
    )
    asked = state.query("step")
    start = int(asked) if asked and asked.isdecimal() and int(asked) in steps else steps[-1]
    step = when.select_slider("Step", steps, value=start) if len(steps) > 1 else steps[0]
    state.set_query(layer=chosen, level=chosen_level, step=step)
    return pairs[chosen], step, chosen_level


def _same_pair(one: AlignmentRecord, other: AlignmentRecord) -> bool:
    return (one.side, one.student_layer, one.teacher_layer) == (other.side, other.student_layer, other.teacher_layer)


def _map(run: RunRecord, record: MapRecord) -> None:
    if record.state in ("queued", "running"):
        _wait(record.id)
        return
    if record.state == "failed":
        st.error(text.plain(record.message), icon=":material/error:")
        return
    arrays, probe = _map_data(str(state.studio().runs_folder / record.path)), _probe(run)
    ids = [probe[int(index)]["id"] for index in arrays["utterance"]]
    labels = (
        ids
        if record.level == "utterances"
        else [f"{name} · {moment}" for name, moment in zip(ids, arrays["moment"].tolist(), strict=True)]
    )
    about = (
        f"Map of {record.points} student and teacher states of one layer pair; near points are alike. "
        "The table below holds the same points."
    )
    st.plotly_chart(
        _figure(str(state.studio().runs_folder / record.path), labels),
        key=f"map:{record.id}",
        config={"displaylogo": False, "scrollZoom": True},
        alt=about,
    )
    shown = f"{text.count(record.points)} of {text.count(record.points_total)} {record.level} shown"
    trust = "" if record.trustworthiness is None else f" The map keeps {record.trustworthiness:.0%} of neighbourhoods."
    st.caption(text.plain(f"UMAP of both sides together, brought into one space by: {record.how}. {shown}.{trust}"))
    _points(run, record, arrays, probe, labels)


@st.cache_data(max_entries=32, show_spinner=False)
def _map_data(path: str) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise StoreError(f"The map's file {path} is gone. Choose another step, or put the file back.")
    return load_file(path)


@st.cache_data(max_entries=32, show_spinner=False)
def _figure(path: str, labels: list[str]) -> Any:
    """Return the figure, the same to the byte at every rerun, so that zoom survives a choice in the table."""
    arrays = _map_data(path)
    return charts.alignment_map(student=arrays["student_xy"], teacher=arrays["teacher_xy"], labels=labels)


@st.fragment(run_every=1)
def _wait(map_id: int) -> None:
    studio = state.studio()
    studio.refresh()
    record = studio.store.map(map_id)
    if record.state in ("finished", "failed"):
        st.rerun()
    with st.container(border=True, height=300):
        st.markdown("**The map is being drawn**")
        st.caption(
            "The first one after a start takes about half a minute, later ones seconds. You may leave this page."
        )
        st.progress(
            0.5 if record.state == "running" else 0.1, text="Drawing" if record.state == "running" else "In line"
        )


def _points(
    run: RunRecord, record: MapRecord, arrays: dict[str, np.ndarray], probe: list[dict[str, Any]], labels: list[str]
) -> None:
    """Show the table of the points; a chosen row is heard and read."""
    owners = arrays["utterance"].tolist()
    frame = pd.DataFrame(
        {
            "Point": labels,
            "Angle": np.degrees(arrays["angle"]),
            "Seconds": [probe[owner]["duration"] for owner in owners],
            "Reference": [probe[owner]["text"] for owner in owners],
        }
    )
    order = frame.sort_values("Angle", ascending=False, kind="stable").index
    event = st.dataframe(
        frame.loc[order],
        hide_index=True,
        height=260,
        on_select="rerun",
        selection_mode="single-row",
        key=f"points:{record.id}",
        column_config={
            "Angle": st.column_config.NumberColumn(
                "Angle ↓ °", format="%.1f", help="Between student and teacher state."
            ),
            "Seconds": st.column_config.NumberColumn(format="%.1f"),
        },
        alt="The points of the map: utterance, angle between student and teacher state, length and text",
    )
    st.caption("Furthest apart first. Choose a row to hear the utterance and read its texts.")
    wanted = state.query("point")
    rows = event["selection"]["rows"]
    chosen = int(order[rows[0]]) if rows else labels.index(wanted) if wanted in labels else None
    if chosen is None:
        return
    state.set_query(point=labels[chosen])
    _utterance(run, probe[owners[chosen]])


def _utterance(run: RunRecord, utterance: dict[str, Any]) -> None:
    with st.container(border=True):
        st.markdown(f"**{text.plain(utterance['id'])}** · {utterance['duration']:.1f} s")
        parts.clip(utterance["audio_path"])
        evaluations = state.studio().store.evaluations(job_id=run.job_id, test_set="development")
        teacher = [record.id for record in evaluations if record.subject == "teacher"]
        student = [record.id for record in evaluations if record.run_id == run.id]
        parts.texts(
            utterance["text"],
            [("Teacher", _hypothesis(teacher, utterance["id"])), ("Student", _hypothesis(student, utterance["id"]))],
        )


def _hypothesis(evaluations: list[int], utterance_id: str) -> str | None:
    """Return what the last of some evaluations heard in an utterance."""
    if not evaluations:
        return None
    results = state.studio().store.utterance_results(evaluations[-1])
    return next((item.hypothesis for item in results if item.utterance_id == utterance_id), None)


def _measures(records: list[AlignmentRecord]) -> None:
    """Show the measures before and after, and over the steps."""
    records = sorted(records, key=lambda item: item.step)
    before, after = records[0], records[-1]
    st.subheader("How alike")
    for name, value, good, about in (
        ("Linear CKA", lambda item: item.linear_cka, "normal", "Debiased; 1 means the same up to rotation and scale."),
        ("Mean angle, °", lambda item: math.degrees(item.geodesic_angle), "inverse", "Between paired states, centred."),
        (
            "Shared neighbours",
            lambda item: item.mutual_knn,
            "normal",
            f"Of the {after.neighbours} nearest, on both sides.",
        ),
    ):
        last = value(after)
        st.metric(
            name,
            text.decimal(last),
            delta=None if before is after else round(last - value(before), 3),
            delta_color=good,  # pyright: ignore[reportArgumentType]
            help=about,
            border=True,
        )
    st.caption(f"At step {after.step}, change since step {before.step}; {after.points} paired states of the probe set.")
    if len(records) > 1:
        frame = pd.DataFrame(
            [(item.step, name, value) for item in records for name, value in _series(item)],
            columns=["step", "series", "value"],
        )
        st.altair_chart(
            charts.curve(frame, unit="Measure", description="CKA and shared neighbours over the steps", markers=True),
            key="measures",
        )


def _series(item: AlignmentRecord) -> list[tuple[str, float]]:
    return [("Linear CKA", item.linear_cka), ("Shared neighbours", item.mutual_knn)]


def _probe(run: RunRecord) -> list[dict[str, Any]]:
    path = state.studio().runs_folder / "jobs" / run.job_id / "probe.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"The list of probe utterances {path} cannot be read ({error}). Put it back.") from error
