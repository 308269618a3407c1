"""The only file that touches session state, query parameters and caches."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from app import text
from core.errors import ManifoldError, NotFoundError
from core.runs import JobRecord, RunRecord, Studio

PageName = Literal["runs", "new", "run", "alignment", "ablations"]
PAGES: dict[PageName, StreamlitPage] = {}
"""The pages by name, filled by main.py, so that a view can lead to another without importing it."""


@st.cache_resource(show_spinner="Opening the database")
def _studio(database_url: str, runs_folder: str) -> Studio:
    return Studio(database_url, Path(runs_folder))


def open_studio(database_url: str, runs_folder: Path) -> None:
    """Open the database once per process; the page says so when it cannot be."""
    try:
        st.session_state["_studio"] = _studio(database_url, str(runs_folder))
    except ManifoldError as error:
        st.error(text.plain(str(error)), icon=":material/error:")
        st.stop()


def studio() -> Studio:
    """Return the open studio."""
    return st.session_state["_studio"]


def guarded(show: Callable[[], None]) -> Callable[[], None]:
    """Return a page that says in a sentence what went wrong instead of showing a traceback."""

    @functools.wraps(show)
    def page() -> None:
        try:
            show()
        except ManifoldError as error:
            st.error(text.plain(str(error)), icon=":material/error:")

    # Streamlit tells pages apart by the function's name.
    page.__name__ = show.__module__.rsplit(".", 1)[-1]
    return page


def query(name: str) -> str | None:
    """Return a query parameter of the page's address."""
    return st.query_params.get(name)


def set_query(**values: Any) -> None:
    """Put values into the page's address, so that a copied address opens the same view; None removes one."""
    for name, value in values.items():
        if value is None:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != str(value):
            st.query_params[name] = str(value)


def go(page: PageName, **parameters: str) -> None:
    """Lead to another page with parameters in its address."""
    st.switch_page(PAGES[page], query_params=parameters)


def link(page: PageName, label: str, icon: str, **parameters: str) -> None:
    """Show a link to another page with parameters in its address."""
    st.page_link(PAGES[page], label=label, icon=icon, query_params=parameters)


def keep(name: str, value: Any) -> Any:
    """Store a value for this session and return it."""
    st.session_state[name] = value
    return value


def kept(name: str, default: Any = None) -> Any:
    """Return what `keep` stored."""
    return st.session_state.get(name, default)


def chosen_run(runs: list[RunRecord], label: str = "Run") -> RunRecord:
    """Let the user choose a run; the address has it. The newest is shown first.

    Raises:
        NotFoundError: If the address names a run that does not exist.
    """
    wanted = query("run")
    ids = [run.id for run in runs]
    if wanted and wanted not in ids:
        runs = [studio().store.run(wanted), *runs]
        ids = [run.id for run in runs]
    index = ids.index(wanted) if wanted in ids else 0
    named = {run.id: f"{run.name} · {run.id}" for run in runs}
    choice = st.selectbox(label, ids, index=index, format_func=named.__getitem__, key=f"choose-run:{wanted}")
    set_query(run=choice)
    return next(run for run in runs if run.id == choice)


def chosen_job(jobs: list[JobRecord], label: str = "Ablation") -> JobRecord:
    """Let the user choose a job; the address has it."""
    wanted = query("job")
    ids = [job.id for job in jobs]
    if wanted and wanted not in ids:
        raise NotFoundError(f"There is no job '{wanted}'. Choose one from the list of runs.")
    named = {job.id: f"{job.name} · {text.moment(job.created_at)}" for job in jobs}
    index = ids.index(wanted) if wanted in ids else 0
    choice = st.selectbox(label, ids, index=index, format_func=named.__getitem__, key=f"choose-job:{wanted}")
    set_query(job=choice)
    return next(job for job in jobs if job.id == choice)


@st.cache_data(max_entries=64, show_spinner=False)
def audio_bytes(path: str) -> bytes | None:
    """Return a clip's file, or None when it is gone."""
    file = Path(path)
    return file.read_bytes() if file.is_file() else None
