"""Every journey by the keyboard alone: nothing is clicked, and nothing focused but by Tab."""

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas
import pytest
from playwright.sync_api import Page, expect

from core.store import Store
from tests.app import sample
from tests.browser.conftest import OpenStudio, open_studio
from tests.browser.pages import cells, open_page, table, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]

MOST_STOPS = 120
MOST_SEGMENTS = 10

STARTS_MS = 60_000
"""So long may a worker take until it can be stopped, and until it has stopped."""

PLAYS = "() => document.activeElement.currentTime > 0"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("keyboard")
    (folder / "runs").mkdir()
    opened = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    sample.add_finished_job(opened, folder / "runs")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def studio(store: Store) -> Iterator[OpenStudio]:
    """Yield a studio with a finished quick start."""
    with open_studio(Path(store.path).parent) as opened:
        yield opened


def focused(page: Page) -> Callable[[], str]:
    """Return what says the name of what the keyboard is on, as a screen reader does."""
    session = page.context.new_cdp_session(page)

    def name() -> str:
        found = session.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]["objectId"]
        said = session.send("Accessibility.getPartialAXTree", {"objectId": found, "fetchRelatives": False})
        return said["nodes"][0].get("name", {}).get("value", "")

    return name


def tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Press Tab, or Shift+Tab, until the keyboard is on what has a name, which may be a pattern."""
    now, passed = focused(page), []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        passed.append(now())
        if re.fullmatch(name, passed[-1]):
            return
    pytest.fail(f"Tab does not lead to '{name}', but to {passed}")


def enter(page: Page, name: str, *, back: bool = False) -> None:
    """Go to a button or a link and press it."""
    tab_to(page, name, back=back)
    page.keyboard.press("Enter")


def go_to_row(page: Page, alt: str, row: int) -> None:
    """Go into a table, and to a row of it."""
    # The last button above a table; the next stop is its first cell.
    tab_to(page, f"Fullscreen: {alt}.*")
    page.keyboard.press("Tab")
    for _ in range(row):
        page.keyboard.press("ArrowDown")


def choose_option(page: Page, name: str, option: str) -> None:
    """Choose from a list that can be searched by writing."""
    tab_to(page, name)
    page.keyboard.type(option)
    expect(page.get_by_role("option").first).to_contain_text(option, ignore_case=True)
    page.keyboard.press("Enter")


def choose_segment(page: Page, first: str, wanted: str) -> None:
    """Go to a row of segments by the one that Tab leads to, and by arrows to another one."""
    tab_to(page, first)
    now = focused(page)
    for _ in range(MOST_SEGMENTS):
        if now() == wanted:
            break
        page.keyboard.press("ArrowRight")
    assert now() == wanted
    page.keyboard.press("Space")
    expect(page.get_by_role("radio", name=wanted)).to_be_checked()


def hear(page: Page, clip: str) -> None:
    """Go to a clip and play it."""
    expect(page.get_by_test_id("stAudio")).to_have_attribute("aria-label", clip)
    tab_to(page, clip)
    page.keyboard.press("Space")
    page.wait_for_function(PLAYS)


def test_three_runs_are_ticked_and_compared(page: Page, studio: OpenStudio) -> None:
    open_page(page, studio.url)
    ids = [row["Id"] for row in cells(table(page, "Trained"))]
    go_to_row(page, "Runs with their state", 0)
    for said in ("One run", "2 runs", "3 runs"):
        page.keyboard.press("Shift+Space")
        expect(page.get_by_text(f"{said} ticked")).to_be_visible()
        page.keyboard.press("ArrowDown")
    wait_until_drawn(page)
    enter(page, "Compare", back=True)
    expect(page.get_by_role("heading", level=1, name="Compare")).to_be_visible()
    expect(page).to_have_url(re.compile("runs=" + "(,|%2C)".join(ids[:3])))
    # Back in the list they are still ticked; another choice begins without them.
    enter(page, "Navigate to home page")
    expect(page.get_by_text("3 runs ticked")).to_be_visible()
    enter(page, "Untick")
    expect(page.get_by_text("No run ticked")).to_be_visible()
    wait_until_drawn(page)
    go_to_row(page, "Runs with their state", 1)
    page.keyboard.press("Shift+Space")
    expect(page.get_by_text("One run ticked")).to_be_visible()


def test_the_way_through_the_list_leads_out_of_it_and_a_ticked_run_is_opened(page: Page, studio: OpenStudio) -> None:
    open_page(page, studio.url)
    second = cells(table(page, "Trained"))[1]
    go_to_row(page, "Runs with their state", 1)
    # Past the last cell of the row the way leads on, round the page, and nothing was opened by being passed.
    tab_to(page, "Skip to main content")
    expect(page).to_have_url(f"{studio.url}/")
    go_to_row(page, "Runs with their state", 0)
    page.keyboard.press("Shift+Space")
    expect(page.get_by_text("One run ticked")).to_be_visible()
    wait_until_drawn(page)
    enter(page, "Open", back=True)
    expect(page).to_have_url(re.compile(f"/run\\?run={second['Id']}"))


def test_runs_are_tagged_found_by_their_tag_binned_and_restored(page: Page, studio: OpenStudio) -> None:
    open_page(page, studio.url)
    third = cells(table(page, "Trained"))[2]["Id"]
    go_to_row(page, "Runs with their state", 2)
    page.keyboard.press("Shift+Space")
    expect(page.get_by_text("One run ticked")).to_be_visible()
    wait_until_drawn(page)
    enter(page, "Tags", back=True)
    tab_to(page, "Tags of all ticked runs")
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    enter(page, "Save the tags")
    expect(table(page, "Trained").locator("td", has_text="by hand")).to_be_attached()
    page.keyboard.press("Escape")
    tab_to(page, "Search")
    page.keyboard.type("by hand")
    expect(page.get_by_text("One run of 4")).to_be_visible()
    assert [row["Id"] for row in cells(table(page, "Trained"))] == [third]
    enter(page, "Move to the bin")
    expect(page.get_by_text("No runs of 3")).to_be_visible()
    enter(page, "Bin")
    expect(page.get_by_role("heading", level=1, name="Bin")).to_be_visible()
    wait_until_drawn(page)
    go_to_row(page, "Runs with their state", 0)
    page.keyboard.press("Shift+Space")
    expect(page.get_by_text("One run ticked")).to_be_visible()
    wait_until_drawn(page)
    enter(page, "Restore", back=True)
    expect(page.get_by_text("No run ticked")).to_be_visible()
    enter(page, "Back to the runs")
    expect(page.get_by_text("One run of 4")).to_be_visible()


def test_a_run_is_set_up_queued_and_stopped(page: Page, studio: OpenStudio) -> None:
    open_page(page, f"{studio.url}/new")
    choose_option(page, "Preset", "quickstart")
    choose_segment(page, "An ablation", "One run")
    choose_option(page, "Method", "cosine")
    # The method brings a form of its own: what is typed before it is there would be typed into the one that goes.
    expect(page.get_by_label("Name", exact=True).first).to_have_value("+ cosine")
    expect(page.get_by_label("Name", exact=True)).to_have_count(1)
    tab_to(page, "Name")
    page.keyboard.press("Control+A")
    page.keyboard.type("by keyboard")
    tab_to(page, "Steps")
    page.keyboard.press("Control+A")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    expect(table(page, "Setting").locator("td", has_text="training.steps")).to_be_attached()
    enter(page, "Launch")
    expect(page).to_have_url(re.compile(r"/run\?run=r[a-z2-7]{7}"))
    expect(page.get_by_role("heading", level=1, name="by keyboard")).to_be_visible()
    enter(page, "Stop now")
    expect(page.locator(".stMarkdownBadge", has_text=re.compile(r"stopped$"))).to_be_visible(timeout=STARTS_MS)


def test_the_worst_utterance_of_a_run_is_heard(page: Page, studio: OpenStudio, store: Store) -> None:
    run = next(run for run in store.runs() if run.state == "finished")
    open_page(page, f"{studio.url}/run?run={run.id}")
    choose_segment(page, "Curves", "Costs")
    expect(page.get_by_role("heading", name="Expected and happened")).to_be_visible()
    choose_segment(page, "Costs", "Utterances")
    worst = cells(table(page, "Before"))[1]
    go_to_row(page, "Utterances of this evaluation, worst first", 1)
    page.keyboard.press("Shift+Space")
    hear(page, f"Utterance {worst['Utterance']}")


def test_a_point_of_the_map_is_chosen_by_its_table_and_heard(page: Page, studio: OpenStudio) -> None:
    open_page(page, f"{studio.url}/alignment")
    expect(page.locator(".js-plotly-plot canvas").first).to_be_visible()
    points = table(page, "Angle")
    third = cells(points)[2]
    go_to_row(page, "Points of the map", 2)
    page.keyboard.press("Shift+Space")
    expect(page).to_have_url(re.compile(f"point={third['Utterance']}"))
    hear(page, f"Utterance {third['Utterance']}")


def test_an_ablation_is_opened_and_each_of_its_files_taken(page: Page, studio: OpenStudio) -> None:
    open_page(page, studio.url)
    enter(page, "Ablations")
    choose_option(page, "Job", "quickstart")
    expect(table(page, "WER").locator("tbody tr")).to_have_count(6)
    for name, suffix in (("CSV", ".csv"), ("Markdown", ".md"), ("LaTeX", ".tex")):
        wait_until_drawn(page)
        tab_to(page, name)
        with page.expect_download() as started:
            page.keyboard.press("Enter")
        assert started.value.suggested_filename == f"quickstart-test{suffix}"
        if name == "CSV":
            frame = pandas.read_csv(started.value.path())
            assert frame["wer_percent"].dtype == frame["difference_points"].dtype == float


def test_a_job_is_frozen_and_packed(page: Page, studio: OpenStudio, store: Store, tmp_path: Path) -> None:
    job = next(job.id for job in store.jobs() if job.name == "quickstart")
    # Another one at first, so that the choice is seen to be taken: fields that belong to it come with it.
    (other,) = sample.add_job(store, Path(store.path).parent / "runs", "failed", "The disk is full.")
    open_page(page, f"{studio.url}/reports?job={other.job_id}")
    choose_option(page, "Job", "quickstart")
    expect(page).to_have_url(re.compile(f"job={job}"))
    wait_until_drawn(page)
    tab_to(page, "Notes")
    page.keyboard.type("Written without a mouse.")
    enter(page, "Freeze")
    expect(page.frame_locator("iframe").get_by_text("Written without a mouse.")).to_be_visible()
    choose_option(page, "Job to carry", "quickstart")
    expect(page.get_by_text(f"manifold bundle export {job}")).to_be_visible()
    tab_to(page, "Without adapters and states")
    page.keyboard.press("Space")
    expect(page.get_by_role("checkbox", name="Without adapters and states")).to_be_checked()
    wait_until_drawn(page)
    tab_to(page, "Export the bundle")
    with page.expect_download() as started:
        page.keyboard.press("Enter")
    started.value.save_as(tmp_path / "bundle.zip")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as bundle:
        assert bundle.testzip() is None
