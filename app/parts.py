"""Pieces that several pages show: states, progress, logs, tables, clips with their texts."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import streamlit as st

from app import costs as cost_tables
from app import phases, state, text
from app.guard import has_token
from core.access import NOBODY, OWNER, Access
from core.errors import DataError, quoted
from core.paths import exists
from core.runs import ACTIVE, GRACE_SECONDS, JobRecord, ParameterCounts, word_difference

MOST_COMPARED = 50
"""Runs side by side."""

NAME_WIDTH = 180
"""Of a pinned column of names, in CSS pixels: on a phone, too, something of the others is seen beside it."""

MOST_LINES = 3
"""Of how something ended."""

AUDIO = {".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}


def let_in(token: str) -> Access:
    """Return what the browser may do that this session is of; the page says so and ends where that is nothing.

    Args:
        token: Of this start of the studio.
    """
    access = OWNER if has_token(st.context.cookies, token) else NOBODY
    with state.sentences():
        access.require("see")
        return access
    st.stop()


def show_trouble() -> None:
    """Say at the top of the page what keeps new things from being stored."""
    for sentence in state.studio().trouble():
        st.warning(text.plain(sentence), icon=":material/hard_drive:")


def badge(phase: str) -> None:
    """Show what a run or a job is doing, by word, sign and colour."""
    shown = phases.PHASES[phase]
    st.badge(phase, icon=shown.icon, color=shown.colour)  # pyright: ignore[reportArgumentType]


def tab_title(phase: str, name: str, job: JobRecord) -> None:
    """Say in the browser's tab what a run or a job is doing, and how far it is: a tab is looked at from elsewhere."""
    far = f" {text.percent(job.done / job.total, 0)}" if job.active and job.state != "queued" and job.total else ""
    st.set_page_config(page_title=f"{phases.signed(phase)}{far} · {name} · Manifold Studio")


def job_names(jobs: Iterable[JobRecord]) -> dict[str, str]:
    """Return what jobs are called where one is chosen, by id: by name and moment, and by id where others have both."""
    names = {job.id: f"{job.name} · {text.moment(job.created_at)}" for job in jobs}
    often = Counter(names.values())
    return {job_id: f"{name} · {job_id}" if often[name] > 1 else name for job_id, name in names.items()}


def ending(name: str, message: str) -> None:
    """Show how something ended, in its own words; of many lines the first, the others are in its log."""
    show = {"failed": st.error, "interrupted": st.warning}.get(name, st.info)
    lines = message.splitlines()
    rest = [f"and {len(lines) - MOST_LINES} more, in the log"] if len(lines) > MOST_LINES else []
    show("  \n".join(text.plain(line) for line in [*lines[:MOST_LINES], *rest]), icon=phases.PHASES[name].icon)


def download(label: str, content: str | Callable[[], bytes], name: str, kind: str | None = None, *, key: str) -> None:
    """Offer a file; what takes long to read or to make is asked for when the button is pressed.

    Nothing is drawn anew by that: Streamlit could then drop what makes the file before it is called, and the button
    would lose the keyboard.
    """
    st.download_button(label, content, name, kind, icon=":material/download:", key=key, on_click="ignore")


def show_from(key: str) -> None:
    """Scroll to what was drawn in the container with a key: what a link leads to may stand far below, as on a phone."""
    find = f"document.querySelector('.st-key-{key}')"
    # Drawn last; again until charts and tables above have their heights, or somebody moves the page.
    script = (
        f"const show = () => {find}?.scrollIntoView(); show(); const again = setInterval(show, 250);"
        "const end = () => clearInterval(again); setTimeout(end, 2500);"
        "for (const moved of ['wheel', 'touchstart', 'keydown', 'mousedown']) addEventListener(moved, end)"
    )
    st.html(f"<script>{{{script}}}</script>", unsafe_allow_javascript=True)


def nothing_yet(title: str, sentence: str) -> None:
    """Show an empty page that says what will be here, and leads to where it begins."""
    with st.container(border=True):
        st.header(title)
        st.markdown(sentence)
        state.link("runs", "Go to the quick start", ":material/arrow_back:")


def not_here(noun: str, ids: Sequence[str]) -> None:
    """Say that the address names what does not exist here."""
    named = ", ".join(map(quoted, ids[:3])) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
    said = (
        f"The address names {noun}s that are not here"
        if len(ids) > 1
        else f"The address names a {noun} that is not here"
    )
    st.warning(text.plain(f"{said}: {named}."), icon=":material/link_off:")


def progress(job: JobRecord, *, first: str = "") -> None:
    """Show how far a job is, how long it still takes, and when its worker was last heard of; or what it waits for.

    It is a bar and a line whatever the state: what stands below keeps its place while the job goes on.

    Args:
        job: The job.
        first: What the line says first.
    """
    now = datetime.now(UTC)
    if job.state == "queued":
        st.progress(0.0, text=text.plain(_waits_for(job)))
        said = f"Asked for {text.ago(job.created_at, now)}."
    else:
        done = min(1.0, job.done / job.total) if job.total else 0.0
        left = "" if job.eta_seconds is None else f" · about {text.duration(job.eta_seconds)} left"
        st.progress(done, text=f"{text.plain(job.stage or 'Starting')} · {text.percent(done, 0)}{left}")
        if job.state == "stopping":
            said = f"Stopping at the next step; killed after {text.duration(GRACE_SECONDS)}. What it has is kept."
        elif job.heartbeat_at is None:
            said = "Its worker starts."
        else:
            said = f"Worker last heard of {text.ago(job.heartbeat_at, now)}."
    st.caption(f"{first} {said}".strip())


def _waits_for(job: JobRecord) -> str:
    before = [other for other in state.studio().store.jobs(states=ACTIVE) if other.created_at < job.created_at]
    if not before:
        return "Waits for its worker to start."
    at_work = next((other for other in before if other.state != "queued"), before[-1])
    many = f"{len(before)} jobs before it; {at_work.name} is" if len(before) > 1 else f"{at_work.name}, which is"
    return f"Waits for {many} {phases.of_job(at_work, state.studio().store.runs(job_id=at_work.id))}."


def stop_buttons(job: JobRecord) -> None:
    """Show the two ways to stop a job."""
    with st.container(horizontal=True):
        if st.button(
            "Stop",
            key=f"stop:{job.id}",
            icon=":material/stop_circle:",
            help="At the next step; what it has is kept.",
            disabled=job.state == "stopping",
        ):
            state.studio().stop(job.id)
            st.rerun()
        if st.button(
            "Stop now",
            key=f"stop-now:{job.id}",
            type="tertiary",
            icon=":material/dangerous:",
            help="At once. What it was doing is lost; what was stored is kept.",
        ):
            state.studio().stop(job.id, now=True)
            st.rerun()


def stalled(job: JobRecord) -> None:
    """Say that a job gets on with nothing, where that is long for its steps."""
    sentence = state.studio().stalls().get(job.id)
    if sentence:
        st.warning(text.plain(sentence), icon=":material/hourglass_disabled:")


def log_tail(job: JobRecord, *, lines: int = 10) -> None:
    """Show the last lines of a job's log."""
    path = state.studio().log_path(job.id)
    if not exists(path):
        st.caption("The log stayed where the job ran.")
        return
    tail = state.studio().log_tail(job.id, lines)
    st.code(tail or "The log is empty.", language=None, wrap_lines=True)
    st.caption(f"The last lines of {text.plain(str(path))}")


def expectation(job: JobRecord) -> None:
    """Show what was expected of a job, in the words of whoever started it; nothing where nothing was said."""
    if job.expectation:
        st.markdown(f":material/psychology_alt: **What you expected** · {text.plain(job.expectation)}")


def notes(run_id: str, written: str) -> None:
    """Let what is written about a run be changed."""
    with st.form(f"notes:{run_id}", border=False):
        # Another text is another field: what somebody else wrote meanwhile is shown.
        said = st.text_area("Notes", written, key=f"notes:{run_id}:{hash(written)}", height=140)
        if st.form_submit_button("Save the notes"):
            state.studio().set_notes(run_id, said)
            st.rerun()


def by_keyboard(of: str) -> None:
    """Say how a row is ticked without a mouse: what no table says of itself. The page's style hides it on a phone.

    Args:
        of: Which table, for the key.
    """
    with st.container(key=f"by-keyboard-{of}"):
        st.caption("By keyboard: arrows lead to a row, Shift+Space ticks it.")


def table(frame: pd.DataFrame, *, alt: str, numbers: Sequence[str] = ()) -> None:
    """Show a small table whose cells are texts; columns of numbers stand right."""
    columns = {name: st.column_config.TextColumn(alignment="right") for name in numbers}
    st.dataframe(frame, hide_index=True, column_config=columns, alt=alt)


def costs(counts: ParameterCounts) -> None:
    """Show what a run has, trains and computes, with shares of the teacher."""
    about = "Parameters of teacher, student, adapters and projections, and their shares of the teacher"
    frame = cost_tables.parameters(counts)
    table(frame, alt=about, numbers=list(frame.columns[1:]))
    flops = cost_tables.computation(counts)
    if flops is not None:
        about = "What teacher and student compute for a second of audio"
        table(flops, alt=about, numbers=list(flops.columns[1:]))
    st.caption(
        "Each storage counts once, so tied embeddings do. A multiplication and an addition are two operations (FLOP)."
    )


def clip(audio_path: str, *, name: str) -> None:
    """Play a clip."""
    content = state.audio(audio_path)
    if content is None:
        st.info("The audio file is no longer there.", icon=":material/volume_off:")
    else:
        st.audio(content, format=AUDIO.get(Path(audio_path).suffix, "audio/wav"), alt=f"Utterance {name}")


def texts(reference: str, heard: Sequence[tuple[str, str | None]], *, normaliser: str) -> None:
    """Show what was said and what each model heard, with what differs marked by sign as well as colour.

    Args:
        reference: What was said.
        heard: Who heard what; None where nobody listened yet.
        normaliser: Name of what made the words that were counted.
    """
    st.markdown(f"**Said**  \n{text.plain(reference) or '*nothing*'}")
    for who, hypothesis in heard:
        st.markdown(f"**{text.plain(who)}**  \n{_marked(reference, hypothesis, normaliser)}")
    st.caption("Normalised words. ~~Struck~~: said but not heard. **Bold**: heard but not said.")


def _marked(reference: str, hypothesis: str | None, normaliser: str) -> str:
    if hypothesis is None:
        return "*not transcribed at this step*"
    try:
        return text.marked(word_difference(reference, hypothesis, normaliser))
    except DataError:
        return text.plain(hypothesis)
