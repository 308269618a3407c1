"""The only file that touches session state and query parameters; what is read once stands here and in `maps`."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st
from streamlit.navigation.page import StreamlitPage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app import best, charts, phases, tables, text
from core.access import Access
from core.errors import ManifoldError, NotFoundError, quoted
from core.paths import no_file
from core.runs import (
    ACTIVE,
    AblationTable,
    ParameterCounts,
    RunRecord,
    RunSummary,
    Studio,
    UtteranceResult,
)

PageName = Literal["runs", "new_run", "run", "alignment", "ablations", "compare", "reports"]

LIVE_SECONDS = 2.0
"""How often what is alive is drawn again."""

LATE_SECONDS = 3.0
"""For so long after a choice the browser may still send the address that was there before."""

IN_ADDRESS: Literal["query-params"] = "query-params"
"""Binds a text that is searched for as it is typed to the parameter of its key: the browser then changes the address in
its place, where `set_query` would leave an entry in the history for every pause, which Back would take one by one."""


@st.cache_resource(
    show_spinner="Opening the database", hash_funcs={Access: lambda access: (access.who, sorted(access.may))}
)
def _studio(database_url: str, runs_folder: str, access: Access) -> Studio:
    return Studio(database_url, Path(runs_folder), access=access)


def open_studio(database_url: str, runs_folder: Path, access: Access) -> None:
    """Open the database, once per process; the page says so and ends when it cannot be."""
    with sentences():
        st.session_state["studio"] = _studio(database_url, str(runs_folder), access)
        return
    st.stop()


def take(uploaded: UploadedFile, key: str, file: Path) -> None:
    """Write a file that was dropped to the disk, and empty it: the server would keep it until the browser leaves.

    Args:
        uploaded: A copy of what the widget holds.
        key: Of the widget.
        file: To write.
    """
    held: UploadedFile = st.session_state[key]
    uploaded.truncate(0)
    with open(file, "wb") as written:
        shutil.copyfileobj(held, written)
    held.truncate(0)
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, uploaded.file_id)


def studio() -> Studio:
    """Return the open studio."""
    return st.session_state["studio"]


@contextmanager
def sentences() -> Iterator[None]:
    """Show what went wrong as its sentence, never as a traceback."""
    try:
        yield
    except ManifoldError as error:
        st.error("  \n".join(text.plain(line) for line in str(error).splitlines()), icon=":material/error:")
        if isinstance(error, NotFoundError):
            link("runs", "To the list of runs", ":material/list:")


def live(draw: Callable[[], bool], *, seconds: float = LIVE_SECONDS) -> None:
    """Draw a part of the page every few seconds until it says that it has changed for good.

    Args:
        draw: Shows the part; returns whether the whole page has to be drawn anew.
        seconds: How often.
    """

    @st.fragment(run_every=seconds)
    def part() -> None:
        with sentences():
            studio().refresh()
            if draw():
                st.rerun()

    part()


def query(name: str) -> str | None:
    """Return a parameter of the page's address."""
    return st.query_params.get(name)


def set_query(**values: Any) -> None:
    """Put values into the page's address, so that a copied address opens the same view; None removes one."""
    for name, value in values.items():
        if value is None:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != str(value):
            st.query_params[name] = str(value)


def go_to(page: PageName, **parameters: str) -> None:
    """Lead to another page with parameters in its address."""
    st.switch_page(f"views/{page}.py", query_params=parameters)


def arrived(page: StreamlitPage) -> None:
    """Note which page is open, with which address, and whether another was open before."""
    before = kept("page")
    keep("came", before is not None and before[0].url_path != page.url_path)
    keep("opened", before is None or before[0].url_path != page.url_path)
    keep("page", (page, st.query_params.to_dict()))


def came() -> bool:
    """Return whether the page is drawn for the first time since another was open."""
    return kept("came", False)


def opened() -> bool:
    """Return whether the page is drawn for the first time in this window, or since another was open."""
    return kept("opened", False)


def while_here(take: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """Return what takes a choice from a table or a figure as long as the page is open on which that is drawn.

    The browser tells of a choice up to a quarter of a second after it was made. Where another page is open by then,
    Streamlit would go back to the first or, where a fragment had drawn what was chosen from, draw an empty one.
    """
    drawn_on = kept("page")[0].url_path

    def taken() -> None:
        page, address = kept("page")
        if page.url_path != drawn_on:
            st.switch_page(page, query_params=address)
        take()

    return taken


def link(page: PageName, label: str, icon: str, **parameters: str) -> None:
    """Show a link to another page with parameters in its address."""
    st.page_link(f"views/{page}.py", label=label, icon=icon, query_params=parameters)


def keep(name: str, value: Any) -> None:
    """Store a value for this session."""
    st.session_state[name] = value


def kept(name: str, default: Any = None) -> Any:
    """Return what `keep` stored."""
    return st.session_state.get(name, default)


def choice(name: str, options: Sequence[str], *, default: str | None = None) -> str:
    """Prepare a widget whose value stands in the page's address, and return the widget's key.

    The widget is made with that key and without a value of its own; `chosen` then puts its value into the address.
    An address that the user changes wins over the widget, the widget over the default. An address without the
    parameter means the default, which stays what it was when the page was opened.
    """
    key, usual = f"choice:{name}", f"usual:{name}"
    value = st.session_state.get(key)
    if value is None or st.session_state.get(usual) not in options:
        st.session_state[usual] = default if default in options else options[0]
    wanted = query(name) or st.session_state[usual]
    if wanted in options and (value is None or _changed_by_user(name, wanted)):
        value = wanted
        # The browser has this address already: none that was there before can still be on its way.
        st.session_state[f"seen:{name}"] = wanted
        st.session_state.pop(f"left:{name}", None)
    if value not in options:
        value = st.session_state[usual]
    st.session_state[key] = value
    return key


def chosen(name: str, value: str) -> str:
    """Put the value of a widget that `choice` prepared into the address and return it.

    A default stays out of an address that does not have it: the browser would count another page to go back from.
    """
    if query(name) is not None or value != st.session_state.get(f"usual:{name}"):
        set_query(**{name: value})
    seen = f"seen:{name}"
    if st.session_state.get(seen) != value:
        st.session_state[f"left:{name}"] = (st.session_state.get(seen), time.monotonic())
        st.session_state[seen] = value
    return value


def _changed_by_user(name: str, wanted: str | None) -> bool:
    """Return whether the address says something else than `chosen` put there.

    Whoever presses a button right after choosing sends it along with the address that was there before.
    """
    before, since = st.session_state.get(f"left:{name}", (None, 0.0))
    late = wanted == before and time.monotonic() - since < LATE_SECONDS
    return wanted != st.session_state.get(f"seen:{name}") and not late


def tick(name: str, value: str | None, *, elsewhere: bool = False) -> None:
    """Put what was ticked in a table into the address; ``elsewhere``, as on a map, it leaves nothing ticked there."""
    keep(f"left:{name}", (query(name), time.monotonic()))
    keep(f"seen:{name}", value)
    keep(f"table:{name}", kept(f"table:{name}", 0) + elsewhere)
    set_query(**{name: value})


def table_number(name: str) -> int:
    """Return a number for the key of a table whose ticked row stands in the address, and see to it that it does.

    Where the address says something else, as after the browser's Back, it is a new one: in a new table none is ticked.
    """
    if _changed_by_user(name, query(name)):
        tick(name, query(name), elsewhere=True)
    set_query(**{name: kept(f"seen:{name}")})
    return kept(f"table:{name}", 0)


def several(name: str, options: Sequence[str], *, default: Sequence[str] = ()) -> str:
    """Prepare a widget for several values as `choice` does for one value; return the widget's key.

    Args:
        name: Of the parameter in the address, where commas part the values.
        options: What may be chosen.
        default: Values where neither the address nor the widget has any.
    """
    key = f"choice:{name}"
    st.session_state[f"usual:{name}"] = ",".join(default)
    wanted, value = query(name), st.session_state.get(key)
    if wanted is not None and (value is None or wanted != st.session_state.get(f"seen:{name}")):
        value = wanted.split(",")
    known = set(options)
    given = default if value is None else value
    st.session_state[key] = [item for item in dict.fromkeys(given) if item in known]
    return key


def chosen_several(name: str, values: Sequence[str]) -> None:
    """Put the values of a widget that `several` prepared into the address; see `chosen`."""
    said, usual = ",".join(values), st.session_state.get(f"usual:{name}", "")
    if query(name) is not None or said != usual:
        set_query(**{name: said if said or usual else None})
    st.session_state[f"seen:{name}"] = said


def _named(runs: Sequence[RunRecord]) -> dict[str, str]:
    jobs = {job.id: job.name for job in studio().store.jobs(limit=500)}
    return {run.id: f"{run.name} · {jobs.get(run.job_id, run.job_id)} · {run.id}" for run in runs}


def chosen_run(
    runs: Sequence[RunRecord], *, label: str = "Run", width: int | Literal["stretch"] = "stretch"
) -> RunRecord:
    """Let the user choose a run: the one in the address, else the one that was looked at last, else the first.

    Raises:
        NotFoundError: If the address names a run that does not exist.
    """
    known = {run.id: run for run in runs}
    wanted = query("run")
    if wanted and wanted not in known:
        try:
            known[wanted] = studio().store.run(wanted)
        except NotFoundError:
            raise NotFoundError(f"There is no run {quoted(wanted)} here. Choose one from the list of runs.") from None
    names = _named(list(known.values()))
    key = choice("run", list(known), default=kept("last run"))
    value = st.selectbox(label, list(known), format_func=names.__getitem__, key=key, width=width)
    keep("last run", value)
    return known[chosen("run", value)]


@st.cache_data(max_entries=2000, show_spinner=False)
def _parameters(_studio: Studio, url: str, run_id: str, state: str, begun: bool) -> ParameterCounts | None:
    return _studio.store.parameters(run_id)


def preparing() -> frozenset[str]:
    """Return the ids of the jobs at work of which no run has begun."""
    store = studio().store
    return phases.preparing((job, store.runs(job_id=job.id)) for job in store.jobs(states=ACTIVE))


def parameters(run: RunRecord) -> ParameterCounts | None:
    """Return a run's parameter counts, read once per state: they do not change.

    A run that has just become "running" may not have them yet; with its first step it has.
    """
    return _parameters(studio(), studio().store.url, run.id, run.state, run.step > 0)


@st.cache_data(max_entries=2000, show_spinner=False)
def _disk(folder: str, state: str) -> int | None:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) or None


def disk(run: RunRecord) -> int | None:
    """Return what a run's adapters and states take, in bytes, once it has ended; None where it has no files."""
    if run.active:
        return None
    folder = studio().runs_folder / run.id
    # Maps are made later, on request; nobody measured them.
    sizes = [_disk(str(folder / part), run.state) for part in ("adapters", "states")]
    return sum(size or 0 for size in sizes) or None


@st.cache_data(max_entries=64, show_spinner=False)
def _curves(_studio: Studio, url: str, run_id: str, state: str, step: int, read: int) -> pd.DataFrame:
    return tables.curves(_studio.store.curves([run_id], _studio.store.curve_names([run_id])))


def curves(run: RunRecord) -> pd.DataFrame:
    """Return all curves of a run, thinned for pictures; sessions that look at the same step share one reading."""
    store = studio().store
    # The development set is read after a step, while the step stays what it is.
    read = len(store.metrics(run.id, ["development/wer"]))
    return _curves(studio(), store.url, run.id, run.state, run.step, read)


@st.cache_data(max_entries=32, show_spinner=False)
def _compared_curves(
    _studio: Studio, url: str, steps: tuple[tuple[str, str, int], ...], names: tuple[str, ...]
) -> pd.DataFrame:
    most = charts.most_points(len(steps))
    return tables.curves_of(_studio.store.curves([run_id for run_id, *_ in steps], names, most=most))


def compared_curves(runs: Sequence[RunRecord], names: Sequence[str]) -> pd.DataFrame:
    """Return curves of several runs, read anew when one of them has gone on."""
    steps = tuple((run.id, run.state, run.step) for run in runs)
    return _compared_curves(studio(), studio().store.url, steps, tuple(names))


@st.cache_data(max_entries=32, show_spinner="Comparing the runs")
def _ablation(_studio: Studio, url: str, job_id: str, known: tuple[Any, ...]) -> AblationTable:
    return _studio.ablation(job_id)


def ablation(job_id: str) -> AblationTable:
    """Return a job's ablation table, compared anew when there is something new."""
    store = studio().store
    evaluations = tuple(record.id for record in store.evaluations(job_id=job_id))
    runs = tuple((run.id, run.state, run.seconds) for run in store.runs(job_id=job_id))
    return _ablation(studio(), store.url, job_id, (evaluations, runs))


@st.cache_data(max_entries=8, show_spinner=False)
def _best(_studio: Studio, url: str, jobs: tuple[str, ...], steps: tuple[tuple[str, int], ...]) -> list[best.Best]:
    return best.best(_studio.store.evaluations_in(jobs), dict(steps))


def best_runs(runs: Sequence[RunSummary]) -> list[best.Best]:
    """Return the best of finished runs for each comparable set, judged anew when there are others."""
    finished = [run for run in runs if run.state == "finished"]
    jobs = tuple(dict.fromkeys(run.job_id for run in finished))
    steps = tuple((run.id, run.steps) for run in finished)
    return _best(studio(), studio().store.url, jobs, steps)


@st.cache_data(max_entries=64, show_spinner=False)
def _results(_studio: Studio, url: str, evaluation_id: int) -> dict[str, UtteranceResult]:
    return {item.utterance_id: item for item in _studio.store.utterance_results(evaluation_id)}


def results(evaluation_id: int | None) -> dict[str, UtteranceResult]:
    """Return the utterances of an evaluation by their ids, read once: they do not change; none without one."""
    return {} if evaluation_id is None else _results(studio(), studio().store.url, evaluation_id)


def audio(path: str) -> bytes | None:
    """Return a clip's file, or None when it is gone; a relative path is in the runs folder."""
    file = studio().runs_folder / path
    return None if no_file(file, "clip") else file.read_bytes()
