"""The frozen page in a real browser that has no network: it is one file, and stays one."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.reports.page import freeze
from core.runs import Studio
from core.store import Store
from tests.app import sample

pytestmark = pytest.mark.browser

BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.fixture
def report(store: Store, tmp_path: Path) -> Path:
    studio = Studio(store.url, tmp_path / "runs")
    runs = sample.add_finished_job(studio.store, studio.runs_folder)
    notes = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
    written = freeze(studio, runs[0].job_id, tmp_path / "report.html", notes=notes, at=datetime.now(UTC))
    studio.close()
    return written.path


@contextmanager
def opened(browser: Browser, report: Path, *, dark: bool = False, width: int = 1280) -> Iterator[Page]:
    """Open the page without network; afterwards, it has asked for nothing and complained of nothing."""
    context = browser.new_context(
        offline=True, color_scheme="dark" if dark else "light", viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    yield page
    page.wait_for_timeout(300)
    context.close()
    assert said == [report.as_uri()]


def test_it_opens_without_network_and_asks_for_nothing(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        expect(page).to_have_title("quickstart · Manifold Studio")
        expect(page.get_by_role("heading", level=1)).to_have_text("quickstart")
        expect(page.get_by_role("img")).to_have_count(5)
        assert page.locator("svg").evaluate_all("all => all.every(svg => svg.getBoundingClientRect().height > 80)")
        # Playwright's own scripts are no part of the page; the ones that a name brings would be.
        expect(page.locator("script, img")).to_have_count(0)


def test_its_clips_can_be_played(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        expect(page.locator("audio")).to_have_count(20)
        seconds = page.locator("audio").first.evaluate(
            """audio => new Promise((done, fail) => {
                audio.onloadedmetadata = () => done(audio.duration)
                audio.onerror = () => fail(audio.error.message)
                if (audio.readyState > 0) done(audio.duration)
            })"""
        )
        assert seconds == pytest.approx(1.5, abs=0.05)


def test_it_follows_light_and_dark_and_the_width(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        assert page.evaluate(BACKGROUND) == "rgb(255, 255, 255)"
    with opened(browser, report, dark=True, width=375) as page:
        assert page.evaluate(BACKGROUND) == "rgb(19, 23, 26)"
        assert page.evaluate("() => document.documentElement.scrollWidth") == 375
        assert page.pdf().startswith(b"%PDF")


def test_its_policy_stops_what_is_put_into_it_later(browser: Browser, report: Path, tmp_path: Path) -> None:
    """The page as somebody would change it who wants it to call home: the policy is what is tested here."""
    changed = tmp_path / "changed.html"
    content = report.read_text(encoding="utf-8")
    evil = "<script>document.title = 'broken'</script><img src='https://example.org/x.png'><p style='color: red'>x</p>"
    changed.write_text(content.replace("</main>", f"{evil}</main>"), encoding="utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    refused: list[str] = []
    page.on("requestfailed", lambda request: refused.append(request.failure or ""))
    page.on("console", lambda message: asked.append(message.text))
    page.goto(changed.as_uri())
    expect(page).to_have_title("quickstart · Manifold Studio")
    assert sum("Content Security Policy" in text for text in asked) == 3
    assert all("csp" in reason for reason in refused)
    context.close()
