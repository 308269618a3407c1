"""The browser's Back takes back what was ticked, what is ticked next is heard, and a list is as it was left."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from app.state import LATE_SECONDS
from tests.browser.conftest import OpenStudio
from tests.browser.pages import cells, choose_row, follow, open_page, press_name, table, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]


def open_utterances(page: Page, studio: OpenStudio) -> None:
    open_page(page, studio.url)
    run = next(row["Id"] for row in cells(table(page, "Trained")) if row["State"].endswith("finished"))
    open_page(page, f"{studio.url}/run?run={run}&tab=Utterances")
    expect(page.get_by_test_id("stAudio")).to_be_attached()


def open_points(page: Page, studio: OpenStudio) -> None:
    open_page(page, f"{studio.url}/alignment")
    expect(page.get_by_test_id("stAudio")).to_be_attached()


def hears(page: Page, name: str) -> None:
    expect(page.get_by_test_id("stAudio")).to_have_attribute("aria-label", f"Utterance {name}")


def stay(page: Page) -> None:
    """Stay so long that no address from before can still be on its way."""
    wait_until_drawn(page)
    page.wait_for_timeout(1000 * LATE_SECONDS + 500)


@pytest.mark.parametrize(
    ("opened", "column", "name"),
    [(open_utterances, "Before", "utterance"), (open_points, "Angle", "point")],
    ids=["utterances", "points"],
)
def test_back_takes_back_what_was_ticked_and_it_can_be_ticked_again(
    page: Page, sample_studio: OpenStudio, opened: Callable[[Page, OpenStudio], None], column: str, name: str
) -> None:
    opened(page, sample_studio)
    before = page.url
    listed = [row["Utterance"] for row in cells(table(page, column))]
    hears(page, listed[0])
    for row in (3, 1):
        choose_row(table(page, column), row)
        hears(page, listed[row])
        expect(page).to_have_url(re.compile(f"{name}={listed[row]}"))
        stay(page)
    page.go_back()
    expect(page).to_have_url(re.compile(f"{name}={listed[3]}"))
    hears(page, listed[3])
    wait_until_drawn(page)
    page.go_back()
    hears(page, listed[0])
    wait_until_drawn(page)
    expect(page).to_have_url(before)
    # In a table in which it was still ticked, this would take its tick away.
    choose_row(table(page, column), 1)
    hears(page, listed[1])
    expect(page).to_have_url(re.compile(f"{name}={listed[1]}"))


def test_a_ticked_utterance_stays_in_another_order(page: Page, sample_studio: OpenStudio) -> None:
    open_utterances(page, sample_studio)
    listed = cells(table(page, "Before"))
    choose_row(table(page, "Before"), 3)
    hears(page, listed[3]["Utterance"])
    # At once: the address that goes along may still be the one without the utterance.
    page.get_by_role("radio", name="Best").click()
    expect(page).to_have_url(re.compile("order=best"))
    wait_until_drawn(page)
    assert cells(table(page, "Before")) != listed
    hears(page, listed[3]["Utterance"])
    expect(page).to_have_url(re.compile(f"utterance={listed[3]['Utterance']}"))


def open_the_first(page: Page) -> None:
    press_name(table(page, "Trained"), 0)
    expect(page).to_have_url(re.compile(r"/run\?run="))


def begin_another(page: Page) -> None:
    page.get_by_role("button", name="New run").click()
    expect(page.get_by_role("heading", level=1, name="New run")).to_be_visible()


@pytest.mark.parametrize("leave", [open_the_first, begin_another], ids=["to a run", "to a new run"])
def test_back_leads_to_the_list_as_it_was_left(
    page: Page, sample_studio: OpenStudio, leave: Callable[[Page], None]
) -> None:
    open_page(page, sample_studio.url)
    page.get_by_label("Search", exact=True).fill("quickstart")
    page.get_by_role("combobox", name="State").click()
    page.get_by_role("option", name="finished").click()
    expect(page).to_have_url(re.compile(r"search=quickstart.*states=finished|states=finished.*search=quickstart"))
    page.keyboard.press("Escape")
    expect(page.get_by_text("4 runs of 5, newest first.")).to_be_visible()
    wait_until_drawn(page)
    leave(page)
    wait_until_drawn(page)
    page.go_back()
    expect(page.get_by_text("4 runs of 5, newest first.")).to_be_visible()
    expect(page.get_by_label("Search", exact=True)).to_have_value("quickstart")
    expect(page).to_have_url(re.compile(r"/\?(search|states)=\w+&(search|states)=\w+$"))
    follow(page, "Reports")
    follow(page, "Runs")
    expect(page.get_by_label("Search", exact=True)).to_have_value("quickstart")
