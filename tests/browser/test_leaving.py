"""Whoever ticks a row and goes to another page at once is on that page, and stays there."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenStudio
from tests.browser.pages import choose_row, follow, table
from tests.browser.test_way_back import open_points

pytestmark = pytest.mark.browser

TOLD_MS = 600
"""By then the browser has told of the row."""

DRAWN_MS = 1500
"""By then the server has drawn what it draws because of that."""


def test_a_point_that_was_ticked_just_before_does_not_empty_the_page(page: Page, sample_studio: OpenStudio) -> None:
    open_points(page, sample_studio)
    points = table(page, "Angle")
    there = page.get_by_test_id("stTopNavLink").filter(has_text="Ablations")
    # The browser tells of a row a moment after it was ticked, unless the other page is there by then: a slow server.
    sample_studio.server.suspend()
    choose_row(points, 2)
    # By the page itself: a driven press takes so long that the browser may have told of the row before it.
    there.evaluate("link => link.click()")
    page.wait_for_timeout(TOLD_MS)
    sample_studio.server.resume()
    page.wait_for_timeout(DRAWN_MS)
    expect(page.get_by_role("heading", level=1, name="Ablations")).to_be_visible()
    expect(table(page, "WER").locator("tbody tr")).to_have_count(6)
    assert "point" not in page.url
    follow(page, "Reports")
