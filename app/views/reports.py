"""Reports: what can be shown to people who have no studio, and carried to those who have one."""

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from app import parts, state, text
from core.bundles import export_bundle, import_bundle
from core.reports.contents import MOST_CLIPS
from core.reports.page import FrozenReport, freeze, frozen_report, frozen_reports
from core.runs import JobRecord

MOST_UPLOADED = 1000
"""Megabytes of a bundle that is taken in by the browser; larger ones are by the command line."""

DROPPED = "dropped bundle"

PAGE_HEIGHT = 900


def show() -> None:
    studio = state.studio()
    studio.refresh()
    st.title("Reports")
    jobs = {job.id: job for job in studio.store.jobs(limit=200) if not job.active}
    frozen, shown = frozen_reports(studio), state.query("report")
    if not jobs and not frozen:
        parts.nothing_yet("Nothing to show yet", "Finished jobs can be frozen into one page, or packed to travel.")
    left, right = st.columns(2, gap="large")
    if jobs:
        with left:
            _freeze(jobs)
        with right:
            _export(jobs)
    with right if jobs else left:
        _import()
    if frozen:
        _frozen(frozen, shown)


def _freeze(jobs: dict[str, JobRecord]) -> None:
    """Ask for what a page needs, and write it."""
    st.header("Freeze a job into one page")
    st.caption("Table, charts, clips with their texts, and where it comes from. It opens from an e-mail, offline.")
    key = state.choice("job", list(jobs), default=state.kept("last job"))
    job_id = st.selectbox("Job", list(jobs), format_func=parts.job_names(jobs.values()).__getitem__, key=key)
    state.chosen("job", job_id)
    parts.expectation(jobs[job_id])
    expected = jobs[job_id].expectation
    frozen_before = f"times frozen:{job_id}"
    # In no form, which would send nothing before it is pressed: what is typed is there again when the job is.
    with st.container(key="report-notes"):
        notes = st.text_area(
            "What came of it?" if expected else "Notes",
            # A field for each job, and an empty one once its page was frozen: what is typed is said of one job, once.
            key=f"report notes:{job_id}:{state.kept(frozen_before, 0)}",
            placeholder="Was it as expected? It stands at the top, below what was expected."
            if expected
            else "What it shows, and for whom. They stand at the top.",
            height=90,
            persist_state="session",
        )
    clips = st.slider("Clips that can be heard", 0, MOST_CLIPS, MOST_CLIPS, help="Evenly spread over the test set.")
    if st.button("Freeze", type="primary", icon=":material/ac_unit:"):
        with state.sentences(), st.spinner("Writing the page"):
            written = freeze(state.studio(), job_id, notes=notes or "", clips=clips, at=datetime.now(UTC))
            state.keep(frozen_before, state.kept(frozen_before, 0) + 1)
            state.set_query(report=written.path.name)
            st.rerun()


def _export(jobs: dict[str, JobRecord]) -> None:
    """Offer a job as a bundle, which is made when it is asked for."""
    st.header("Carry a job to another studio")
    job_id = st.selectbox(
        "Job to carry", list(jobs), format_func=parts.job_names(jobs.values()).__getitem__, key="bundled job"
    )
    small = st.checkbox("Without adapters and states", help="Numbers, texts, clips and the maps that were drawn stay.")

    # It is called where there is no session.
    studio = state.studio()

    def packed() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return export_bundle(studio, job_id, Path(folder) / "bundle.zip", small=small).path.read_bytes()

    name = f"{job_id}{'-small' if small else ''}.zip"
    parts.download("Export the bundle", packed, name, "application/zip", key="bundle")
    st.caption(f"Very large jobs: `manifold bundle export {job_id} --to FILE`")


def _import() -> None:
    """Take in a bundle that is dropped here."""
    st.header("Take in a job from another studio")
    with st.form("import", border=False, clear_on_submit=True):
        dropped = st.file_uploader(
            "Its bundle",
            type="zip",
            key=DROPPED,
            max_upload_size=MOST_UPLOADED,
            help="It is checked as a whole, and taken in as a whole or not at all.",
        )
        pressed = st.form_submit_button("Import the bundle", icon=":material/unarchive:")
    if pressed and dropped is None:
        st.error("No bundle was chosen, or it did not arrive. Choose a file first.", icon=":material/error:")
    if pressed and dropped is not None:
        with state.sentences(), st.spinner("Checking the bundle"), tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / _written_as(dropped.name)
            state.take(dropped, DROPPED, file)
            job = import_bundle(state.studio(), file)
            st.success(f"{text.plain(job.name)} is here now.", icon=":material/check_circle:")
            state.link("ablations", "Open its table", ":material/table_chart:", job=job.id)


def _written_as(name: str) -> str:
    """Return the name of a file that a browser sent as one that can be written anywhere: no folders, and not long."""
    plain = Path(re.sub(r"[^\w .(),-]", "_", name).strip(" ."))
    return f"{plain.stem[:56]}{plain.suffix[:4]}" or "bundle.zip"


def _frozen(frozen: list[FrozenReport], wanted: str | None) -> None:
    """Show one of the pages that were frozen."""
    st.header("Frozen pages")
    with state.sentences():
        if wanted:
            frozen_report(state.studio(), wanted)
    names = {report.path.name: report for report in frozen}
    key = state.choice("report", list(names))
    labels = {name: f"{name} · {text.moment(report.at)} · {text.size(report.size)}" for name, report in names.items()}
    report = names[state.chosen("report", st.selectbox("Page", list(names), format_func=labels.__getitem__, key=key))]
    with st.container(horizontal=True, vertical_alignment="center"):
        name = report.path.name
        parts.download("Download the page", report.path.read_bytes, name, "text/html", key=f"page:{name}")
        st.caption(f"It lies at {text.plain(str(report.path))}", width="content")
    st.iframe(report.path, height=PAGE_HEIGHT, alt=f"The frozen page {report.path.name}")


if __name__ == "__main__":
    with state.sentences():
        show()
