"""The studio's pages in Streamlit's own test runner, on a database of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest

from core.launchers.local import LocalLauncher
from core.store import Store

TOKEN = "the token of this start"
MAIN = Path(__file__).parents[2] / "app" / "main.py"


@pytest.fixture
def runs_folder(tmp_path: Path) -> Path:
    """Return the folder of runs."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def studio(store: Store, runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Return the studio on the test's database, its home page open."""
    monkeypatch.setenv("MANIFOLD_DB", store.url)
    monkeypatch.setenv("MANIFOLD_RUNS", str(runs_folder))
    monkeypatch.setenv("MANIFOLD_TOKEN", TOKEN)
    # The test runner has no browser, which would send the cookie.
    monkeypatch.setattr(ContextProxy, "cookies", {"manifold_token_8501": TOKEN})
    # The tests answer what pages ask for themselves; a worker for each would take the processor from all of them.
    monkeypatch.setattr(LocalLauncher, "submit_analysis", lambda self, **places: None)
    return AppTest.from_file(str(MAIN), default_timeout=60)


@pytest.fixture
def open_page(studio: AppTest) -> Callable[..., AppTest]:
    """Return what opens a page, by the name of its file, with parameters in its address."""

    def open_page(page: str, **parameters: str) -> AppTest:
        if page == "runs":
            # In a window of its own: what is bound to the address reads it when its page is opened, and this one is
            # where every window opens.
            home = AppTest.from_file(str(MAIN), default_timeout=60)
            home.query_params.update(parameters)
            return home.run()
        studio.query_params.clear()
        studio.run()
        studio.switch_page(f"views/{page}.py")
        for name, value in parameters.items():
            studio.query_params[name] = value
        return studio.run()

    return open_page
