"""What people saw wrong: names that became icons, tools that took taps, tabs below the screen, pale numbers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
from playwright.sync_api import Browser, Page, expect

from core.reports.page import freeze
from core.runs import Studio
from core.store import Store
from tests.app import sample
from tests.app.test_map_charts import luminance
from tests.browser.conftest import OpenStudio, database, new_page, open_studio
from tests.browser.pages import open_page, table, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.long]

NAMES = (
    ":material/delete: lr 1e-3",
    ":red[hot] $x^2$ -> :smile: :streamlit:",
    "[a, b]",
    "<b>x</b> [l](http://example.com) **y** `z` ~~s~~",
)
"""What people call runs, and what Streamlit, Markdown and HTML would make of it."""

JOB = ":material/delete: job :tada: a >= b"
MADE_OF_NAMES = "a[href*='example.com'], .katex, main b, [data-testid=stMain] img[alt*='treamlit']"
PAGES = ("", "run", "alignment", "compare", "ablations", "reports", "new")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("names")
    (made / "runs").mkdir()
    store = Store.open(database(made))
    sample.add_finished_job(store, made / "runs", called=JOB, names=NAMES)
    for run in store.runs():
        store.change_tags([run.id], add=[":smile: tag"])
    store.close()
    return made


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[OpenStudio]:
    with open_studio(folder) as opened:
        yield opened


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store.open(database(folder))
    yield opened
    opened.close()


def addresses(store: Store) -> list[str]:
    """Return the pages, and for each run those that show it."""
    runs = [run.id for run in store.runs()]
    one = [f"run?run={run}&tab={tab}" for run in runs for tab in ("Results", "Utterances")]
    job = store.jobs()[0].id
    return [*PAGES, *one, f"compare?runs={','.join(runs)}", f"ablations?job={job}", f"new?start={runs[1]}&launch=one"]


def shown(page: Page) -> str:
    """Return everything that a page says, with what screen readers hear of its figures, word joiners left out."""
    texts = """() => [document.title, document.body.innerText,
        ...[...document.querySelectorAll("svg text")].map(each => each.textContent),
        ...[...document.querySelectorAll("[aria-label], [alt]")].map(each => each.ariaLabel || each.alt),
        ...[...document.querySelectorAll("td, input")].map(each => each.textContent + (each.value || "")),
    ].join("\\n")"""
    return page.evaluate(texts).replace("\u2060", "")


def test_every_page_shows_names_as_they_were_typed(page: Page, studio: OpenStudio, store: Store) -> None:
    for address in addresses(store):
        open_page(page, f"{studio.url}/{address}")
        page.wait_for_timeout(1500)
        icons = page.locator("[data-testid=stIconMaterial]").all_inner_texts()
        assert "delete" not in [icon for icon in icons if address], address
        expect(page.locator(MADE_OF_NAMES)).to_have_count(0)
        # The layers of a pair are joined by an arrow of ours.
        drawn = "[\U0001f300-\U0001faff≥]" if address == "alignment" else "[\U0001f300-\U0001faff→≥]"
        assert not re.search(drawn, shown(page)), address
    # Of the pages that name all runs each name stands there letter by letter.
    for address in ("ablations", addresses(store)[-3]):
        open_page(page, f"{studio.url}/{address}")
        page.wait_for_timeout(2500)
        said = shown(page)
        assert [name for name in NAMES if name not in said] == []


def test_a_frozen_page_shows_names_as_they_were_typed(page: Page, folder: Path, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    studio = Studio(database(folder), folder / "runs")
    report = freeze(studio, studio.store.jobs()[0].id, tmp_path / "page.html", notes=NAMES[3], at=datetime.now(UTC))
    studio.close()
    page.goto(report.path.as_uri())
    said = shown(page)
    assert [name for name in (*NAMES, JOB) if name not in said] == []
    expect(page.locator("a, b, script")).to_have_count(0)


def test_the_tools_of_a_table_take_no_tap_from_the_field_above_it(browser: Browser, studio: OpenStudio) -> None:
    for touch, width in ((True, 375), (False, 375), (False, 1280)):
        context = browser.new_context(viewport={"width": width, "height": 812}, has_touch=touch, is_mobile=touch)
        page = context.new_page()
        open_page(page, f"{studio.url}/ablations")
        found = table(page, "WER")
        expect(found.locator("td").first).to_be_attached()
        found.scroll_into_view_if_needed()
        found.hover()
        field = page.get_by_test_id("stSelectbox").first.bounding_box()
        assert field is not None
        # What is found at the field's right end is the field.
        at = {"x": field["x"] + field["width"] - 20, "y": field["y"] + field["height"] - 12}
        hit = "at => !!document.elementFromPoint(at.x, at.y).closest('[data-testid=stSelectbox]')"
        assert page.evaluate(hit, at), (touch, width)
        tools = found.get_by_test_id("stElementToolbar")
        expect(tools.get_by_role("button", name="Fullscreen")).to_be_visible()
        expect(tools.get_by_role("button", name=re.compile("CSV"))).to_have_count(0)
        context.close()


def test_keys_are_told_where_there_is_a_keyboard(browser: Browser, studio: OpenStudio) -> None:
    hint = "By keyboard: arrows lead to a row"
    with new_page(browser) as page:
        open_page(page, studio.url)
        expect(page.get_by_text(hint)).to_be_visible()
    context = browser.new_context(viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True)
    page = context.new_page()
    open_page(page, studio.url)
    expect(page.get_by_text(hint)).to_be_hidden()
    context.close()


def test_a_link_to_a_tab_shows_the_tab_on_a_phone(browser: Browser, studio: OpenStudio, store: Store) -> None:
    run = store.runs()[0].id
    with new_page(browser, width=375, height=812) as page:
        open_page(page, f"{studio.url}/run?run={run}&tab=Log")
        expect(page.get_by_text("The last lines of")).to_be_in_viewport()
        expect(page.get_by_role("radio", name="Log")).to_be_in_viewport()
        # Without a tab in the address the page begins at its top.
        open_page(page, f"{studio.url}/run?run={run}")
        page.wait_for_timeout(1500)
        expect(page.get_by_role("heading", level=1)).to_be_in_viewport()


@pytest.mark.parametrize("dark", [False, True])
def test_the_numbers_of_the_grid_of_layers_stand_out(browser: Browser, studio: OpenStudio, dark: bool) -> None:
    with new_page(browser, dark=dark) as page:
        open_page(page, f"{studio.url}/alignment")
        page.get_by_text("Framed: the pairs").scroll_into_view_if_needed()
        grid = page.locator("svg[aria-label*='Grid of'], [aria-label*='Grid of'] svg").first
        expect(grid.locator(".role-mark.mark-text text").first).to_be_visible()
        cells = grid.locator(".role-mark.mark-rect path").evaluate_all(
            "all => all.map(one => getComputedStyle(one).fill)"
        )
        inks = grid.locator(".role-mark.mark-text text").evaluate_all(
            "all => all.map(one => getComputedStyle(one).fill)"
        )
        assert len(cells) == len(inks) == 12
        for cell, ink in zip(cells, inks, strict=True):
            colours = [
                "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", each)[:3]) for each in (cell, ink)
            ]
            lighter, darker = sorted(map(luminance, colours), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, colours


def test_the_list_the_comparison_and_the_utterances_are_files_of_numbers(
    page: Page, studio: OpenStudio, store: Store
) -> None:
    runs = [run.id for run in store.runs()]
    for address, column in (
        ("", "wer_percent"),
        (f"compare?runs={','.join(runs)}", "wer_percent_test"),
        (f"run?run={runs[0]}&tab=Utterances", "words"),
    ):
        open_page(page, f"{studio.url}/{address}")
        with page.expect_download() as started:
            page.get_by_role("button", name="CSV").click()
        frame = pandas.read_csv(started.value.path())
        assert pandas.api.types.is_numeric_dtype(frame[column])


def test_the_title_of_the_tab_tells_how_far_a_run_is(page: Page, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    store = Store.open(database(tmp_path))
    (run,) = sample.add_job(store, tmp_path / "runs", "running")
    with open_studio(tmp_path) as opened:
        open_page(page, f"{opened.url}/run?run={run.id}")
        expect(page).to_have_title("▶ training 42 % · + manifold · Manifold Studio")
        expect(page.locator(".stMarkdownBadge", has_text="training")).to_be_visible()
        expect(page.get_by_text("queued")).to_have_count(0)
        store.progress(run.job_id, "Training + manifold", 700, 1000, 10.0)
        expect(page).to_have_title("▶ training 70 % · + manifold · Manifold Studio")
        store.run_progress(run.id, run.steps, 90.0)
        expect(page).to_have_title("▷ testing 70 % · + manifold · Manifold Studio")
        store.run_state(run.id, "failed", "It is broken.")
        store.job_state(run.job_id, "failed", "It is broken.")
        expect(page).to_have_title("✕ failed · + manifold · Manifold Studio")
        buttons = page.get_by_role("button", name=re.compile("^(tune )?Change settings|Start it again"))
        expect(buttons.first).to_contain_text("Change settings")
        buttons.first.click()
        expect(page).to_have_url(re.compile(rf"/new\?.*start={run.id}"))
        wait_until_drawn(page)
    store.close()
