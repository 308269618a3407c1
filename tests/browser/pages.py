"""What a person does on the studio's pages, as Playwright does it."""

import re
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, expect

ADDRESSES: dict[str, str] = {}
"""What each studio that was opened has printed, by its host and port."""

ROW = 35
"""Height of a table's row, and of its head, in CSS pixels."""


def open_page(page: Page, url: str) -> None:
    """Open an address, with the token where its studio asks for it, and wait until all of its page is drawn."""
    page.goto(url)
    token = page.get_by_label("Token, or the whole address")
    if token.count():
        # It stands in the address of this studio, which the command prints.
        token.fill(ADDRESSES[urlsplit(url).netloc])
        page.get_by_role("button", name="Open the studio").click()
    wait_until_drawn(page)


def wait_until_drawn(page: Page) -> None:
    """Wait until the page's script has ended and shown its title."""
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def follow(page: Page, name: str) -> None:
    """Go to a page by the navigation at the top."""
    page.get_by_test_id("stTopNavLink").filter(has_text=re.compile(rf"{name}$")).click()
    expect(page.get_by_test_id("stTopNavLink").and_(page.locator("[aria-current=page]"))).to_contain_text(name)
    wait_until_drawn(page)


def table(page: Page, column: str) -> Locator:
    """Return the table that has a column; it is drawn on a canvas, which holds the cells for screen readers, too."""
    return page.get_by_test_id("stDataFrame").filter(has=page.locator("th", has_text=column)).first


def choose_row(found: Locator, row: int) -> None:
    """Tick a row of a table: the boxes stand left, under a head of one row."""
    found.locator(".dvn-scroller").click(position={"x": 16, "y": ROW * (row + 1) + ROW // 2})


def press_name(found: Locator, row: int) -> None:
    """Press the name of a run in the list of runs: the second column, right of the states."""
    found.locator(".dvn-scroller").click(position={"x": 170, "y": ROW * (row + 1) + ROW // 2})


def cells(found: Locator) -> list[dict[str, str]]:
    """Return the rows of a table as a screen reader hears them, by the first word of each column."""
    expect(found.locator("td").first).to_be_attached()
    # In one go: a table that is drawn anew meanwhile would leave some of them behind.
    read = """table => [...table.querySelectorAll("tr")].map(row => [...row.children].map(cell => cell.textContent))"""
    columns, *rows = found.locator("table").evaluate(read)
    return [dict(zip([name.split()[0] for name in columns], row, strict=True)) for row in rows]


def read_settings(page: Page, settings: str) -> None:
    """Bring settings into the form of New run as text."""
    typed = settings_text(page)
    typed.fill(settings)
    typed.press("Control+Enter")
    page.get_by_role("button", name="Read into the form").click()


def settings_text(page: Page) -> Locator:
    """Go to the field of New run that takes settings as text."""
    follow(page, "New run")
    page.get_by_text("One run", exact=True).click()
    page.get_by_text("As a file").click()
    return page.get_by_label("Or its text")
