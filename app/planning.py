"""What a larger job of the same runs would take: asked for in numbers, answered at once."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import checks, state, text
from core.config import RunConfig
from core.errors import ConfigError, Problem
from core.runs import Plan, Size

TO_MEASURE = (
    "Nothing was measured on this machine yet, so nothing can be predicted. Measure its parts once, in some minutes, "
    "while nothing else runs: `manifold plan --measure`"
)


def show(runs: Sequence[RunConfig]) -> None:
    """Let a size be chosen, and show what a job of it takes."""
    with st.expander("Plan a larger run", icon=":material/query_stats:"):
        size = _asked(len(runs), runs[0].training.devices)
        try:
            found = state.studio().plan(runs, size)
        except ConfigError as error:
            checks.list_mistakes(error.problems or [Problem("", error.summary)])
            return
        if found is None:
            st.info(TO_MEASURE, icon=":material/info:")
        else:
            _draw(found, size)


def _asked(students: int, devices: int) -> Size:
    columns = st.columns(5)
    hours = columns[0].number_input("Hours of audio", min_value=0.1, value=100.0, key="plan hours")
    clip = columns[1].number_input("Seconds in a clip", min_value=0.5, max_value=30.0, value=10.0, key="plan clip")
    many = columns[2].number_input("Students", min_value=1, value=students, key=f"plan students {students}")
    epochs = columns[3].number_input("Epochs", min_value=0.1, value=1.0, key="plan epochs")
    shared_by = columns[4].number_input("Devices", min_value=1, value=devices, key=f"plan devices {devices}")
    return Size(hours=hours, students=int(many), epochs=epochs, devices=int(shared_by), clip_seconds=clip)


def _draw(found: Plan, size: Size) -> None:
    totals = (
        ("Time", found.total_seconds, text.duration),
        ("Memory of a device", found.total_memory, text.size),
        ("Disk", found.total_disk, text.size),
    )
    with st.container(horizontal=True):
        for label, value, say in totals:
            low, high = found.between(value)
            st.metric(
                label, say(value), f"{say(low)} to {say(high)}", delta_color="off", delta_arrow="off", border=True
            )
    if found.total_memory > found.free:
        st.warning(
            f"A device has {text.size(found.free)} of memory: take less audio, fewer compared layers, or a "
            "smaller model.",
            icon=":material/memory:",
        )
    frame = pd.DataFrame(
        {
            "Part": [text.words(name) for name in found.seconds],
            "Time": [text.duration(s) for s in found.seconds.values()],
        }
    )
    st.dataframe(frame, hide_index=True, height="content", alt="What each part of the planned job takes")
    each = " The first device listens for all." if size.devices > 1 else ""
    said = f"Predicted, to {text.percent(found.error, 0)}, from parts: {found.device}. {found.steps} steps.{each}"
    st.caption(text.plain(f"{said} {found.left_out}"))
