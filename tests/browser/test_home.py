"""From the list of runs: compare, share the address, clone, bin and restore; ticks stay with their runs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.store import Store
from tests.app import sample
from tests.browser.conftest import OpenStudio, new_page, open_studio
from tests.browser.pages import cells, choose_row, follow, open_page, press_name, table, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "runs").mkdir()
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    sample.add_finished_job(opened, folder / "runs")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def home(store: Store, folder: Path) -> Iterator[OpenStudio]:
    with open_studio(folder) as opened:
        yield opened


def ids(page: Page) -> list[str]:
    return [row["Id"] for row in cells(table(page, "Trained"))]


def test_three_runs_are_compared_and_a_copied_address_shows_the_same(
    browser: Browser, page: Page, home: OpenStudio
) -> None:
    open_page(page, home.url)
    runs = table(page, "Trained")
    chosen = [ids(page)[place] for place in (0, 1, 3)]
    for place, said in ((0, "One run"), (1, "2 runs"), (3, "3 runs")):
        choose_row(runs, place)
        expect(page.get_by_text(f"{said} ticked")).to_be_visible()
    page.get_by_role("link", name="Compare").last.click()
    expect(page.get_by_role("heading", level=1, name="Compare")).to_be_visible()
    expect(page).to_have_url(re.compile("runs=" + "(,|%2C)".join(chosen)))
    numbers = cells(table(page, "Angle"))
    assert [row["Id"] for row in numbers] == chosen
    expect(page.locator("[role=graphics-document]").first).to_be_visible()
    settings = cells(table(page, "Setting"))
    with new_page(browser) as other:
        open_page(other, page.url)
        assert cells(table(other, "Angle")) == numbers
        assert cells(table(other, "Setting")) == settings


def test_a_search_in_the_address_is_the_same_list_elsewhere(browser: Browser, page: Page, home: OpenStudio) -> None:
    open_page(page, home.url)
    page.get_by_label("Search").press_sequentially("cosine")
    expect(page).to_have_url(re.compile("search=cosine"))
    expect(page.get_by_text("One run of")).to_be_visible()
    with new_page(browser) as other:
        open_page(other, page.url)
        expect(other.get_by_text("One run of")).to_be_visible()
        assert ids(other) == ids(page)


def test_a_search_is_no_step_of_its_own_on_the_way_back(page: Page, home: OpenStudio) -> None:
    open_page(page, f"{home.url}/compare")
    follow(page, "Runs")
    steps = page.evaluate("history.length")
    search = page.get_by_role("searchbox", name="Search")
    for typed in ("co", "cos", "cosine"):
        search.press_sequentially(typed.removeprefix(search.input_value()))
        expect(page).to_have_url(f"{home.url}/?search={typed}")
        wait_until_drawn(page)
    expect(page.get_by_text("One run of")).to_be_visible()
    assert page.evaluate("history.length") == steps
    page.go_back()
    expect(page.get_by_role("heading", level=1, name="Compare")).to_be_visible()
    wait_until_drawn(page)
    page.go_forward()
    expect(search).to_have_value("cosine")
    expect(page.get_by_text("One run of")).to_be_visible()
    search.fill("")
    expect(page).to_have_url(f"{home.url}/")
    expect(page.get_by_text("4 runs, newest first")).to_be_visible()


def test_a_tick_stays_with_its_run_when_another_comes_on_top(
    page: Page, home: OpenStudio, store: Store, folder: Path
) -> None:
    open_page(page, home.url)
    second = ids(page)[1]
    choose_row(table(page, "Trained"), 1)
    expect(page.get_by_text("One run ticked")).to_be_visible()
    (new,) = sample.add_job(store, folder / "runs", "failed", "The disk is full.")
    # Nobody touches the page: it looks by itself.
    expect(page.get_by_text("The disk is full.")).to_be_visible()
    expect(table(page, "Trained").locator("td", has_text=new.id)).to_be_attached()
    assert ids(page)[0] == new.id
    expect(page.get_by_text("One run ticked")).to_be_visible()
    page.get_by_role("link", name="Open", exact=True).click()
    expect(page).to_have_url(re.compile(f"/run\\?run={second}"))


def test_the_numbers_of_a_run_that_trains_follow_it(page: Page, home: OpenStudio, store: Store, folder: Path) -> None:
    (run,) = sample.add_job(store, folder / "runs", "running")
    open_page(page, f"{home.url}/run?run={run.id}&tab=Results")
    numbers = page.get_by_test_id("stMetricValue")
    expect(numbers.last).to_have_text("32 s")
    expect(page.get_by_text("Results appear with the first evaluation.")).to_be_visible()
    # Nobody touches the page: it looks by itself.
    store.run_progress(run.id, 80, 125.0)
    expect(numbers.last).to_have_text("2 min 05 s")
    sample.evaluate(store, run.job_id, run.id, "student", "development", 80, 0.3, ["development-000"])
    expect(numbers.first).to_have_text(re.compile("%"))
    assert [row["Step"] for row in cells(table(page, "CER"))] == ["80"]
    store.job_state(run.job_id, "failed", "The disk is full.")
    store.run_state(run.id, "failed", "The disk is full.")


def test_a_run_is_cloned_and_changed(page: Page, home: OpenStudio, store: Store) -> None:
    run = next(run for run in store.runs() if run.state == "finished")
    open_page(page, f"{home.url}/run?run={run.id}")
    page.get_by_role("link", name="Clone and change").click()
    expect(page.get_by_role("heading", level=1, name="New run")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value(run.name)
    expect(page.get_by_text(f"The same settings as the baseline, the run {run.id}.")).to_be_visible()
    steps = page.get_by_label("Steps", exact=True)
    steps.fill("7")
    steps.press("Enter")
    (difference,) = cells(table(page, "Setting"))
    assert (difference["Setting"], difference["This"]) == ("training.steps", "7")


def test_a_run_goes_to_the_bin_and_comes_back(page: Page, home: OpenStudio) -> None:
    open_page(page, home.url)
    before = ids(page)
    choose_row(table(page, "Trained"), 2)
    page.get_by_role("button", name="Move to the bin").click()
    expect(table(page, "Trained").locator("td", has_text=before[2])).to_have_count(0)
    page.get_by_role("button", name="Bin", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Bin")).to_be_visible()
    expect(table(page, "Trained").locator("td", has_text=before[2])).to_have_count(1)
    choose_row(table(page, "Trained"), 0)
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("No run ticked")).to_be_visible()
    page.get_by_role("button", name="Back to the runs").click()
    expect(table(page, "Trained").locator("td", has_text=before[2])).to_be_attached()
    assert ids(page) == before


def test_one_step_back_from_a_run_is_home_and_from_a_page_the_one_before(page: Page, home: OpenStudio) -> None:
    open_page(page, home.url)
    press_name(table(page, "Trained"), 1)
    expect(page).to_have_url(re.compile(r"/run\?run="))
    wait_until_drawn(page)
    run = page.url
    follow(page, "Compare")
    page.go_back()
    expect(page).to_have_url(run)
    wait_until_drawn(page)
    page.go_back()
    expect(page.get_by_role("heading", level=1, name="Runs")).to_be_visible()
    expect(page).to_have_url(f"{home.url}/")
