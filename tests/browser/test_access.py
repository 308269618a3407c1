"""What people need who do not use a mouse, or do not see the pages: names, titles, contrast, a visible focus."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import OpenStudio, new_page
from tests.browser.pages import open_page

pytestmark = [pytest.mark.browser, pytest.mark.long]

ADDRESSES = (
    "",
    "new?launch=whole",
    "new?launch=grid",
    "new?launch=one",
    "run?tab=Costs",
    "run?tab=Curves",
    "run?tab=Utterances",
    "alignment",
    "compare",
    "ablations",
    "reports",
)
MORE_ADDRESSES = ("run?tab=Results", "run?tab=Settings", "run?tab=Files", "run?tab=Log", "new?launch=file")
NAMED = ("button", "link", "radio", "radiogroup", "combobox", "textbox", "spinbutton", "slider", "graphics-document")
"""Roles of what can be used, and of charts; a screen reader has nothing to say of one without a name."""

OUTLINE = "() => getComputedStyle(document.activeElement).outlineStyle"
TAG = "() => document.activeElement.tagName"


def roles_and_names(page: Page) -> list[tuple[str, str]]:
    """Return what a screen reader is told of the page, in its order."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    said = [node for node in nodes if not node["ignored"]]
    return [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in said]


def test_every_control_and_every_chart_has_a_name_and_every_page_one_heading(
    page: Page, sample_studio: OpenStudio
) -> None:
    for address in ADDRESSES:
        open_page(page, f"{sample_studio.url}/{address}")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        found = roles_and_names(page)
        assert [role for role, name in found if role in NAMED and not name] == [], address
        assert [name for role, name in found if role == "button"], "the controls are there"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_axe_finds_nothing_serious_on_any_page(
    browser: Browser, sample_studio: OpenStudio, dark: bool, width: int
) -> None:
    found = {}
    with new_page(browser, width=width, dark=dark) as page:
        for address in (*ADDRESSES, *MORE_ADDRESSES):
            open_page(page, f"{sample_studio.url}/{address}")
            expect(page.get_by_test_id("stMainBlockContainer")).to_have_css("max-width", "1344px")
            for violation in Axe().run(page).response["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    nodes = [node["html"][:200] for node in violation["nodes"]]
                    found[address, violation["id"]] = nodes
    assert found == {}


def test_each_page_has_a_title_of_its_own(page: Page, sample_studio: OpenStudio) -> None:
    titles = []
    for address in ("", "new", "run", "alignment", "compare", "ablations", "reports"):
        open_page(page, f"{sample_studio.url}/{address}")
        titles.append(page.title().split(" · ")[0])
    assert titles == ["Runs", "New run", "Run", "Alignment", "Compare", "Ablations", "Reports"]


def test_links_and_buttons_show_that_the_keyboard_is_on_them(page: Page, sample_studio: OpenStudio) -> None:
    open_page(page, f"{sample_studio.url}/run?tab=Curves")
    # The studio's own style comes with the page's first elements.
    expect(page.get_by_test_id("stMainBlockContainer")).to_have_css("max-width", "1344px")
    met = []
    for _ in range(15):
        page.keyboard.press("Tab")
        if page.evaluate(TAG) in ("A", "BUTTON"):
            met.append(page.evaluate(OUTLINE))
    assert len(met) > 8
    assert set(met) == {"solid"}
