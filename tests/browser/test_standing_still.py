"""What stands on a page keeps its place while a job goes on and while somebody types; its numbers do not grow old."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.runs import RunRecord
from core.store import Store
from tests.app import sample
from tests.browser.conftest import OpenStudio, new_page, open_studio
from tests.browser.pages import cells, open_page, table, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]

WATCH = """() => {
    window.places = new Set()
    const kinds = "[data-testid=stMetric], [role=progressbar], [role=radiogroup], .stDataFrame, .stVegaLiteChart"
    const look = () => {
        const shown = [...document.querySelectorAll(kinds)]
        shown.push(...[...document.querySelectorAll("button")].filter(button => button.innerText.includes("Stop")))
        window.places.add(JSON.stringify(shown.map(each => {
            const box = each.getBoundingClientRect()
            return [Math.round(box.x), Math.round(box.y), Math.round(box.width)]
        })))
        requestAnimationFrame(look)
    }
    look()
}"""
PLACES = "() => [...window.places].map(JSON.parse)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    yield opened
    opened.close()


@pytest.fixture
def run(store: Store, folder: Path) -> RunRecord:
    return sample.add_job(store, folder / "runs", "running")[0]


@pytest.fixture
def at_work(run: RunRecord, folder: Path) -> Iterator[OpenStudio]:
    with open_studio(folder) as opened:
        yield opened


def test_nothing_moves_while_numbers_arrive(page: Page, at_work: OpenStudio, store: Store, run: RunRecord) -> None:
    store.run_state(run.id, "queued")
    open_page(page, f"{at_work.url}/run?run={run.id}")
    expect(page.get_by_text("This run begins when models and speech are ready.")).to_be_visible()
    expect(page.get_by_test_id("stMetric")).to_have_count(6)
    expect(page.get_by_role("radiogroup")).to_be_visible()
    expect(page.locator("[role=graphics-document]").first).to_be_visible()
    wait_until_drawn(page)
    page.evaluate(WATCH)
    sample.evaluate(store, run.job_id, None, "teacher", "test", None, 0.1, ["test-000", "test-001"])
    expect(page.get_by_test_id("stMetric").filter(has_text="Teacher's WER")).to_contain_text("%")
    store.heartbeat(run.job_id)
    expect(page.get_by_text("Worker last heard of just now.")).to_be_visible()
    store.run_state(run.id, "running")
    expect(page.locator(".stMarkdownBadge", has_text=re.compile(r"training$"))).to_be_visible()
    store.progress(run.job_id, "Training + manifold", 990, 1000, 1.0)
    store.run_progress(run.id, 159, 6000.0)
    expect(page.get_by_text("99 %")).to_be_visible()
    expect(page.get_by_test_id("stMetric").filter(has_text="1 h 40 min")).to_be_visible()
    assert len(page.evaluate(PLACES)) == 1


def test_a_chart_that_comes_later_has_its_room_on_a_phone(
    browser: Browser, at_work: OpenStudio, store: Store, run: RunRecord
) -> None:
    with new_page(browser, width=375) as page:
        open_page(page, f"{at_work.url}/run?run={run.id}")
        expect(page.get_by_text("Not read so far.")).to_be_visible()
        below = page.get_by_text("Learning rate", exact=True)
        expect(page.locator("[role=graphics-document]").last).to_be_visible()
        before = below.bounding_box()
        store.add_metrics(run.id, 60, {"development/wer": 0.5})
        expect(page.get_by_text("Not read so far.")).to_have_count(0)
        expect(page.locator("[role=graphics-document][aria-label*='development set']")).to_be_visible()
        assert below.bounding_box() == before


def test_steps_in_the_list_are_not_old(page: Page, at_work: OpenStudio, store: Store, run: RunRecord) -> None:
    open_page(page, at_work.url)
    (row,) = cells(table(page, "Trained"))
    assert row["Step"] == "60 / 160"
    store.run_progress(run.id, 90, 45.0)
    # Nobody touches the page, and no run changes its state.
    expect(table(page, "Trained").locator("td", has_text="90 / 160")).to_be_attached()


def test_a_comparison_follows_the_run_at_work(
    page: Page, at_work: OpenStudio, store: Store, folder: Path, run: RunRecord
) -> None:
    (other,) = sample.add_job(store, folder / "runs", "failed")
    sample.evaluate(store, other.job_id, other.id, "student", "development", 80, 0.4, ["development-000"])
    open_page(page, f"{at_work.url}/compare?runs={run.id},{other.id}&curves=development/wer,loss/total")
    charts = page.locator("[role=graphics-document]")
    expect(charts).to_have_count(2)
    expect(charts.nth(0)).to_have_attribute("aria-label", re.compile("Last: nothing so far"))
    wait_until_drawn(page)
    page.evaluate(WATCH)
    store.run_progress(run.id, 64, 777.0)
    expect(table(page, "Trained").locator("td", has_text="12 min 57 s")).to_be_attached()
    store.add_metrics(run.id, 64, {"loss/total": 1.25})
    expect(charts.nth(1)).to_have_attribute("aria-label", re.compile(r"a job that is running 1\.25,"))
    # It is read after a step, while the step stays what it is.
    store.add_metrics(run.id, 64, {"development/wer": 0.5})
    expect(charts.nth(0)).to_have_attribute("aria-label", re.compile(r"a job that is running 50\b"))
    sample.evaluate(store, run.job_id, run.id, "student", "development", 64, 0.5, ["development-000"])
    expect(table(page, "WER").locator("tbody tr").first.locator("td").nth(1)).not_to_have_text("–")
    store.run_state(run.id, "finished")
    expect(table(page, "Trained").locator("td", has_text="finished")).to_be_attached()
    wait_until_drawn(page)
    assert len(page.evaluate(PLACES)) == 1


def test_a_field_stays_where_it_is_when_what_was_typed_differs_or_is_wrong(page: Page, studio: OpenStudio) -> None:
    open_page(page, f"{studio.url}/new?launch=one")
    steps = page.get_by_label("Steps", exact=True)
    expect(steps).to_be_visible()
    before = steps.bounding_box()
    for typed, told in (("300", "training.steps"), ("-5", "One mistake to correct")):
        steps.fill(typed)
        steps.press("Enter")
        expect(page.get_by_text(told).first).to_be_attached()
        wait_until_drawn(page)
        assert steps.bounding_box() == before
