"""Runs: what is running, what needs me, what is best so far?"""

import time
from math import isfinite

import streamlit as st

from app import best, parts, phases, state, tables, text
from core.bundles import example_bundle, import_bundle
from core.reports.csv_file import runs_csv
from core.runs import JobRecord, RunSummary

MOST_TROUBLE = 3
"""So many jobs that ended badly are told, and so many runs that training made worse."""

MOST_SETS = 3
"""Of so many sets, which cannot stand side by side, the best run is told; the largest first."""

FOREIGN = ("run", "job", "runs")
"""Parameters of the pages that are opened from the list."""

OWN = ("search", "states", "tags", "bin")
"""Parameters of the list."""

REDRAWN_SECONDS = 10.0
"""How old steps, times and rates of runs at work may become in the list."""

WATCH_SECONDS = 5.0
"""How often a list in which nothing runs looks for runs that were started elsewhere."""


def show() -> None:
    studio = state.studio()
    studio.refresh()
    _come_back()
    version = studio.store.list_version()
    in_bin = state.query("bin") == "yes"
    runs = studio.store.summaries(in_bin=in_bin)
    if not runs and not in_bin and not studio.store.summaries(in_bin=True):
        _welcome()
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("Bin" if in_bin else "Runs", width="stretch")
        if st.button("New run", type="primary", icon=":material/add:"):
            state.go_to("new_run")
    jobs = studio.store.jobs(limit=50)
    _live([job for job in jobs if job.active], version)
    if not in_bin:
        _trouble(jobs, runs)
        _best(runs)
    _list(runs, in_bin=in_bin)


def _come_back() -> None:
    """Show the list as it was left, but for the bin, where another page was open before.

    On its way there Streamlit puts that page's parameters in the place of those of the list, and there the browser's
    Back finds them; it then leads to the bin, too.
    """
    opened = any(map(state.query, FOREIGN))
    if opened or (state.came() and not any(map(state.query, OWN))):
        left: dict[str, str | None] = state.kept("list", {})
        if not opened:
            left = {**left, "bin": None}
        if opened or any(left.values()):
            state.set_query(**dict.fromkeys(FOREIGN), **left)
            # What is bound to the address has read it already.
            st.rerun()


def _welcome() -> None:
    st.title("Manifold Studio")
    with st.container(border=True):
        st.header("Recover a pruned model, and see what did it")
        st.markdown(
            "The quick start removes a layer of Whisper tiny.en and recovers it five ways, each with adapters of less "
            "than 1 % of the teacher's parameters: from transcripts alone, with the teacher's tokens, and with its "
            "hidden states aligned by cosine, by squared distance, and along the sphere. It ends in a table of word "
            "error rates on real and on generated speech, and in maps of what happened inside. It needs no GPU, and "
            "says how much longer it takes."
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


def _live(jobs: list[JobRecord], version: tuple[object, ...]) -> None:
    """Show what is running; the page is drawn anew when a run comes or goes, or changes its state, and now and then."""
    drawn = time.monotonic()

    def strip() -> bool:
        store = state.studio().store
        now = [store.job(job.id) for job in jobs]
        for place, job in enumerate(now):
            phase = phases.of_job(job, store.runs(job_id=job.id))
            if place == len(now) - 1:
                # The oldest is at work; the others wait for it.
                parts.tab_title(phase, "Runs", job)
            with st.container(border=True):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"**{text.plain(job.name)}**", width="content")
                    parts.badge(phase)
                parts.progress(job)
                parts.stop_buttons(job)
                parts.stalled(job)
        old = bool(jobs) and time.monotonic() - drawn > REDRAWN_SECONDS
        return old or store.list_version() != version or not all(job.active for job in now)

    state.live(strip, seconds=state.LIVE_SECONDS if jobs else WATCH_SECONDS)


def _trouble(jobs: list[JobRecord], runs: list[RunSummary]) -> None:
    """Show which jobs ended badly, the newest first, each in a sentence.

    A job stays here until its runs are in the bin, or later runs of the same names have finished: what other jobs did
    meanwhile says nothing about it.
    """
    last = {run.name: run.created_at for run in reversed(runs) if run.state == "finished"}
    ended: dict[str, list[RunSummary]] = {}
    for run in runs:
        if run.state in ("failed", "interrupted") and last.get(run.name, run.created_at) <= run.created_at:
            ended.setdefault(run.job_id, []).append(run)
    # One of which some runs failed has finished, with a sentence that says so.
    bad = [job for job in jobs if not job.active and job.state != "stopped" and job.message and job.id in ended]
    for job in bad[:MOST_TROUBLE]:
        parts.ending(
            "failed" if job.state == "finished" else job.state, f"{job.name}: {text.first_sentence(job.message)}"
        )
        state.link("run", "Open it, with its log", ":material/monitoring:", run=ended[job.id][0].id)
    if len(bad) > MOST_TROUBLE:
        st.caption(f"{len(bad) - MOST_TROUBLE} more ended badly: see the list below.")


def _best(runs: list[RunSummary]) -> None:
    """Show the best run of the largest test set, or of the one that was chosen, and which runs training made worse."""
    named = {run.id: run.name if run.name == run.job else f"{run.name} of {run.job}" for run in runs}
    found = state.best_runs(runs)
    if not found:
        if any(run.wer is not None and isfinite(run.wer) for run in runs):
            st.caption(f"Only trials of fewer than {best.FEWEST_STEPS} steps so far: none is called the best.")
        return
    shown = _chosen_set(found)
    record = shown.record
    if shown.learned:
        st.header("Best so far")
    else:
        st.header("Nothing learned so far")
        st.markdown("The best run is no better than its student before training.")
    with st.container(horizontal=True):
        st.metric(f"WER ↓, {text.plain(record.test_set)} set", text.percent(record.wer), border=True)
        for rate, label in _beside(shown):
            st.metric(label, text.percent(rate), border=True)
    st.caption(text.plain(_among(shown, named)))
    others = [each for each in found if each is not shown][: MOST_SETS - 1]
    for each in others:
        rates = [f"{label[:1].lower()}{label[1:]} {text.percent(rate)}" for rate, label in _beside(each)]
        said = f"Another {each.record.test_set} set: {text.percent(each.record.wer)}, {_among(each, named)}"
        st.caption(text.plain(", ".join([said, *rates])))
    worse = [record for each in (shown, *others) for record in each.worse]
    if worse:
        told = [f"{named[record.run_id or '']} ({text.percent(record.wer)})" for record in worse[:MOST_TROUBLE]]
        more = f" and {len(worse) - MOST_TROUBLE} more" if len(worse) > MOST_TROUBLE else ""
        said = f"Worse than the student before training: {', '.join(told)}{more}."
        st.markdown(f":material/trending_down: {text.plain(said)}")


def _chosen_set(found: list[best.Best]) -> best.Best:
    """Let the set be chosen on which runs are judged, where there are several: the largest, until another is."""
    if len(found) == 1:
        return found[0]
    sets = {each.key: each for each in found}
    key = state.choice("set", list(sets), default=state.kept("chosen set"))
    value = st.selectbox(
        "Judged on",
        list(sets),
        format_func=lambda name: _set_in_words(sets[name]),
        key=key,
        width=420,
    )
    state.keep("chosen set", value)
    return sets[state.chosen("set", value)]


def _set_in_words(each: best.Best) -> str:
    record = each.record
    runs = "one run" if each.runs == 1 else f"{each.runs} runs"
    how = f"{record.audio_context:g} s of audio context"
    return f"{text.words(record.test_set)} set of {text.count(record.words)} words · {runs} · {how}"


def _beside(each: best.Best) -> list[tuple[float, str]]:
    rates = ((each.teacher, "Its teacher"), (each.before, "Student before training"))
    return [(rate, label) for rate, label in rates if rate is not None]


def _among(each: best.Best, named: dict[str, str]) -> str:
    among = f"the best of {each.runs} runs" if each.runs > 1 else "the only run"
    trials = "one trial" if each.trials == 1 else f"{each.trials} trials"
    left_out = f", {trials} of a few steps left out" if each.trials else ""
    return f"{named[each.record.run_id or '']} · {among} on this {each.record.test_set} set{left_out}"


def _list(runs: list[RunSummary], *, in_bin: bool) -> None:
    """Show the runs that are looked for, and what can be done with those that are chosen."""
    found = _filtered(runs, in_bin=in_bin)
    actions = st.container(horizontal=True, vertical_alignment="center")
    many = "One run" if len(found) == 1 else f"{len(found) or 'No'} runs"
    shown = many if len(found) == len(runs) else f"{many} of {len(runs)}"
    # Above the table, whose own buttons appear over what stands there: over a line they hide nothing that is pressed.
    st.caption(f"{shown}, newest first. Press a name to open its run; tick rows to compare or label them.")
    parts.by_keyboard("runs")
    ticked, opened = _table(found)
    if found:
        parts.download("CSV", lambda: runs_csv(found).encode(), "runs.csv", "text/csv", key="csv:runs")
    if opened:
        state.go_to("run", run=opened.id)
    hidden = set(state.kept("ticked runs", ())) - {run.id for run in found}
    chosen = [run for run in runs if run.id in ticked or run.id in hidden]
    state.keep("ticked runs", tuple(run.id for run in chosen))
    with actions:
        _actions(chosen, hidden=len([run for run in chosen if run.id in hidden]), known_tags=_tags(runs), in_bin=in_bin)


def _filtered(runs: list[RunSummary], *, in_bin: bool) -> list[RunSummary]:
    states, tags = list(phases.STATES), _tags(runs)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input(
            "Search",
            key="search",
            bind=state.IN_ADDRESS,
            type="search",
            placeholder="Name, method, job, tag, note or id",
            icon=":material/search:",
            live=True,
        )
        key = state.several("states", states)
        wanted = st.multiselect(
            "State", states, format_func=phases.STATES.__getitem__, key=key, placeholder="All", width=220
        )
        key = state.several("tags", tags)
        tagged = st.multiselect("Tags", tags, key=key, placeholder="All", width=220)
        if in_bin:
            st.button("Back to the runs", icon=":material/arrow_back:", on_click=state.set_query, kwargs={"bin": None})
        else:
            st.button("Bin", icon=":material/delete:", on_click=state.set_query, kwargs={"bin": "yes"})
    state.chosen_several("states", wanted)
    state.chosen_several("tags", tagged)
    said = (words, ",".join(wanted), ",".join(tagged), "yes" if in_bin else "")
    state.keep("list", {name: value or None for name, value in zip(OWN, said, strict=True)})
    return [
        run
        for run in runs
        if run.found_by((words or "").split())
        and (not wanted or run.state in wanted)
        and all(tag in run.tags for tag in tagged)
    ]


def _tags(runs: list[RunSummary]) -> list[str]:
    return sorted({tag for run in runs for tag in run.tags})


def _table(runs: list[RunSummary]) -> tuple[set[str], RunSummary | None]:
    """Show runs; return the ids of those that are ticked, and the run whose name was pressed."""
    frame = tables.runs(runs, state.preparing())
    ticked = state.kept("ticked runs", ())
    event = st.dataframe(
        frame,
        hide_index=True,
        placeholder=text.NOTHING,
        on_select=state.while_here(),
        selection_mode="multi-row",
        # A selection is of places in the table: with other rows it is another table, in which the same runs are ticked.
        key=f"runs:{state.kept('times unticked', 0)}:{hash(tuple(frame['Id']))}",
        selection_default={"selection": {"rows": [place for place, run in enumerate(runs) if run.id in ticked]}},
        column_config={
            "Run": st.column_config.ButtonColumn(type="tertiary", alignment="left", key="opened run"),
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
        alt="Runs with their state, word error rate, job, tags, trained share, steps and training time",
    )
    opened = state.kept("opened run")
    return {runs[place].id for place in event["selection"]["rows"]}, runs[opened["row"]] if opened else None


def _actions(chosen: list[RunSummary], *, hidden: int, known_tags: list[str], in_bin: bool) -> None:
    """Offer what can be done with the runs that are ticked, of which some may be hidden by what is looked for."""
    ids = [run.id for run in chosen]
    if not chosen:
        st.caption("No run ticked.")
        return
    said = f"**{'One run' if len(chosen) == 1 else f'{len(chosen)} runs'} ticked**"
    some = "" if hidden == len(chosen) else f"{hidden} "
    st.markdown(f"{said}, {some}not shown" if hidden else said, width="content")
    if len(chosen) == 1:
        state.link("run", "Open", ":material/monitoring:", run=ids[0])
    elif len(chosen) <= parts.MOST_COMPARED:
        state.link("compare", "Compare", ":material/compare_arrows:", runs=",".join(ids))
    else:
        st.caption(f"At most {parts.MOST_COMPARED} can be compared.")
    with st.popover("Tags", icon=":material/sell:"):
        _tag(chosen, known_tags)
    if len(chosen) == 1:
        with st.popover("Notes", icon=":material/edit_note:"):
            parts.notes(chosen[0].id, chosen[0].notes)
    if in_bin:
        if st.button("Restore", icon=":material/restore_from_trash:"):
            state.studio().restore(ids)
            _untick()
            st.rerun()
    elif st.button("Move to the bin", icon=":material/delete:", help="It can be taken out again."):
        with state.sentences():
            state.studio().put_in_bin(ids)
            _untick()
            st.rerun()
    st.button("Untick", icon=":material/deselect:", on_click=_untick)


def _untick() -> None:
    """Tick nothing, in another table: the keyboard does not get into one that began with ticked rows."""
    state.keep("ticked runs", ())
    state.keep("times unticked", state.kept("times unticked", 0) + 1)


def _tag(chosen: list[RunSummary], known: list[str]) -> None:
    common = [tag for tag in chosen[0].tags if all(tag in run.tags for run in chosen)]
    with st.form(f"tags:{','.join(run.id for run in chosen)}", border=False):
        tags = st.multiselect(
            "Tags of all ticked runs",
            known,
            default=common,
            accept_new_options=True,
            placeholder="Choose one, or write a new one",
        )
        if st.form_submit_button("Save the tags"):
            removed = [tag for tag in common if tag not in tags]
            state.studio().change_tags([run.id for run in chosen], add=tags, remove=removed)
            st.rerun()


if __name__ == "__main__":
    with state.sentences():
        show()
