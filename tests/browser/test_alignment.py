"""The map in a real browser: what a click and the keyboard bring, and what they leave as it is."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenStudio
from tests.browser.pages import cells, choose_row, open_page, table, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]

CHART = ".js-plotly-plot"
MARK = f"() => {{ document.querySelector('{CHART}').marked = true }}"
MARKED = f"() => document.querySelector('{CHART}').marked === true"
RANGE = f"() => document.querySelector('{CHART}')._fullLayout.xaxis.range.slice()"
POINT = f"""number => {{
    const chart = document.querySelector('{CHART}')
    const {{ xaxis, yaxis }} = chart._fullLayout
    const {{ x, y }} = chart._fullData[1]
    const box = chart.getBoundingClientRect()
    return [box.x + xaxis._offset + xaxis.d2p(x[number]), box.y + yaxis._offset + yaxis.d2p(y[number])]
}}"""


def address(page: Page, studio: OpenStudio) -> str:
    """Return the address of the map of a run that has states."""
    open_page(page, f"{studio.url}/alignment")
    expect(page.locator(f"{CHART} canvas").first).to_be_visible()
    return page.url


def test_a_click_on_a_point_plays_it_and_leaves_the_map_as_it_is(page: Page, sample_studio: OpenStudio) -> None:
    address(page, sample_studio)
    page.locator(CHART).scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.mouse.move(*page.evaluate(POINT, 3))
    page.mouse.wheel(0, -200)
    page.wait_for_timeout(800)
    zoomed = page.evaluate(RANGE)
    page.evaluate(MARK)
    at = page.evaluate(POINT, 3)
    page.mouse.move(*at)
    page.wait_for_timeout(300)
    page.mouse.click(*at)
    expect(page).to_have_url(re.compile("point=test-003"))
    expect(page.get_by_test_id("stAudio")).to_have_attribute("src", re.compile(r"\.flac$"))
    expect(page.get_by_text("Nearest neighbours", exact=True)).to_be_visible()
    for who in ("Said", "Teacher", "Student, step 160"):
        expect(page.get_by_text(who, exact=True).and_(page.locator("strong"))).to_be_visible()
    wait_until_drawn(page)
    assert page.evaluate(MARKED), "the same figure, not another one in its place"
    assert page.evaluate(RANGE) == pytest.approx(zoomed)


def test_a_row_brings_what_a_click_brings_and_the_map_stays(page: Page, sample_studio: OpenStudio) -> None:
    address(page, sample_studio)
    page.evaluate(MARK)
    points = table(page, "Angle")
    second = cells(points)[1]
    choose_row(points, 1)
    expect(page).to_have_url(re.compile(f"point={second['Utterance']}"))
    expect(page.get_by_test_id("stAudio")).to_be_attached()
    expect(page.get_by_text("Nearest neighbours", exact=True)).to_be_visible()
    assert page.evaluate(MARKED)


def test_the_slider_goes_over_the_steps_by_keyboard_and_keeps_the_point(page: Page, sample_studio: OpenStudio) -> None:
    open_page(page, f"{address(page, sample_studio)}&point=test-005")
    slider = page.get_by_role("slider").last
    slider.focus()
    slider.press("ArrowLeft")
    expect(page).to_have_url(re.compile("step=120"))
    expect(page).to_have_url(re.compile("point=test-005"))
    expect(page.get_by_test_id("stAudio")).to_be_attached()
    slider.press("ArrowRight")
    expect(page).to_have_url(re.compile("step=160"))


def test_presets_are_chosen_by_keyboard_and_stand_in_the_address(page: Page, sample_studio: OpenStudio) -> None:
    address(page, sample_studio)
    worst = page.get_by_role("radio", name="Worst WER")
    worst.focus()
    worst.press("Space")
    expect(page).to_have_url(re.compile("preset=worst"))
