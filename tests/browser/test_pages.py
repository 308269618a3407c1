"""What only a browser shows of the pages: their width, their addresses, their choices, and what they load."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import OpenStudio, new_page
from tests.browser.pages import (
    cells,
    choose_row,
    follow,
    open_page,
    press_name,
    read_settings,
    settings_text,
    table,
    wait_until_drawn,
)

pytestmark = [pytest.mark.browser, pytest.mark.long]

PAGES = (
    "",
    "new",
    "new?launch=grid",
    "new?launch=one",
    "run",
    "run?tab=Costs",
    "run?tab=Curves",
    "run?tab=Utterances",
    "alignment",
    "compare",
    "ablations",
)

MISTAKEN = """\
name: ""
training: {steps: 0, learning_rate: 7}
method: {losses: [{kind: cross_entropy}]}
"""


NAMES = """names => {
    const met = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
    const wrong = names.filter((name, place) => {
        const box = name.getBoundingClientRect(), svg = name.closest("svg"), all = svg.getBoundingClientRect()
        const dots = [...svg.querySelectorAll(".role-mark.mark-symbol path")]
        return box.left < all.left || box.right > all.right || box.bottom > all.bottom
            || [...names.slice(0, place), ...dots].some(other => met(box, other.getBoundingClientRect()))
    })
    return [wrong.map(name => name.textContent), [...new Set(names.map(name => getComputedStyle(name).fill))]]
}"""
"""Names over an edge, on a dot or on another name, and the colours of all."""

BEYOND = """texts => {
    const right = element => element.getBoundingClientRect().right
    return texts.filter(text => right(text) > right(text.closest("svg"))).map(text => text.textContent)
}"""
"""Texts that the right edge of their chart cuts."""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, sample_studio: OpenStudio, dark: bool) -> None:
    with new_page(browser, width=375, dark=dark) as page:
        for address in PAGES:
            open_page(page, f"{sample_studio.url}/{address}")
            beyond = page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
            assert beyond <= 0, address


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)], ids=["wide, light", "phone, dark"])
def test_names_in_charts_cover_nothing_and_can_be_read(
    browser: Browser, sample_studio: OpenStudio, width: int, dark: bool
) -> None:
    with new_page(browser, width=width, dark=dark) as page:
        open_page(page, f"{sample_studio.url}/ablations")
        page.get_by_role("combobox", name="Job").click()
        page.get_by_role("option", name="quickstart").click()
        names = page.locator(".stVegaLiteChart .role-mark.mark-text text")
        expect(names.filter(has_text="+ manifold")).to_have_count(3)
        beyond, colours = names.evaluate_all(NAMES)
        assert beyond == []
        assert colours == [page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).color")]


def test_fields_stand_on_one_line_and_no_axis_is_cut(page: Page, sample_studio: OpenStudio) -> None:
    open_page(page, f"{sample_studio.url}/alignment")
    labels = page.get_by_test_id("stWidgetLabel").filter(has_text=re.compile("Run|Step|One dot is|Map"))
    expect(labels).to_have_count(4)
    tops = labels.evaluate_all("all => all.map(label => Math.round(label.getBoundingClientRect().top))")
    assert len(set(tops)) == 1
    open_page(page, f"{sample_studio.url}/run?tab=Curves")
    expect(page.locator("[role=graphics-document]", has_text="80 %")).to_be_visible()
    beyond = page.locator(".stVegaLiteChart svg text").evaluate_all(BEYOND)
    assert beyond == []


def test_a_chosen_tab_can_be_read_in_the_dark(browser: Browser, studio: OpenStudio) -> None:
    with new_page(browser, dark=True) as page:
        open_page(page, f"{studio.url}/new?launch=one")
        page.get_by_text("Advanced settings").click()
        chosen, other = page.get_by_role("tab", name="Run"), page.get_by_role("tab", name="Student", exact=True)
        expect(chosen).to_have_attribute("aria-selected", "true")
        colours = [tab.locator("p").evaluate("text => getComputedStyle(text).color") for tab in (chosen, other)]
        assert colours[0] == colours[1]


def test_a_name_that_is_pressed_opens_its_run(page: Page, sample_studio: OpenStudio) -> None:
    open_page(page, sample_studio.url)
    runs = table(page, "Trained")
    second = cells(runs)[1]
    press_name(runs, 1)
    expect(page).to_have_url(re.compile(rf"/run\?run={second['Id']}"))
    expect(page.get_by_role("heading", level=1, name=second["Run"])).to_be_visible()


def test_a_copied_address_opens_the_same_view(browser: Browser, page: Page, sample_studio: OpenStudio) -> None:
    open_page(page, sample_studio.url)
    finished = next(row["Id"] for row in cells(table(page, "Trained")) if "finished" in row["State"])
    open_page(page, f"{sample_studio.url}/alignment?run={finished}")
    page.get_by_text("Points", exact=True).click()
    points = table(page, "Angle")
    expect(points.locator("td", has_text="@").first).to_be_attached()
    choose_row(points, 2)
    expect(page).to_have_url(re.compile("point="))
    chosen = cells(points)[2]
    with new_page(browser) as other:
        open_page(other, page.url)
        expect(other.get_by_test_id("stAudio")).to_have_attribute("src", re.compile(r"\.flac$"))
        expect(other.get_by_text(chosen["Said"]).first).to_be_visible()


def test_all_mistakes_are_told_at_once_and_nothing_typed_is_lost(page: Page, sample_studio: OpenStudio) -> None:
    open_page(page, sample_studio.url)
    read_settings(page, MISTAKEN)
    told = page.get_by_role("alert")
    for mistake in ("name", "training.steps", "training.learning_rate"):
        expect(told.filter(has_text=mistake)).to_be_visible()
    expect(page.get_by_label("Or its text")).to_have_value(MISTAKEN)
    follow(page, "Runs")
    expect(settings_text(page)).to_have_value(MISTAKEN)


def test_the_server_never_loads_the_engine(page: Page, sample_studio: OpenStudio) -> None:
    for address in PAGES:
        open_page(page, f"{sample_studio.url}/{address}")
    wait_until_drawn(page)
    loaded = Path(f"/proc/{sample_studio.server.pid}/maps").read_text(encoding="utf-8")
    assert "_multiarray_umath" in loaded
    assert [name for name in ("libtorch", "numba", "sklearn", "faiss") if name in loaded] == []


@pytest.mark.parametrize("width", [1280, 375])
def test_what_stands_above_a_table_can_be_pressed_after_a_row_was_ticked(
    browser: Browser, page: Page, sample_studio: OpenStudio, width: int
) -> None:
    open_page(page, sample_studio.url)
    finished = next(row["Id"] for row in cells(table(page, "Trained")) if "finished" in row["State"])
    with new_page(browser, width=width) as narrow:
        open_page(narrow, sample_studio.url)
        # A phone shows the first columns alone.
        choose_row(table(narrow, "State"), 1)
        narrow.get_by_role("button", name="Move to the bin").click(trial=True)
        for address, column, order in (
            ("run?tab=Utterances&", "Utterance", "Best"),
            ("alignment?", "Utterance", "Worst WER"),
        ):
            open_page(narrow, f"{sample_studio.url}/{address}run={finished}")
            choose_row(table(narrow, column), 2)
            expect(narrow).to_have_url(re.compile("utterance=|point="))
            wait_until_drawn(narrow)
            narrow.get_by_text(order, exact=True).click()
            expect(narrow).to_have_url(re.compile("order=best|preset=worst"))
