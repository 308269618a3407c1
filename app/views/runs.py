"""Runs: what is running, what needs me, what is best so far?"""

import pandas as pd
import streamlit as st

from app import parts, state, text
from core.runs import ACTIVE, JobRecord, RunRecord

MOST_RUNS = 500


def show() -> None:
    studio = state.studio()
    studio.refresh()
    heading, new = st.columns([4, 1], vertical_alignment="center")
    heading.title("Runs")
    with new:
        state.link("new", "New run", ":material/add_circle:")
    runs = studio.store.runs(limit=MOST_RUNS)
    if not runs:
        _welcome()
        return
    jobs = studio.store.jobs(limit=50)
    active = [job for job in jobs if job.state in ACTIVE]
    if active:
        _live([job.id for job in active])
    _trouble([job for job in jobs[:5] if job.state in ("failed", "interrupted")])
    _table(runs)


def _welcome() -> None:
    with st.container(border=True):
        st.subheader("No runs yet")
        st.markdown(
            "The quick start distils **Whisper tiny.en** into a student with one encoder layer less, five ways, on "
            "generated speech: without the teacher, with its tokens, and with its hidden states aligned along the "
            "chord and along the sphere. It needs no GPU and about ten minutes, and ends in a table of word error "
            "rates that you can take apart."
        )
        if st.button("Run the quick start", type="primary", icon=":material/play_arrow:"):
            job = state.studio().start_quick_start()
            state.go("run", run=state.studio().store.runs(job_id=job.id)[0].id)


@st.fragment(run_every=2)
def _live(job_ids: list[str]) -> None:
    """Show what is running; the page is drawn anew when one of them ends."""
    studio = state.studio()
    studio.refresh()
    jobs = [studio.store.job(job_id) for job_id in job_ids]
    for job in jobs:
        with st.container(border=True):
            name, stop = st.columns([5, 1], vertical_alignment="center")
            name.markdown(f"**{text.plain(job.name)}**")
            if stop.button("Stop", key=f"stop:{job.id}", icon=":material/stop_circle:"):
                studio.stop(job.id)
            parts.job_status(job)
    if any(job.state not in ACTIVE for job in jobs):
        st.rerun()


def _trouble(jobs: list[JobRecord]) -> None:
    for job in jobs:
        parts.ending(job.state, f"{job.name}: {job.message}")


def _table(runs: list[RunRecord]) -> None:
    studio = state.studio()
    wer = {record.run_id: record.wer for record in studio.store.evaluations(test_set="test") if record.run_id}
    shares = {run.id: studio.store.parameters(run.id) for run in runs}
    frame = pd.DataFrame(
        {
            "Run": [run.name for run in runs],
            "State": [run.state for run in runs],
            "Method": [run.method for run in runs],
            "WER": [_scaled(wer.get(run.id)) for run in runs],
            "Trainable": [_scaled(None if (own := shares[run.id]) is None else own.share_of_teacher) for run in runs],
            "Training": [text.duration(run.seconds) for run in runs],
            "Created": [run.created_at for run in runs],
            "Id": [run.id for run in runs],
        }
    )
    event = st.dataframe(
        frame,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        # The rows are part of the key: a selection is a row number, and a new run on top would move it to another run.
        key=f"runs:{runs[0].id}:{len(runs)}",
        column_config={
            "WER": st.column_config.NumberColumn("WER ↓ %", format="%.1f", help="Test set; lower is better."),
            "Trainable": st.column_config.NumberColumn("Trainable %", format="%.2f", help="Share of the teacher."),
            "Created": st.column_config.DatetimeColumn(format="distance"),
        },
        alt="All runs with their state, method, word error rate, trainable share and training time",
    )
    rows = event["selection"]["rows"]
    if rows:
        state.go("run", run=runs[rows[0]].id)
    st.caption(f"{len(runs)} runs, newest first. Choose a row to open it.")


def _scaled(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
