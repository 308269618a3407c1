"""Every page opens on every kind of database, and says what it has to say."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.store import Store
from core.store.records import State
from tests.app import sample

PAGES = ("runs", "new_run", "run", "alignment", "ablations")
ENDINGS: tuple[State, ...] = ("queued", "running", "stopping", "failed", "stopped", "interrupted")
OpenPage = Callable[..., AppTest]


def texts(page: AppTest) -> str:
    """Return everything that a page says, without the signs that keep Markdown from reading it."""
    elements = [*page.title, *page.subheader, *page.markdown, *page.caption, *page.error, *page.warning, *page.info]
    return "\n".join(element.value for element in elements).replace("\\", "")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_an_empty_database_leads_to_the_first_run(open_page: OpenPage, name: str) -> None:
    page = open_page(name)
    assert not page.exception
    assert not page.error
    assert page.title


def test_the_empty_home_page_offers_the_quick_start(open_page: OpenPage) -> None:
    assert open_page("runs").button[0].label == "Run the quick start"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("state", ENDINGS)
def test_a_page_opens_whatever_became_of_the_newest_job(
    open_page: OpenPage, store: Store, runs_folder: Path, name: str, state: State
) -> None:
    sample.add_job(store, runs_folder, state, "The disk is full.")
    page = open_page(name)
    assert not page.exception
