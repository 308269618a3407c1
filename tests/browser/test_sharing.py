"""A job leaves one studio by its Reports page and enters another by its own."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import OpenStudio, new_page, open_studio
from tests.browser.pages import cells, follow, open_page, table, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]


def test_a_bundle_is_downloaded_here_and_dropped_there(
    browser: Browser, page: Page, sample_studio: OpenStudio, tmp_path: Path
) -> None:
    open_page(page, f"{sample_studio.url}/ablations")
    page.get_by_role("combobox", name="Job").click()
    page.get_by_role("option", name="quickstart").click()
    expect(table(page, "WER").locator("tbody tr")).to_have_count(6)
    rows = cells(table(page, "WER"))
    page.get_by_role("link", name="Freeze it into a page").click()
    command = page.locator("code", has_text="manifold bundle export")
    newest = command.inner_text()
    page.get_by_role("combobox", name="Job to carry").click()
    page.get_by_role("option", name="quickstart").click()
    expect(command).not_to_have_text(newest)
    with page.expect_download() as started:
        page.get_by_role("button", name="Export the bundle").click()
    started.value.save_as(tmp_path / "bundle.zip")

    (tmp_path / "away").mkdir()
    with open_studio(tmp_path / "away") as away, new_page(browser) as other:
        open_page(other, f"{away.url}/reports")
        other.locator("input[type=file]").set_input_files(tmp_path / "bundle.zip")
        expect(other.get_by_text("bundle.zip")).to_be_visible()
        other.get_by_role("button", name="Import the bundle").click()
        other.get_by_role("link", name="Open its table").click()
        assert cells(table(other, "WER")) == rows


def test_a_frozen_page_is_shown_and_downloaded(page: Page, sample_studio: OpenStudio, tmp_path: Path) -> None:
    open_page(page, f"{sample_studio.url}/reports")
    page.get_by_role("combobox", name="Job", exact=True).click()
    page.get_by_role("option", name="quickstart").click()
    # The field for notes is the job's own.
    expect(page).to_have_url(re.compile("job="))
    wait_until_drawn(page)
    page.get_by_label("Notes").fill("For the meeting on Monday.")
    page.get_by_role("button", name="Freeze", exact=True).click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", level=1)).to_have_text("quickstart")
    expect(frame.get_by_text("For the meeting on Monday.")).to_be_visible()
    expect(frame.locator("audio")).to_have_count(20)
    with page.expect_download() as started:
        page.get_by_role("button", name="Download the page").click()
    started.value.save_as(tmp_path / "page.html")
    assert "For the meeting on Monday." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_notes_wait_for_their_job_to_be_chosen_again(page: Page, sample_studio: OpenStudio) -> None:
    def choose(job: str) -> None:
        before = page.url
        page.get_by_role("combobox", name="Job", exact=True).click()
        page.get_by_role("option", name=job).click()
        expect(page).not_to_have_url(before)
        wait_until_drawn(page)

    open_page(page, f"{sample_studio.url}/reports")
    choose("quickstart")
    page.get_by_label("Notes").fill("Half a sentence")
    choose("a job that is failed")
    expect(page.get_by_label("Notes")).to_have_value("")
    follow(page, "Runs")
    follow(page, "Reports")
    choose("quickstart")
    expect(page.get_by_label("Notes")).to_have_value("Half a sentence")
