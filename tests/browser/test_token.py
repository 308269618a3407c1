"""Who may open the studio, as a browser sees it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.config import read_preset
from core.store import Store
from tests.browser.conftest import OpenStudio, new_page, open_studio
from tests.browser.pages import ADDRESSES, open_page, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]


def test_a_browser_without_the_token_is_asked_for_it_and_keeps_it(page: Page, sample_studio: OpenStudio) -> None:
    url = f"{sample_studio.url}/compare"
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_have_text("This studio asks for its token")
    expect(page.get_by_text("manifold serve")).to_be_visible()
    expect(page.get_by_test_id("stApp")).not_to_be_attached()
    page.get_by_label("Token, or the whole address").fill("a wrong one")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not the token of this studio")
    open_page(page, url)
    expect(page).to_have_url(re.compile(rf"^{re.escape(url)}(\?.*)?$"))
    page.reload()
    wait_until_drawn(page)
    other = page.context.new_page()
    other.goto(f"{sample_studio.url}/reports")
    wait_until_drawn(other)
    assert "token" not in page.url + other.url
    assert page.evaluate("document.cookie") == "" or "manifold" not in page.evaluate("document.cookie")


def test_the_address_that_is_printed_opens_the_studio_and_leaves_no_token_in_it(
    page: Page, sample_studio: OpenStudio
) -> None:
    page.goto(ADDRESSES[sample_studio.url.removeprefix("http://")])
    wait_until_drawn(page)
    assert "token" not in page.url
    assert page.evaluate("history.length") <= 2


def test_another_site_can_neither_frame_the_studio_nor_speak_with_it(
    browser: Browser, sample_studio: OpenStudio, tmp_path: Path
) -> None:
    with new_page(browser) as page:
        open_page(page, sample_studio.url)
        frame = tmp_path / "frame.html"
        frame.write_text(f'<iframe src="{sample_studio.url}/"></iframe>')
        page.goto(frame.as_uri())
        page.wait_for_timeout(2000)
        assert [each.url for each in page.frames if each.url.startswith(sample_studio.url)] == []
        address = sample_studio.url.replace("http", "ws") + "/_stcore/stream"
        answer = page.evaluate(
            """address => new Promise(done => {
                const line = new WebSocket(address, ["streamlit"]);
                line.onopen = () => done("open"); line.onerror = () => done("refused") })""",
            address,
        )
        assert answer == "refused"


def test_a_page_that_was_left_open_says_what_to_do_when_the_studio_is_started_again(
    browser: Browser, tmp_path: Path
) -> None:
    with new_page(browser) as page:
        with open_studio(tmp_path) as first:
            open_page(page, first.url)
        with open_studio(tmp_path, port=int(first.url.rpartition(":")[2])):
            expect(page.get_by_role("dialog")).to_contain_text("has a new token", timeout=60_000)
            page.reload()
            expect(page.get_by_role("heading", level=1)).to_have_text("This studio asks for its token")


def test_pages_work_on_a_full_disk_and_say_so(
    page: Page, small_disk: Path, fill: Callable[[Path], Path], tmp_path: Path
) -> None:
    store = Store.open(f"sqlite:///{small_disk / 'experiments.db'}")
    store.create_job("kept", read_preset("one-voice")[1])
    store.close()
    (tmp_path / "experiments.db").symlink_to(small_disk / "experiments.db")
    fill(small_disk)
    with open_studio(tmp_path) as studio:
        open_page(page, studio.url)
        expect(page.get_by_role("alert").first).to_contain_text("The disk is full")
        expect(page.get_by_text("LoRA + CE").first).to_be_attached()
