"""A run that is stopped, and one whose worker is killed: the page says so, and why."""

import os
import re
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.store import Store
from tests.browser.conftest import OpenStudio
from tests.browser.pages import open_page, read_settings
from tests.browser.test_journey import RUN

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(600)]

TRAINS_MS = 300_000
TOLD_MS = 15_000
"""So long may it take until the page knows that a worker is gone."""


@pytest.fixture
def training(page: Page, studio: OpenStudio) -> Page:
    """Return the page of a run that is being trained, and would be for long."""
    open_page(page, studio.url)
    read_settings(page, RUN.replace("steps: 4,", "steps: 5000,"))
    expect(page.get_by_label("Name", exact=True).first).to_have_value("journey")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_text(re.compile("Training journey")).first).to_be_visible(timeout=TRAINS_MS)
    return page


STOPS_MS = 60_000
"""So long may a run take to store what it has."""


def badge(page: Page, state: str, *, within: int) -> None:
    """Wait until the run's badge says a state."""
    expect(page.locator(".stMarkdownBadge", has_text=re.compile(rf"{state}$")).first).to_be_visible(timeout=within)


def test_a_killed_worker_is_told_within_fifteen_seconds_with_why(training: Page, tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'experiments.db'}")
    (job,) = store.jobs(limit=2)
    store.close()
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    badge(training, "interrupted", within=TOLD_MS)
    expect(training.get_by_text("is gone without a word")).to_be_visible()
    expect(training.get_by_text("start the run again")).to_be_visible()


def test_a_run_is_stopped_and_keeps_what_it_has(training: Page) -> None:
    training.get_by_role("button", name="Stop", exact=True).click()
    badge(training, "stopped", within=STOPS_MS)
    expect(training.get_by_role("button", name="Stop now")).to_have_count(0)
