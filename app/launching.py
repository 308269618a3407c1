"""Runs that are ready: what is expected of them, a look at them before they start, and their start."""

from collections.abc import Callable, Sequence

import streamlit as st

from app import checks, planning, state, text
from app.forms import Filled
from core.config import RunConfig
from core.errors import ConfigError, Problem
from core.job_power import test_power
from core.normalisers import note_on
from core.runs import JobRecord


def show(
    runs: Sequence[RunConfig],
    *,
    name: str,
    all_of_it: str = "Launch",
    problems: Sequence[Problem] = (),
    missing: Sequence[Problem] = (),
    tried: Callable[[], None] = lambda: None,
    filled: Filled | None = None,
) -> None:
    """Offer to look at runs before they start, and to start them.

    Args:
        runs: Of one job; none while the form has mistakes.
        name: Of the job.
        all_of_it: What the button says that starts them.
        problems: The form's mistakes.
        missing: Those of fields that nobody has filled in: they are told once somebody tries to go on.
        tried: Called when somebody does.
        filled: The form, to put what a check finds beside its fields.
    """
    expectation = st.text_input(
        "What do you expect? (optional)",
        # Another number makes an empty field for the next launch.
        key=f"expectation:{state.kept('launches', 0)}",
        persist_state="session",
        max_chars=300,
        placeholder="I think …",
        help="Kept with the job, never changed, and shown beside what happens.",
    )
    # What a check of these settings found before; one that is asked for now is answered later.
    wrong = [*problems, *checks.blocking(runs)]
    many = "the mistake" if len(wrong) == 1 else f"the {len(wrong)} mistakes"
    hold = f"Correct {many} first." if wrong else None
    with st.container(horizontal=True):
        launch = st.button(all_of_it, type="primary", icon=":material/rocket_launch:", disabled=bool(wrong), help=hold)
        check = st.button(
            "Check",
            icon=":material/fact_check:",
            disabled=bool(problems),
            help="Looks at the models: finds what only they can tell, counts parameters and FLOPs. Takes seconds; "
            "nothing is measured.",
        )
        measure = st.button(
            "Measure time and memory",
            icon=":material/timer:",
            disabled=bool(problems),
            help="Checks, and takes some real steps on the real speech: time, memory and disk. Half a minute or more "
            "for each run.",
        )
    if missing and (launch or check or measure):
        tried()
        st.rerun()
    if problems or missing:
        return
    if said := test_power(runs):
        st.caption(text.plain(said))
    for note in dict.fromkeys(note_on(run.evaluation.normaliser, run.language) for run in runs):
        if note:
            st.caption(text.plain(f"How words are counted: {note}."))
    if check or measure:
        checks.ask(runs, measure=measure)
    if filled is not None:
        filled.show(wrong)
    if launch and not wrong and (job := _started(runs, name=name, expectation=expectation, filled=filled)):
        state.keep("launches", state.kept("launches", 0) + 1)
        state.go_to("run", run=state.studio().store.runs(job_id=job.id)[0].id)
    checks.show(runs)
    planning.show(runs)


def _started(runs: Sequence[RunConfig], *, name: str, expectation: str, filled: Filled | None) -> JobRecord | None:
    """Start runs, or show all that a first look finds wrong with them."""
    try:
        with st.spinner("Starting"):
            return state.studio().start(runs, name=name, expectation=expectation)
    except ConfigError as error:
        if filled:
            filled.show(error.problems)
        checks.list_mistakes(filled.named(error.problems) if filled else error.problems)
        st.error("Correct this first. Nothing was started.", icon=":material/error:")
