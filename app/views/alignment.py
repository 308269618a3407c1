"""Alignment: how alike are teacher and student, where, and for which utterances?"""

from collections.abc import Mapping
from datetime import UTC, datetime

import streamlit as st

from app import likeness, map_tables, maps, parts, points, state, teachers, text
from core.runs import AlignmentRecord, MapRecord, RunRecord

LEVELS = {"utterances": "Utterances", "points": "Points"}
MAPS = {"all": "All steps", "one": "This step"}

MOST_ASKED = 50
"""Among so many of the newest runs one with states is looked for."""

BUTTONS_LEFT_OUT = ["select2d", "lasso2d"]


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
    measured = studio.store.alignments(run.id)
    if not measured:
        st.info("No states of this run are stored. They are taken from its first step on.", icon=":material/info:")
        state.link("run", "To the run", ":material/monitoring:", run=run.id)
        return
    with controls:
        number = _choose_teacher(run, {item.teacher_number for item in measured})
        records = [item for item in measured if item.teacher_number == number]
        now = _choose(records)
        states = studio.has_states(run, number)
        drawn = None if states else _drawn(run, number, now.side)
        chosen = _choose_map(drawn) if drawn is None or drawn else None
    if drawn:
        st.caption(
            ":material/info: The states of this run did not come with it, so no further maps can be drawn of it here: "
            "these are the ones that came."
        )
    if chosen is not None:
        _explore(run, now, *chosen)
    else:
        which = "of this teacher were not stored, as newer runs store those of all their teachers"
        which = which if number else f"of the {now.side} are not here"
        st.info(
            f"The states {which}: there is no map of them, and there are no intervals. Run it again to have them.",
            icon=":material/info:",
        )
    likeness.show([item for item in records if _pair(item) == _pair(now)], now, asks=states)


def _with_states(runs: list[RunRecord]) -> str | None:
    """Return the run that was looked at last, else the newest, that has states."""
    last = state.kept("last run")
    wanted = [*([last] if last else []), *(run.id for run in runs[:MOST_ASKED])]
    return next((run_id for run_id in wanted if state.studio().store.alignments(run_id)), None)


def _choose_teacher(run: RunRecord, numbers: set[int]) -> int:
    """Let the user choose the teacher that the student stands beside, where it met several; return its number."""
    if numbers == {0}:
        return 0
    labels = dict(enumerate(teachers.named(run.config)))
    options = [str(number) for number in sorted(numbers)]
    key = state.choice("teacher", options)
    value = st.selectbox(
        "Teacher",
        options,
        format_func=lambda number: f"{int(number) + 1} · {labels.get(int(number), number)}",
        key=key,
        width=220,
    )
    return int(state.chosen("teacher", value))


def _drawn(run: RunRecord, number: int, side: str) -> set[str]:
    """Return the levels of the maps of all steps of a side with a teacher that are there."""
    maps = [record for record in state.studio().store.maps(run.id) if record.path and record.step is None]
    return {record.level for record in maps if (record.teacher_number, record.side) == (number, side)}


def _pair(record: AlignmentRecord) -> str:
    return f"{record.side}-{record.student_layer}-{record.teacher_layer}"


def _choose(records: list[AlignmentRecord]) -> AlignmentRecord:
    """Let the user choose a layer pair and a step that there are states of; the address has them."""
    order = sorted(records, key=lambda item: (item.side == "decoder", item.student_layer, item.teacher_layer))
    named = {_pair(item): f"{item.side.title()} {item.student_layer} → {item.teacher_layer}" for item in order}
    default = max((item for item in order if item.side == order[0].side), key=lambda item: item.student_layer)
    pair = _pairs(named, default=_pair(default))
    own = {str(item.step): item for item in records if _pair(item) == pair}
    steps = {step: own[step].stage for step in sorted(own, key=int)}
    named = {step: step if stage == "during" else f"{step} ({stage})" for step, stage in steps.items()}
    return own[_slider("step", "Step", named, default=list(steps)[-1])]


def _pairs(named: Mapping[str, str], *, default: str) -> str:
    """Let the user choose one of the layer pairs that met, which are listed; one alone needs no choice."""
    key = state.choice("layer", list(named), default=default)
    if len(named) == 1:
        return state.chosen("layer", next(iter(named)))
    label = "Layers, student → teacher"
    value = st.selectbox(label, list(named), key=key, width=190, format_func=named.__getitem__)
    return state.chosen("layer", value)


def _slider(name: str, label: str, named: Mapping[str, str], *, default: str) -> str:
    """Let the user choose one of a row of values; one alone needs no choice."""
    key = state.choice(name, list(named), default=default)
    if len(named) == 1:
        return state.chosen(name, next(iter(named)))
    value = st.select_slider(label, list(named), key=key, width=180, format_func=named.__getitem__)
    return state.chosen(name, value)


def _choose_map(drawn: set[str] | None) -> tuple[str, str]:
    """Let the user choose what a dot is, and whether the maps of all steps are aligned with each other.

    Args:
        drawn: Levels of the only maps to choose from, which are of all steps; None where any can be drawn.
    """
    levels = {level: label for level, label in LEVELS.items() if drawn is None or level in drawn}
    level = _segments("level", "One dot is", levels, "The mean of an utterance's states, or one frame or token.")
    kinds = MAPS if drawn is None else {"all": MAPS["all"]}
    about = "All layers and steps, aligned with each other, or this step alone with more points."
    return level, _segments("map", "Map", kinds, about)


def _segments(name: str, label: str, options: Mapping[str, str], about: str) -> str:
    """Let the user choose one of two; one alone needs no choice."""
    key = state.choice(name, list(options))
    if len(options) == 1:
        return state.chosen(name, next(iter(options)))
    value = st.segmented_control(
        label, list(options), format_func=options.__getitem__, key=key, required=True, help=about
    )
    return state.chosen(name, value or next(iter(options)))


@st.fragment
def _explore(run: RunRecord, now: AlignmentRecord, level: str, kind: str) -> None:
    """Show the map, its points and the one that is chosen; a click draws no more than this anew."""
    with state.sentences():
        left, right = st.columns([3, 2], gap="large")
        with left:
            record = _record(run, now, level, kind)
            place = _map(run, record, now)
            view = None if place is None else points.View.of(run, record, place)
            wanted = None if view is None else points.table(view)
        with right:
            if view is not None:
                points.chosen(view, wanted)


def _record(run: RunRecord, now: AlignmentRecord, level: str, kind: str, *, again: bool = False) -> MapRecord:
    """Return the map that is looked at, asking for it once."""
    one = (now.student_layer, now.teacher_layer, now.step)
    wanted = (now.side, *(one if kind == "one" else (None, None, None)), level)
    for record in state.studio().store.maps(run.id):
        place = (record.side, record.student_layer, record.teacher_layer, record.step, record.level)
        if place == wanted and record.teacher_number == now.teacher_number and not again:
            return record
    side, mine, theirs, step, _ = wanted
    return state.studio().request_map(
        run.id,
        side,
        mine,
        theirs,
        step,
        "points" if level == "points" else "utterances",
        teacher_number=now.teacher_number,
        again=again,
    )


def _map(run: RunRecord, record: MapRecord, now: AlignmentRecord) -> maps.Place | None:
    """Show the map with its age if it is old, or how far it is; return the place that it shows."""
    there = maps.places(record) if state.studio().map_made_at(record) else []
    # A file of an older version does not say which place it is of: the record does.
    wanted = (now.student_layer, now.teacher_layer, now.step)
    there = there or ([wanted] if record.path and record.step is not None else [])
    waits = record.state in ("queued", "running")
    if record.state == "failed":
        st.error(text.plain(record.message), icon=":material/error:")
    if waits:
        _wait(record, small=bool(there))
    earlier = [place for place in there if place[:2] == wanted[:2] and place[2] <= wanted[2]]
    place = wanted if wanted in there else max(earlier, key=lambda each: each[2], default=None)
    if not waits and (place != wanted or record.state == "failed"):
        if place is not None:
            age = text.ago(state.studio().map_made_at(record), datetime.now(UTC))
            st.warning(f"This map was drawn {age}, before step {now.step}. It shows step {place[2]}.")
        if st.button("Draw it again", icon=":material/refresh:"):
            _record(run, now, record.level, "all" if record.step is None else "one", again=True)
            st.rerun()
    if place is not None:
        _picture(run, record, place, steps=len({each[2] for each in there}))
    return place


def _picture(run: RunRecord, record: MapRecord, place: maps.Place, *, steps: int) -> None:
    shown = maps.points(record, place)
    st.plotly_chart(
        maps.figure(record, place, run),
        key=f"map:{record.id}:{place}",
        on_select=state.while_here(lambda: points.take_from_map(run, record, place)),
        selection_mode="points",
        config={"displaylogo": False, "scrollZoom": True, "modeBarButtonsToRemove": BUTTONS_LEFT_OUT},
        alt=(
            f"Map of {record.points} {record.level}, a circle for the teacher's state and a diamond for the student's; "
            "near means alike. The table below lists the same points."
        ),
    )
    count = f"{text.count(record.points)} of {text.count(record.points_total)} {record.level} shown"
    if record.points < record.points_total:
        count += f", stratified by {record.stratified}"
    dot = "the mean of an utterance's states" if record.level == "utterances" else "one state, a frame or a token"
    st.caption(
        f"UMAP of both sides together, in one space by {text.plain(record.how)}"
        f"{f' over {steps} steps' if record.step is None and steps > 1 else ''}. One dot is {dot}. "
        f"{count}.{map_tables.keeps(shown, trust=record.trustworthiness)} "
        f"Lines join the {text.count(min(len(shown.angle), 200))} pairs that are furthest apart."
    )


def _wait(asked: MapRecord, *, small: bool) -> None:
    """Say how far a map is until it is there, in the place of the picture or above the one that there was."""

    def part() -> bool:
        record = state.studio().store.map(asked.id)
        waiting = "It waits for its turn." if record.state == "queued" else "UMAP is at work."
        if small:
            st.caption(f":material/hourglass_top: It is being drawn again. {waiting} Until then, this one stays.")
        else:
            with st.container(border=True, height=480, vertical_alignment="center", horizontal_alignment="center"):
                st.markdown("**The map is being drawn**", width="content")
                st.caption(f"{waiting} The first takes about half a minute, the next ones seconds.", width="content")
        return record.state in ("finished", "failed")

    state.live(part, seconds=1.0)


if __name__ == "__main__":
    with state.sentences():
        show()
