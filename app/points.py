"""The points of a map: which are listed, and all that there is to say of the one that is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app import map_charts, map_tables, maps, parts, state, text
from app.map_tables import MOST_ROWS, PRESETS, Heard
from core.runs import EvaluationRecord, MapPoints, MapRecord, ProbeUtterance, RunRecord


@dataclass(frozen=True)
class View:
    """A map as it is looked at, with what was heard of its utterances.

    Attributes:
        step: Of the student's evaluation; None where nobody listened yet.
        names: Of the points.
    """

    run: RunRecord
    record: MapRecord
    place: maps.Place
    shown: MapPoints
    probe: Sequence[ProbeUtterance]
    names: Sequence[str]
    heard: Heard
    step: int | None

    @classmethod
    def of(cls, run: RunRecord, record: MapRecord, place: maps.Place) -> "View":
        """Read what a map shows."""
        shown, probe = maps.points(record, place), state.studio().probe(run.job_id, run.group)
        names = maps.labels(record, shown, run)
        teacher, student = _evaluations(run, probe, number=record.teacher_number, step=place[2])
        heard = Heard(
            state.results(teacher.id if teacher else None),
            state.results(student.id if student else None),
            next((each.normaliser for each in (teacher, student) if each), ""),
        )
        return cls(run, record, place, shown, probe, names, heard, student.step if student else None)


def _evaluations(
    run: RunRecord, probe: Sequence[ProbeUtterance], *, number: int, step: int
) -> tuple[EvaluationRecord | None, EvaluationRecord | None]:
    """Return a teacher's evaluation of the probe's set, and the student's last one up to a step."""
    split = probe[0].split if probe else "development"
    found = state.studio().store.evaluations(job_id=run.job_id, test_set=split)
    teacher = [item for item in found if item.subject == "teacher" and item.group == run.group]
    student = [item for item in found if item.run_id == run.id and (item.step or 0) <= step]
    student.sort(key=lambda item: item.step or 0)
    # They are stored in the order of the teachers.
    return teacher[number] if number < len(teacher) else None, student[-1] if student else None


def take_from_map(run: RunRecord, record: MapRecord, place: maps.Place) -> None:
    """Choose the point that was clicked on the map."""
    clicked = state.kept(f"map:{record.id}:{place}")["selection"]["points"]
    if clicked:
        names = maps.labels(record, maps.points(record, place), run)
        # The row that was ticked is no longer the point that is chosen: another table, in which none is ticked. Nor is
        # the chosen one ticked there, as the keyboard does not get into a table that begins with a ticked row.
        state.tick("point", names[clicked[0]["point_index"]], elsewhere=True)


def _take_from_table(key: str, names: Sequence[str]) -> None:
    rows: list[int] = state.kept(key)["selection"]["rows"]
    if rows:
        state.tick("point", names[rows[0]])


def table(view: View) -> str | None:
    """Show the points as a table: the same choice as on the map, by keyboard.

    Returns:
        The point in the address; until one is chosen, the first that is listed, which the preset asks for.
    """
    number = state.table_number("point")
    wanted = state.query("point")
    key = state.choice("preset", list(PRESETS))
    preset = st.segmented_control(
        "Which are listed",
        list(PRESETS),
        format_func=PRESETS.__getitem__,
        key=key,
        required=True,
        label_visibility="collapsed",
    )
    preset = state.chosen("preset", preset or "moved")
    frame = map_tables.points(view.shown, view.probe, view.names, view.heard, preset=preset)
    total = len(frame)
    if len(view.names) > MOST_ROWS:
        sought = st.text_input("Find points", placeholder="an utterance, or words of it", key="find points")
        frame = map_tables.found(frame, sought or "")
    matching, frame = len(frame), frame.head(MOST_ROWS)
    if frame.empty:
        st.info(_nothing(view, preset, total), icon=":material/info:")
        return wanted
    names = list(frame["Point"])
    wanted = wanted if wanted in view.names else names[0]
    key = f"points:{view.record.id}:{view.place}:{preset}:{number}:{hash(tuple(names))}"
    rate = st.column_config.NumberColumn
    listed = f"{text.count(len(frame))} of {text.count(matching)}" if matching > len(frame) else text.count(matching)
    # Above the table, whose own buttons appear over what stands there.
    st.caption(f"{listed} listed. Tick a row, or click a point of the map, to hear it and see its neighbours.")
    parts.by_keyboard("points")
    st.dataframe(
        frame,
        hide_index=True,
        height=min(318, 38 + 35 * len(frame)),
        on_select=state.while_here(lambda: _take_from_table(key, names)),
        selection_mode="single-row",
        key=key,
        column_config={
            "Point": "Utterance"
            if view.record.level == "utterances"
            else st.column_config.TextColumn(help="Utterance @ frame (50 a second) or token."),
            "Angle": rate(
                "Angle of the mean states °" if view.record.level == "utterances" else "Angle of this point °",
                format="%.1f",
                help="Between the two that the line joins, in the run's mapping, before the map was made.",
            ),
            "Student": rate("WER %, student", format="%.0f", help="Of the whole utterance."),
            "Teacher": rate("WER %, teacher", format="%.0f", help="Of the whole utterance."),
        },
        alt=f"Points of the map, {PRESETS[preset].lower()}, those first",
    )
    return wanted


def _nothing(view: View, preset: str, total: int) -> str:
    if total:
        return "No point has these letters."
    if view.step is None and preset != "moved":
        return "The student was not transcribed up to this step: choose a later one."
    return f"No utterance is of this kind: {PRESETS[preset].lower()}."


def chosen(view: View, wanted: str | None) -> None:
    """Show all that there is to say of the chosen point."""
    with st.container(border=True):
        if wanted not in view.names:
            st.markdown("**No point chosen**")
            st.caption(
                "Choose one on the map or below it: its audio, what teacher and student heard, and its neighbours."
            )
            return
        place = view.names.index(wanted)
        utterance = view.probe[int(view.shown.utterance[place])]
        _facts(view, utterance, place)
        parts.clip(utterance.audio_path, name=utterance.id)
        teacher, student = (each.get(utterance.id) for each in (view.heard.teacher, view.heard.student))
        when = f"Student, step {view.step}" if view.step is not None else "Student"
        parts.texts(
            utterance.text,
            [
                ("Teacher", teacher.hypothesis if teacher else None),
                (when, student.hypothesis if student else None),
            ],
            normaliser=view.heard.normaliser,
        )
        _neighbours(view, place)


def _facts(view: View, utterance: ProbeUtterance, place: int) -> None:
    """Say which point it is, of whom, how far apart its states are, and how well it was heard."""
    moment = int(view.shown.moment[place])
    name = text.plain(view.names[place])
    if moment >= 0 and view.record.side == "encoder":
        name += f" · at {moment / 50:.2f} s"
    st.markdown(f"**{name}**")
    rates = {
        side: None
        if (item := getattr(view.heard, side).get(utterance.id)) is None
        else item.errors / max(1, item.words)
        for side in ("teacher", "student")
    }
    facts = [
        f"{utterance.duration:.1f} s",
        f"speaker {text.plain(utterance.speaker)}" if utterance.speaker else "speaker unknown",
        f"angle of {'the mean states' if moment < 0 else 'this point'} {text.degrees(float(view.shown.angle[place]))}",
        f"WER teacher {text.percent(rates['teacher'])}, student {text.percent(rates['student'])}",
    ]
    st.caption(" · ".join(facts))


def _neighbours(view: View, place: int) -> None:
    frame, shared = map_tables.neighbours(view.shown, view.names, place)
    name = text.plain(view.names[place])
    if frame.empty:
        st.caption("This map was drawn by an older version, without neighbours. Draw it again to have them.")
        return
    alike = f"{shared} of {len(frame)} the same" if len(frame) < len(view.names) - 1 else "all other points there are"
    st.markdown(f"**Nearest neighbours** · {alike}")
    parts.table(frame, alt=f"The nearest neighbours of {view.names[place]} in the teacher's and in the student's space")
    st.caption(
        "By angle, before the map, among the points shown. = in both, − only the teacher's, + only the student's."
    )
    path = _path(view, place)
    about = (
        f"{name} on the map with its neighbours: {shared} of {len(frame)} are the same for teacher and student. "
        "The line leads from the teacher's state to the student's, over the steps where they were mapped together"
    )
    st.altair_chart(map_charts.close_up(map_tables.close_up(view.shown, view.names, place), path, description=about))
    way = f"The line is its way over {len(path)} steps." if len(path) > 2 else "The line joins its two states."
    st.caption(f"Its place on the map, large, and its neighbours. {way}")


def _path(view: View, place: int) -> pd.DataFrame:
    """Return the student's way over the steps where maps follow each other, else the line to its teacher state."""
    if view.record.step is None:
        own = sorted(each for each in maps.places(view.record) if each[:2] == view.place[:2])
        if len(own) > 2:
            at = [maps.points(view.record, each).student[place] for each in own]
            return pd.DataFrame([{"x": float(x), "y": float(y), "order": order} for order, (x, y) in enumerate(at)])
    ends = [view.shown.teacher[place], view.shown.student[place]]
    return pd.DataFrame([{"x": float(x), "y": float(y), "order": order} for order, (x, y) in enumerate(ends)])
