"""Alignment: how alike are teacher and student, where, and for which utterances?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app import charts, parts, state, tables, teachers, text
from core.runs import AlignmentRecord, MapPoints, MapRecord, ProbeUtterance, RunRecord

LEVELS = {"utterances": "Utterances", "points": "Points"}

MOST_ASKED = 50
"""Among so many of the newest runs one with states is looked for."""


def show() -> None:
    studio = state.studio()
    studio.refresh()
    st.title("Alignment")
    runs = studio.store.runs(limit=500)
    if not runs:
        parts.nothing_yet("No states yet", "Maps of what teacher and student make of the same speech will be here.")
        return
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    if state.query("run") is None:
        state.set_query(run=_with_states(runs))
    with controls:
        run = state.chosen_run(runs, width=280)
    records = studio.store.alignments(run.id)
    if not records:
        st.info("No states of this run are stored. They are taken from its first step on.", icon=":material/info:")
        state.link("run", "To the run", ":material/monitoring:", run=run.id)
        return
    with controls:
        pair, step, level = _choose(records, teachers.named(run.config))
    own = [item for item in records if _pair(item) == pair]
    left, right = st.columns([3, 2], gap="large")
    with left:
        record = _map(run, own[0], step, level) if own[0].teacher_number == 0 else None
        if own[0].teacher_number:
            st.caption("Maps are drawn with the first teacher. The measures beside this are with the chosen one.")
        chosen = _points(run, record) if record is not None else None
    with right:
        if record is not None:
            _utterance(run, record, chosen)
        _measures(own, step)


def _with_states(runs: list[RunRecord]) -> str | None:
    """Return the run that was looked at last, else the newest, that has states."""
    last = state.kept("last run")
    wanted = [*([last] if last else []), *(run.id for run in runs[:MOST_ASKED])]
    return next((run_id for run_id in wanted if state.studio().store.alignments(run_id)), None)


def _pair(record: AlignmentRecord) -> str:
    of = f"-of{record.teacher_number}" if record.teacher_number else ""
    return f"{record.side}-{record.student_layer}-{record.teacher_layer}{of}"


def _choose(records: list[AlignmentRecord], names: list[str]) -> tuple[str, int, str]:
    """Let the user choose layer pair, level and step; the address has them."""
    ordered = sorted(
        records,
        key=lambda item: (item.teacher_number, item.side == "decoder", -item.student_layer, -item.teacher_layer),
    )
    several = any(item.teacher_number for item in records)
    named = {
        _pair(item): f"{item.side.title()}: student layer {item.student_layer} → teacher layer {item.teacher_layer}"
        + (f" of {names[item.teacher_number]}" if several else "")
        for item in ordered
    }
    stages = {str(item.step): item.stage for item in sorted(records, key=lambda item: item.step)}
    steps = list(stages)
    key = state.choice("layers", list(named))
    pair = st.selectbox("Layers", list(named), format_func=named.__getitem__, key=key, width=310)
    key = state.choice("level", list(LEVELS))
    level = st.segmented_control(
        "One dot is",
        list(LEVELS),
        format_func=LEVELS.__getitem__,
        key=key,
        required=True,
    )
    step = steps[0]
    if len(steps) > 1:
        key = state.choice("step", steps, default=steps[-1])
        step = st.select_slider("Step", steps, key=key, width=240, format_func=lambda at: _step_name(at, stages))
    level = level or "utterances"
    return state.chosen("layers", pair), int(state.chosen("step", step)), state.chosen("level", level)


def _step_name(step: str, stages: Mapping[str, str]) -> str:
    return step if stages[step] == "during" else f"{step} ({stages[step]})"


def _map(run: RunRecord, pair: AlignmentRecord, step: int, level: str) -> MapRecord | None:
    """Show the map, or how far it is; return it when it is there."""
    record = _requested(run, pair, step, level)
    if record.state in ("queued", "running"):
        _wait(record)
        return None
    if record.state == "failed":
        st.error(text.plain(record.message), icon=":material/error:")
        if st.button("Draw it again", icon=":material/refresh:"):
            _request(run, pair, step, level)
            st.rerun()
        return None
    points = state.map_points(record)
    st.plotly_chart(
        state.map_figure(record, _labels(record, points, state.studio().probe(run.job_id, run.group))),
        key=f"map:{record.id}",
        on_select=lambda: _take_from_map(record),
        selection_mode="points",
        config={"displaylogo": False, "scrollZoom": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
        alt=(
            f"Map of {record.points} {record.level}, a circle for the teacher's state and a diamond for the student's; "
            "near means alike. The table below lists the same points."
        ),
    )
    count = f"{text.count(record.points)} of {text.count(record.points_total)} {record.level} shown"
    trust = record.trustworthiness
    kept = "" if trust is None else f" The map keeps {trust:.0%} of the neighbourhoods of the states."
    dot = "the mean of an utterance's states" if record.level == "utterances" else "one state, a frame or a token"
    st.caption(
        f"UMAP of both sides together, in one space by {text.plain(record.how)}; one dot is {dot}. {count}.{kept}"
    )
    return record


def _requested(run: RunRecord, pair: AlignmentRecord, step: int, level: str) -> MapRecord:
    """Return the map that was asked for, asking for it once."""
    wanted = (pair.side, pair.student_layer, pair.teacher_layer, step, level)
    for record in state.studio().store.maps(run.id):
        if (record.side, record.student_layer, record.teacher_layer, record.step, record.level) == wanted:
            return record
    return _request(run, pair, step, level)


def _request(run: RunRecord, pair: AlignmentRecord, step: int, level: str) -> MapRecord:
    return state.studio().request_map(
        run.id, pair.side, pair.student_layer, pair.teacher_layer, step, "points" if level == "points" else "utterances"
    )


def _wait(asked: MapRecord) -> None:
    def part() -> bool:
        record = state.studio().store.map(asked.id)
        with st.container(border=True, height=480, vertical_alignment="center", horizontal_alignment="center"):
            st.markdown("**The map is being drawn**", width="content")
            waiting = "It waits for another map." if record.state == "queued" else "UMAP is at work."
            st.caption(f"{waiting} The first takes about half a minute, the next ones seconds.", width="content")
        return record.state in ("finished", "failed")

    state.live(part, seconds=1.0)


def _labels(record: MapRecord, points: MapPoints, probe: list[ProbeUtterance]) -> list[str]:
    """Return a name for every point: its utterance, and its moment where it is one."""
    ids = [probe[place].id for place in points.utterance.tolist()]
    if record.level == "utterances":
        return ids
    return [f"{name}@{moment}" for name, moment in zip(ids, points.moment.tolist(), strict=True)]


def _take_from_map(record: MapRecord) -> None:
    chosen = state.kept(f"map:{record.id}")["selection"]["points"]
    if chosen:
        state.set_query(point=chosen[0]["customdata"])


def _take_from_table(key: str, labels: list[str]) -> None:
    rows = state.kept(key)["selection"]["rows"]
    if rows:
        state.set_query(point=labels[rows[0]])


@dataclass(frozen=True)
class _Chosen:
    """A point of the map that was chosen: its utterance, and the angle between its two states in degrees."""

    utterance: ProbeUtterance
    angle: float


def _points(run: RunRecord, record: MapRecord) -> _Chosen | None:
    """Show the table of the points; return the one that was chosen here or on the map."""
    points, probe = state.map_points(record), state.studio().probe(run.job_id, run.group)
    labels = _labels(record, points, probe)
    owners = [probe[place] for place in points.utterance.tolist()]
    angles = np.degrees(points.angle.astype(float))
    frame = pd.DataFrame({"Point": labels, "Angle": angles, "Said": [owner.text for owner in owners]})
    frame = frame.sort_values("Angle", ascending=False, kind="stable")
    key = f"points:{record.id}"
    st.dataframe(
        frame,
        hide_index=True,
        height=318,
        on_select=lambda: _take_from_table(key, list(frame["Point"])),
        selection_mode="single-row",
        key=key,
        column_config={
            "Point": "Utterance"
            if record.level == "utterances"
            else st.column_config.TextColumn(help="Utterance @ frame (50 a second) or token."),
            "Angle": st.column_config.NumberColumn(
                "Angle ° ↓", format="%.1f", help="Between the student's and the teacher's state, before the map."
            ),
        },
        alt="The points of the map, those first whose student and teacher states are furthest apart",
    )
    st.caption("The points of the map, furthest apart first. Choose a row, or click a point, to hear the utterance.")
    wanted = state.query("point")
    if wanted not in labels:
        return None
    place = labels.index(wanted)
    return _Chosen(owners[place], float(angles[place]))


def _utterance(run: RunRecord, record: MapRecord, chosen: _Chosen | None) -> None:
    """Show the chosen point's utterance: its audio, what was said, and what was heard."""
    with st.container(border=True):
        if chosen is None:
            st.markdown("**No utterance chosen**")
            st.caption("Choose one below the map: its audio, and what teacher and student heard, appear here.")
            return
        utterance = chosen.utterance
        facts = f"{utterance.duration:.1f} s · angle {chosen.angle:.1f}°"
        speaker = f" · {utterance.speaker}" if utterance.speaker else ""
        st.markdown(f"**{text.plain(utterance.id)}** · {text.plain(facts + speaker)}")
        parts.clip(utterance.audio_path, name=utterance.id)
        store = state.studio().store
        evaluations = teachers.of_group(store.evaluations(job_id=run.job_id, test_set=utterance.split), run)
        teacher = [item for item in evaluations if item.subject == "teacher"]
        student = [item for item in evaluations if item.run_id == run.id and (item.step or 0) <= record.step]
        student.sort(key=lambda item: item.step or 0)
        heard = [("Teacher", _heard(teacher[-1].id if teacher else None, utterance.id))]
        when = f"Student, step {student[-1].step}" if student else "Student"
        heard.append((when, _heard(student[-1].id if student else None, utterance.id)))
        parts.texts(utterance.text, heard)


def _heard(evaluation_id: int | None, utterance_id: str) -> str | None:
    if evaluation_id is None:
        return None
    results = state.studio().store.utterance_results(evaluation_id)
    return next((item.hypothesis for item in results if item.utterance_id == utterance_id), None)


def _measures(records: list[AlignmentRecord], step: int) -> None:
    """Show the measures before and at the chosen step, and over all steps."""
    records = sorted(records, key=lambda item: item.step)
    before, now = records[0], next(item for item in records if item.step == step)
    st.header("How alike")
    frame = tables.measures(before, now)
    parts.table(frame, alt="Measures of alignment before and at the chosen step", numbers=list(frame.columns[1:]))
    st.caption(
        f"{text.count(now.points)} pairs of states. CKA is debiased; the angle is that of the loss, after the "
        f"projection; neighbours are the {now.neighbours} nearest."
    )
    if len(records) < 2:
        return
    for title, values in (
        ("Linear CKA ↑", [item.linear_cka for item in records]),
        ("Angle ° ↓", [math.degrees(item.geodesic_angle) for item in records]),
        ("Shared neighbours % ↑", [100 * item.mutual_knn for item in records]),
    ):
        data = pd.DataFrame({"step": [item.step for item in records], "series": title, "value": values}).dropna()
        if data.empty:
            continue
        about = f"{title} over the steps, from {data['value'].iloc[0]:.3g} to {data['value'].iloc[-1]:.3g}"
        st.markdown(f"**{title}**")
        st.altair_chart(charts.curve(data, description=about, markers=True, height=110), key=f"over:{title}")


if __name__ == "__main__":
    with state.sentences():
        show()
