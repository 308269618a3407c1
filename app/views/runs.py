"""Runs: what is running, what needs me, what is best so far?"""

import streamlit as st

from app import parts, state, tables, text
from core.bundles import example_bundle, import_bundle
from core.runs import JobRecord, RunRecord

MOST_RUNS = 500


def show() -> None:
    studio = state.studio()
    studio.refresh()
    runs = studio.store.runs(limit=MOST_RUNS)
    if not runs:
        _welcome()
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("Runs", width="stretch")
        if st.button("New run", type="primary", icon=":material/add:"):
            state.go_to("new_run")
    jobs = studio.store.jobs(limit=50)
    active = [job for job in jobs if job.active]
    if active:
        _live(active, runs)
    _trouble(jobs, runs)
    _best(jobs)
    _table(runs, {job.id: job.name for job in jobs})


def _welcome() -> None:
    st.title("Manifold Studio")
    with st.container(border=True):
        st.header("Heal a cut model, and see what did it")
        st.markdown(
            "The quick start takes a layer out of Whisper tiny.en and heals the cut four ways, each with adapters of "
            "less than 1 % of the teacher's parameters: from transcripts alone, with the teacher's tokens, and with "
            "its hidden states aligned along the chord and along the sphere. It ends in a table of word error rates, "
            "and in maps of what happened inside. It needs no GPU, and says how long it takes."
        )
        with st.container(horizontal=True):
            if st.button("Run the quick start", type="primary", icon=":material/play_arrow:"):
                with st.spinner("Starting"):
                    job = state.studio().start_quick_start()
                state.go_to("run", run=state.studio().store.runs(job_id=job.id)[0].id)
            if st.button("Set up a run of your own", icon=":material/tune:"):
                state.go_to("new_run")
            _example()


def _example() -> None:
    """Offer a finished ablation, for those who want to see before they wait."""
    example = example_bundle()
    if example is not None and st.button("Look at a finished ablation", icon=":material/table_chart:"):
        with state.sentences(), st.spinner("Taking it in"):
            job = import_bundle(state.studio(), example)
            state.go_to("ablations", job=job.id)


def _live(jobs: list[JobRecord], runs: list[RunRecord]) -> None:
    """Show what is running; the page is drawn anew when a run or a job changes its state."""
    drawn = {run.id: run.state for run in runs}

    def strip() -> bool:
        store = state.studio().store
        now = [store.job(job.id) for job in jobs]
        for job in now:
            with st.container(border=True):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"**{text.plain(job.name)}**", width="content")
                    parts.badge(job.state)
                parts.progress(job)
                parts.stop_buttons(job)
        changed = any(run.state != drawn.get(run.id) for job in jobs for run in store.runs(job_id=job.id))
        return changed or not all(job.active for job in now)

    state.live(strip)


def _trouble(jobs: list[JobRecord], runs: list[RunRecord]) -> None:
    """Show what ended badly since something last went well."""
    for job in jobs:
        if job.state == "finished":
            return
        if job.state in ("failed", "interrupted"):
            parts.ending(job.state, f"{job.name}: {job.message}")
            first = next((run.id for run in runs if run.job_id == job.id), None)
            if first:
                state.link("run", "Open it, with its log", ":material/monitoring:", run=first)


def _best(jobs: list[JobRecord]) -> None:
    """Show the best run of the newest job that has one, between its teacher and its student before."""
    store = state.studio().store
    for job in jobs:
        evaluations = store.evaluations(job_id=job.id) if job.state == "finished" else []
        students = tables.reported(evaluations).values()
        if not students:
            continue
        best = min(students, key=lambda record: (record.test_set != tables.TEST, record.wer))
        alike = [record for record in evaluations if not record.run_id and record.test_set == best.test_set]
        others = {record.subject: record for record in alike}
        unread = "" if best.test_set == tables.TEST else ", on its development set"
        st.header(f"Best of {text.plain(job.name)}{unread}")
        with st.container(horizontal=True):
            name = store.run(best.run_id).name if best.run_id else ""
            st.metric(f"WER ↓ of {text.plain(name)}", text.percent(best.wer), border=True)
            for subject, label in (("teacher", "Its teacher"), ("student_before", "Student before training")):
                if subject in others:
                    st.metric(label, text.percent(others[subject].wer), border=True)
        return


def _table(runs: list[RunRecord], jobs: dict[str, str]) -> None:
    store = state.studio().store
    frame = tables.runs(
        runs,
        jobs=jobs,
        judged=tables.reported(
            [*store.evaluations(test_set=tables.TEST), *store.evaluations(test_set=tables.DEVELOPMENT)]
        ),
        parameters={run.id: state.parameters(run) for run in runs},
    )
    event = st.dataframe(
        frame,
        hide_index=True,
        placeholder=text.NOTHING,
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        # A selection is a place in the table: with other rows it is another table, so that no run is mistaken.
        key=f"runs:{hash(tuple(frame['Id']))}",
        column_config={
            "WER": st.column_config.NumberColumn("WER % ↓", format="%.1f", help="Lower is better."),
            "Set": st.column_config.TextColumn(
                width=110,
                help="What the rate was measured on: the test set, or the development set where the test is unread.",
            ),
            "Trainable": st.column_config.NumberColumn(
                "Trained %", format="%.2f", help="Adapters and projections, of the teacher's parameters."
            ),
            "Step": st.column_config.TextColumn(alignment="right"),
            "Training": st.column_config.TextColumn(alignment="right"),
            "Created": st.column_config.DatetimeColumn(format="distance"),
        },
        alt="All runs with their state, word error rate, job, trained share, steps and training time",
    )
    runs_shown = "One run" if len(runs) == 1 else f"{len(runs)} runs, newest first"
    st.caption(f"{runs_shown}. Choose a row to open it.")
    rows = [*event["selection"]["rows"], *(cell[0] for cell in event["selection"]["cells"])]
    if rows:
        state.go_to("run", run=runs[rows[0]].id)


if __name__ == "__main__":
    with state.sentences():
        show()
