"""Pieces that several pages show: states, clips with their texts, parameter tables."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import streamlit as st

from app import state, text
from core.runs import ACTIVE, JobRecord, ParameterCounts, RunRecord
from core.wer import word_difference

STATES = {
    "queued": ("gray", ":material/schedule:"),
    "starting": ("blue", ":material/hourglass_top:"),
    "running": ("blue", ":material/play_circle:"),
    "stopping": ("orange", ":material/stop_circle:"),
    "finished": ("green", ":material/check_circle:"),
    "failed": ("red", ":material/error:"),
    "stopped": ("gray", ":material/stop_circle:"),
    "interrupted": ("orange", ":material/link_off:"),
}


def state_badge(name: str) -> None:
    """Show a state by word, sign and colour."""
    colour, icon = STATES[name]
    st.badge(name, icon=icon, color=colour)  # pyright: ignore[reportArgumentType]


def job_status(job: JobRecord) -> None:
    """Show how far a job is, or how it ended."""
    if job.state in ACTIVE:
        left = "" if job.eta_seconds is None else f" · about {text.duration(job.eta_seconds)} left"
        seen = text.ago(job.heartbeat_at, datetime.now(UTC))
        stage = job.stage or ("Waiting for its turn" if job.state == "queued" else "Starting")
        st.progress(min(1.0, job.done / job.total) if job.total else 0.0, text=f"{text.plain(stage)}{left}")
        st.caption(f"Worker last heard of {seen}.")
    elif job.message:
        ending(job.state, job.message)


def ending(name: str, message: str) -> None:
    """Show how something ended, in its own words."""
    show = {"failed": st.error, "interrupted": st.warning}.get(name, st.info)
    show("  \n".join(text.plain(line) for line in message.splitlines()), icon=STATES[name][1])


def log_tail(job: JobRecord, *, lines: int = 25) -> None:
    """Show the last lines of a job's log, one click away."""
    tail = state.studio().log_tail(job.id, lines)
    with st.expander("Log, last lines", icon=":material/terminal:", expanded=job.state == "failed"):
        st.code(tail or "The log is empty.", language=None)
        st.caption(text.plain(job.log_path))


def parameters(counts: ParameterCounts) -> None:
    """Show the parameter table."""
    rows = [
        ("Teacher", counts.teacher),
        ("Student, deployed", counts.student),
        ("Adapters, merged at export", counts.adapters),
        ("Projections, discarded", counts.projections),
        ("Trainable together", counts.trainable),
    ]
    frame = pd.DataFrame(
        {
            "Part": [name for name, _ in rows],
            "Parameters": [number for _, number in rows],
            "Share of the teacher": [100 * number / counts.teacher for _, number in rows],
        }
    )
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "Share of the teacher": st.column_config.NumberColumn(format="%.2f %%"),
        },
    )
    st.caption("Each storage is counted once: tied embeddings count once.")


def clip(audio_path: str) -> None:
    """Play a clip."""
    path = Path(audio_path)
    full = path if path.is_absolute() else state.studio().runs_folder / path
    content = state.audio_bytes(str(full))
    if content is None:
        st.info("The audio file is no longer there.", icon=":material/volume_off:")
    else:
        st.audio(content, format="audio/flac" if full.suffix == ".flac" else "audio/wav")


def texts(reference: str, hypotheses: Sequence[tuple[str, str | None]]) -> None:
    """Show the reference, and each hypothesis with what differs from it marked by sign as well as colour."""
    st.markdown(f"**Reference**  \n{text.plain(reference)}")
    for who, hypothesis in hypotheses:
        if hypothesis is None:
            st.markdown(f"**{who}**  \n{text.NOTHING}")
        else:
            st.markdown(f"**{who}**  \n{_marked(reference, hypothesis)}")
    st.caption("Normalised words. ~~struck~~: missed, **+bold**: inserted or said instead.")


def _marked(reference: str, hypothesis: str) -> str:
    pieces = []
    for operation, missed, said in word_difference(reference, hypothesis):
        if operation == "equal":
            pieces.append(text.plain(said if isinstance(said, str) else " ".join(said)))
            continue
        old = text.plain(missed if isinstance(missed, str) else " ".join(missed))
        new = text.plain(said if isinstance(said, str) else " ".join(said))
        pieces += [f":red[~~{old}~~]"] if old else []
        pieces += [f":orange[**\\+{new}**]"] if new else []
    return " ".join(pieces) or text.NOTHING


def run_names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return labels by run id."""
    return {run.id: run.name for run in runs}
