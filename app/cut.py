"""Where a student was cut out of its teacher: the scan of the layers, and the choice."""

import streamlit as st

from app import layer_charts, state, text
from core.layer_cuts import choice_in_words, layers_cut
from core.runs import RunRecord


def show(run: RunRecord) -> None:
    """Show how much each layer does of what a run's student was cut from; nothing where nothing was measured."""
    scan = state.studio().store.layer_scan(run.job_id, run.group)
    student = run.config["student"]
    gone = layers_cut(scan, student) if scan else {}
    if scan is None or not gone:
        return
    st.header("Where the teacher was cut")
    columns = st.columns(2, gap="large")
    for column, side in zip(columns, gone, strict=False):
        frame = layer_charts.single_layers(scan, side, student)
        about = layer_charts.in_words(frame, side)
        with column:
            st.markdown(f"**{side.capitalize()} layers**")
            st.altair_chart(layer_charts.distances(frame, description=about), key=f"cut:{side}:{run.id}")
            with st.expander("As a table", icon=":material/table_rows:"):
                named = {"layer": "Layer", "distance": "Angular distance", "error": "Standard error", "what": "It was"}
                st.dataframe(
                    frame.rename(columns=named),
                    hide_index=True,
                    height="content",
                    column_config={
                        "Layer": st.column_config.NumberColumn(width="small"),
                        "Angular distance": st.column_config.NumberColumn(format="%.3f"),
                        "Standard error": st.column_config.NumberColumn(format="%.3f"),
                    },
                    alt=about,
                )
    said = " ".join(choice_in_words(scan, student))
    measured = (
        f"{said} Mean angle between what enters and what leaves a layer, of π, with its standard error over clips: "
        f"{scan.clips} training clips, {scan.audio_seconds:.0f} s, heard by {scan.model} in "
        f"{text.duration(scan.seconds)} before training. The first layer is not among those that may go."
    )
    st.caption(text.plain(measured))


def line(job_id: str, run: RunRecord) -> None:
    """Say in one line what was cut, and how that was beside the other layers; nothing where nothing was measured."""
    scan = state.studio().store.layer_scan(job_id, run.group)
    if scan is not None:
        for said in choice_in_words(scan, run.config["student"]):
            st.caption(text.plain(said))
