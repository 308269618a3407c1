"""Run: how is this run doing?"""

import re
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import costs, curves, cut, files, parts, phases, starts, state, tables, teachers, text
from core.config import dump_text
from core.errors import NotFoundError
from core.reports.csv_file import utterances_csv
from core.runs import EvaluationRecord, JobRecord, RunRecord, UtteranceResult, mean_angle

MOST_UTTERANCES = 200
SETS = {tables.TEST: 0, tables.DEVELOPMENT: 2}
"""Order of the evaluations; extra sets stand between."""

TABS = ["Curves", "Results", "Teachers", "Costs", "Utterances", "Settings", "Files", "Log"]

TABS_KEY = "run-tabs"

ORDERS = {"worst": "Worst", "best": "Best", "improved": "Most improved"}


def show() -> None:
    studio = state.studio()
    studio.refresh()
    runs = studio.store.runs(limit=500)
    if not runs:
        st.title("Run")
        parts.nothing_yet("No runs yet", "A run's curves, results and settings will be here.")
        return
    heading, choice = st.columns([3, 2], vertical_alignment="bottom")
    with choice:
        try:
            run = state.chosen_run(runs, label="Another run")
        except NotFoundError:
            heading.title("Run")
            raise
    job = studio.store.job(run.job_id)
    with heading:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(text.plain(run.name), width="content")
            phase = phases.of_run(run, state.preparing())
            parts.badge(phase)
        facts = (job.name, run.method, f"seed {run.seed}", text.moment(run.created_at))
        st.caption(text.plain(" · ".join(facts)))
    parts.tab_title(phase, run.name, job)
    _said(run, job)
    if job.active:
        _live(run, job, phase)
    if not run.active:
        # A job that ended its runs keeps the whole message, and they its first line.
        of_job = run.state != "finished" and job.message.startswith(run.message)
        message = job.message if of_job else run.message
        if message:
            parts.ending(run.state, message)
        if run.state in ("failed", "interrupted", "stopped"):
            _again(run, job)
        if run.state in ("failed", "interrupted"):
            # A sentence that says all needs no log below it; one that sends to the log finds it open.
            with st.expander(
                "The end of its log", expanded=bool(re.search(r"\blog\b", message)), icon=":material/article:"
            ):
                parts.log_tail(job)
    if run.active:
        state.live(lambda: _metrics(state.studio().store.run(run.id)))
    else:
        _metrics(run)
    with st.container(horizontal=True):
        state.link("alignment", "Alignment", ":material/scatter_plot:", run=run.id)
        state.link("ablations", "Ablation table", ":material/table_chart:", job=run.job_id)
        if run.state != "failed":
            state.link("new_run", "Clone and change", ":material/content_copy:", start=run.id, launch="one")
    _tabs(run, job)


def _said(run: RunRecord, job: JobRecord) -> None:
    """Show what people said of a run, and let them say it; one in the bin can be taken out again."""
    if run.deleted_at is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.warning("This run is in the bin.", icon=":material/delete:")
            if st.button("Restore", icon=":material/restore_from_trash:"):
                state.studio().restore([run.id])
                st.rerun()
    parts.expectation(job)
    if run.tags:
        st.markdown(" ".join(f":gray-badge[{text.plain(tag)}]" for tag in run.tags))
    with st.expander("Notes", expanded=bool(run.notes), icon=":material/edit_note:"):
        parts.notes(run.id, run.notes)


def _again(run: RunRecord, job: JobRecord) -> None:
    """Offer what comes after a run that did not finish: other settings where it failed, else the same once more."""
    with st.container(horizontal=True):
        # What failed would fail again as it was.
        failed = run.state == "failed"
        if failed and st.button("Change settings", type="primary", icon=":material/tune:"):
            state.go_to("new_run", start=run.id, launch="one")
        # Who stopped a run had a reason: starting it again is offered, not urged.
        kind = "primary" if run.state == "interrupted" else "secondary"
        if st.button("Start it again", type=kind, icon=":material/replay:", help="As it was, in a job of its own."):
            _start_again(run, job)


def _start_again(run: RunRecord, job: JobRecord) -> None:
    """Start a run as it was, after the runs of its job whose students it needs."""
    store = state.studio().store
    with state.sentences():
        configs = starts.again(run, store.runs(1000, job_id=job.id))
        started = state.studio().start(configs, name=job.name, expectation=job.expectation)
        state.go_to("run", run=store.runs(job_id=started.id)[-1].id)


def _live(run: RunRecord, job: JobRecord, phase: str) -> None:
    """Show how far the job is; the page is drawn anew when run or job change their state, and when speech was read."""

    def read() -> int:
        evaluations = state.studio().store.evaluations(job_id=job.id)
        return sum(item.run_id in (run.id, None) for item in evaluations)

    drawn = read()

    def strip() -> bool:
        store = state.studio().store
        now, own = store.job(job.id), store.run(run.id)
        waiting = ""
        if own.state == "queued" and now.state == "running":
            before = any(other.active and other.position < run.position for other in store.runs(job_id=job.id))
            waits = "waits for the job's runs before it" if before else "begins when models and speech are ready"
            waiting = f"This run {waits}."
        with st.container(border=True):
            parts.progress(now, first=waiting)
            parts.stop_buttons(now)
            parts.stalled(now)
        shown = phases.of_run(own, state.preparing())
        parts.tab_title(shown, run.name, now)
        return shown != phase or own.state != run.state or now.state != job.state or read() != drawn

    state.live(strip)


def _metrics(run: RunRecord) -> bool:
    """Show a run in numbers; what it returns tells `state.live` that nothing else of the page changed."""
    evaluations = state.studio().store.evaluations(job_id=run.job_id)
    own = tables.reported(evaluations).get(run.id)
    read = own.test_set if own else tables.TEST
    shared = [record for record in teachers.of_group(evaluations, run) if not record.run_id and record.test_set == read]
    rates = {record.subject: record.wer for record in shared}
    label = "Teacher's WER"
    if teachers.several(run.config):
        label = "Best teacher's WER"
        heard = [record.wer for record in shared if record.subject == "teacher"]
        rates |= {"teacher": min(heard)} if heard else {}
    counts = state.parameters(run)
    angle = mean_angle(state.studio().store.last_alignments([run.id]).get(run.id, ()))
    with st.container(horizontal=True):
        st.metric(f"WER ↓, {read} set", text.percent(own.wer if own else None), border=True)
        st.metric(label, text.percent(rates.get("teacher")), border=True)
        st.metric("WER before training", text.percent(rates.get("student_before")), border=True)
        share = text.percent(counts.share_of_teacher, 2) if counts else text.NOTHING
        st.metric("Trained, of the teacher", share, border=True)
        about = (
            "Angle between paired states of student and teacher in the run's mapping: mean over the points of the "
            "probe, then over all layer pairs, at the last probe."
        )
        st.metric("Mean angle ↓", text.degrees(angle), border=True, help=about)
        st.metric("Training time", text.duration(run.seconds), border=True)
    return False


def _tabs(run: RunRecord, job: JobRecord) -> None:
    default = "Results" if run.state == "finished" else "Curves"
    tabs = [tab for tab in TABS if tab != "Teachers" or teachers.several(run.config)]
    led_here = state.opened() and state.query("tab") in tabs
    key = state.choice("tab", tabs, default=default)
    # Segments, not tabs: only the part that is looked at is read and drawn, and the address has it.
    with st.container(key=TABS_KEY):
        tab = st.segmented_control("Show", tabs, key=key, required=True, label_visibility="collapsed")
    tab = state.chosen("tab", tab or default)
    _part(tab, run, job)
    if led_here:
        parts.show_from(TABS_KEY)


def _part(tab: str, run: RunRecord, job: JobRecord) -> None:
    if tab == "Curves":
        curves.show(run)
    elif tab == "Results":
        _results(run)
    elif tab == "Teachers":
        teachers.show(run)
    elif tab == "Costs":
        _costs(run)
    elif tab == "Utterances":
        _utterances(run)
    elif tab == "Files":
        files.show(run)
    elif tab == "Log":
        parts.log_tail(job, lines=60)
    else:
        _differences(run)
        st.code(dump_text(run.config), language=None)
        multiplied = f" It multiplied in {run.precision}." if run.precision else ""
        st.caption(
            f"As it ran; hash {run.config_hash}.{multiplied} Saved as a file, it starts again with: manifold run FILE"
        )


def _differences(run: RunRecord) -> None:
    """Show in which settings a run differs from the baseline of its job."""
    if run.position == 0:
        st.caption("This is the baseline of its job.")
        return
    baseline = state.studio().store.runs(1, job_id=run.job_id)[0]
    frame = tables.differences(baseline.config, run.config)
    frame = frame.rename(columns={"Baseline": f"Baseline, {baseline.name}"})
    st.dataframe(frame, hide_index=True, height="content", alt="Settings that differ from the baseline of the job")


def _costs(run: RunRecord) -> None:
    """Show what the run has, trains and computes, and what it was expected to take beside what it took."""
    st.header("Expected and happened")
    frame = costs.outcome(run, disk=state.disk(run))
    if frame is None:
        st.caption(
            "Nothing was measured before this run started. New run measures: time, memory and disk stand here then, "
            "beside what happened."
        )
        taken = (
            ("One step", f"{run.step_seconds:.2f} s" if run.step_seconds else text.NOTHING),
            ("Training", text.duration(run.seconds)),
            ("Peak memory", text.size(run.peak_memory)),
            ("Disk", text.size(state.disk(run))),
        )
        frame = pd.DataFrame(taken, columns=["What", "Happened"])
    about = "Time of a step, training time, peak memory and disk of this run"
    parts.table(frame, alt=about, numbers=list(frame.columns[1:]))
    if run.estimate is not None:
        said = f"Expected from {run.estimate.steps} steps on {run.estimate.device} before it started."
        busy = " The machine had other work meanwhile: the times are too long." if run.estimate.busy else ""
        st.caption(text.plain(said + busy))
    found = costs.kept({each.name: each.value for each in state.studio().store.curves([run.id], costs.KEPT)})
    if found:
        st.caption(found)
    st.header("Parameters and computation")
    counts = state.parameters(run)
    if counts is None:
        st.caption("Counted when the run begins.")
    else:
        parts.costs(counts)


def _results(run: RunRecord) -> None:
    store = state.studio().store
    evaluations = teachers.of_group(store.evaluations(job_id=run.job_id), run)
    subjects = list(tables.SUBJECTS)
    evaluations.sort(key=lambda record: (SETS.get(record.test_set, 1), subjects.index(record.subject), record.id))
    if not evaluations:
        st.info("Results appear with the first evaluation.", icon=":material/hourglass_top:")
        return
    st.dataframe(
        tables.evaluations(evaluations),
        hide_index=True,
        placeholder=text.NOTHING,
        column_config={
            "Model": st.column_config.TextColumn(),
            "Step": st.column_config.TextColumn(alignment="right"),
            "WER": st.column_config.NumberColumn("WER % ↓", format="%.1f"),
            "CER": st.column_config.NumberColumn("CER % ↓", format="%.1f"),
            "S": st.column_config.NumberColumn(help="Substitutions"),
            "D": st.column_config.NumberColumn(help="Deletions"),
            "I": st.column_config.NumberColumn(help="Insertions"),
            "Held-out KL": st.column_config.NumberColumn(
                "Held-out KL ↓", format="%.3f", help="KL(teacher || student) at T = 1, nats per reference token."
            ),
            "KL of": st.column_config.TextColumn(help=tables.ABOUT_KEPT),
            "Real-time factor": st.column_config.NumberColumn(
                format="%.3f", help="Time of the encoder, whole, and of the decoder over audio time."
            ),
            "Context": st.column_config.NumberColumn(format="%g s", help="Audio that the encoder sees."),
        },
        alt="Every evaluation of this run, its teacher and its student before training",
    )
    st.caption(f"{text.plain(evaluations[0].normaliser)}; {text.plain(evaluations[0].decoding)}.")
    cut.show(run)


def _utterances(run: RunRecord) -> None:
    store = state.studio().store
    evaluations = {str(record.id): record for record in store.evaluations(run_id=run.id)}
    if not evaluations:
        st.info("Utterances appear with the first evaluation.", icon=":material/graphic_eq:")
        return
    order = sorted(evaluations, key=lambda key: (SETS.get(evaluations[key].test_set, 1), -(evaluations[key].step or 0)))
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    key = state.choice("evaluation", order)
    shown = controls.selectbox("Evaluation", order, format_func=lambda k: _named(evaluations[k]), key=key, width=420)
    shown = state.chosen("evaluation", shown)
    results = store.utterance_results(int(shown))
    before = _errors_before(run, evaluations[shown])
    orders = [order for order in ORDERS if order != "improved" or before]
    key = state.choice("order", orders)
    order = controls.segmented_control("First", orders, format_func=ORDERS.__getitem__, key=key, required=True)
    order = state.chosen("order", order or orders[0])
    results.sort(key=lambda item: (_place(item, order, before), item.position))
    worst = results[:MOST_UTTERANCES]
    if not worst:
        st.info("The utterances of this evaluation were not stored.", icon=":material/graphic_eq:")
        return
    ids = [item.utterance_id for item in worst]
    said, table = ORDERS[order].lower(), f"utterances:{shown}:{order}:{state.table_number('utterance')}"
    listed, card = st.columns([3, 2], gap="medium")
    with listed:
        # Above the table, whose own buttons appear over what stands there.
        st.caption(f"{len(worst)} of {len(results)} utterances, {said} first. Tick a row to hear it.")
        parts.by_keyboard("utterances")
        st.dataframe(
            tables.utterances(worst, before),
            hide_index=True,
            placeholder=text.NOTHING,
            height=min(420, 38 + 35 * len(worst)),
            on_select=state.while_here(lambda: _take(table, ids)),
            selection_mode="single-row",
            key=table,
            column_config={
                "WER": st.column_config.NumberColumn("WER % ↓", format="%.0f"),
                "S": st.column_config.NumberColumn(help="Substitutions", width=48),
                "D": st.column_config.NumberColumn(help="Deletions", width=48),
                "I": st.column_config.NumberColumn(help="Insertions", width=48),
                "Before": st.column_config.NumberColumn("Before %", format="%.0f", help="Before training."),
            },
            alt=f"Utterances of this evaluation, {said} first",
        )
        name = f"{run.id}-{evaluations[shown].test_set}.csv"
        parts.download("CSV", lambda: utterances_csv(results).encode(), name, "text/csv", key=f"csv:{shown}")
    # Until one is ticked, the first is heard: it is what the order asks for.
    wanted = state.query("utterance")
    item = worst[ids.index(wanted) if wanted in ids else 0]
    with card.container(border=True):
        st.markdown(f"**{text.plain(item.utterance_id)}** · {item.duration:.1f} s")
        parts.clip(item.audio_path, name=item.utterance_id)
        heard = teachers.heard(run, evaluations[shown].test_set, item.utterance_id)
        parts.texts(item.reference, [*heard, ("Student", item.hypothesis)], normaliser=evaluations[shown].normaliser)


def _take(table: str, ids: Sequence[str]) -> None:
    """Put the utterance whose row was ticked into the address."""
    rows: list[int] = state.kept(table)["selection"]["rows"]
    if rows:
        state.tick("utterance", ids[rows[0]])


def _named(record: EvaluationRecord) -> str:
    step = "" if record.step is None else f", step {record.step}"
    return f"{text.words(record.test_set)} set{step}: WER {text.percent(record.wer)}"


def _errors_before(run: RunRecord, record: EvaluationRecord) -> dict[str, int]:
    """Return the errors of the student before training on the same set, by utterance; empty where it was not read."""
    store = state.studio().store
    for other in store.evaluations(job_id=run.job_id, test_set=record.test_set):
        if other.subject == "student_before" and other.test_set_hash == record.test_set_hash:
            return {item.utterance_id: item.errors for item in store.utterance_results(other.id)}
    return {}


def _place(item: UtteranceResult, order: str, before: dict[str, int]) -> float:
    words = max(1, item.words)
    if order == "improved":
        return (item.errors - before.get(item.utterance_id, item.errors)) / words
    return item.errors / words * (1 if order == "best" else -1)


if __name__ == "__main__":
    with state.sentences():
        show()
