"""The pictures of the documentation: what their descriptions promise is on the pages, and `make assets` keeps them.

Every picture is taken of the example that ships with the project, at the moment at which it had just ended. Without
`--pictures FOLDER` they go to a folder that is thrown away.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from core.bundles import example_bundle, import_bundle
from core.reports.page import freeze
from core.runs import Studio
from tests.browser.conftest import OpenStudio, database, new_page, open_studio
from tests.browser.pages import cells, open_page, table
from tests.documents import ALL

pytestmark = [pytest.mark.browser, pytest.mark.long]

COLOURS = 192
"""Of a picture: a screen has few, and the file is a third of one with all."""

MOST_BYTES = 150_000
"""Of a picture: they travel with every copy of the project."""

AT_REST = """() => !document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner], [data-stale=true]')
  && !document.querySelector('[data-testid=stStatusWidget]')
  && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(chart => chart.querySelector('canvas'))
  && [...document.querySelectorAll('[data-testid=stVegaLiteChart]')].every(chart => chart.querySelector('canvas, svg'))
  && document.fonts.status === 'loaded'"""
"""Whether nothing is still being fetched, and charts have what they are drawn on."""


@dataclass(frozen=True)
class Places:
    """Where the pictures are taken.

    Attributes:
        example: A studio that has the example and nothing else.
        empty: A studio that has nothing.
        report: The example frozen into a page.
        at: The moment at which they are taken.
        job: Id of the example's job.
        runs: Ids of its runs, in their order.
        heard: Names of the utterances whose states its maps show.
    """

    example: OpenStudio
    empty: OpenStudio
    report: Path
    at: datetime
    job: str
    runs: tuple[str, ...]
    heard: tuple[str, ...]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Yield two studios, one with the example and one without."""
    folder, nothing = tmp_path_factory.mktemp("example"), tmp_path_factory.mktemp("nothing")
    bundle = example_bundle()
    assert bundle is not None
    (folder / "runs").mkdir()
    studio = Studio(database(folder), folder / "runs")
    job = import_bundle(studio, bundle)
    assert job.ended_at is not None
    at = job.ended_at + timedelta(minutes=5)
    report = freeze(studio, job.id, folder / "report.html", at=at)
    runs = tuple(run.id for run in studio.store.runs(job_id=job.id))
    heard = tuple(utterance.id for utterance in studio.probe(job.id))
    studio.close()
    with open_studio(folder) as example, open_studio(nothing) as empty:
        yield Places(example, empty, report.path, at, job.id, runs, heard)


def home(page: Page, places: Places) -> None:
    open_page(page, places.empty.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Manifold Studio")
    for name in ("Run the quick start", "Set up a run of your own", "Look at a finished ablation"):
        expect(page.get_by_role("button", name=name)).to_be_in_viewport()


def runs(page: Page, places: Places) -> None:
    open_page(page, places.example.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    expect(page.get_by_role("heading", name="Best so far")).to_be_visible()
    expect(page.get_by_text("the best of 5 runs on this test set")).to_be_in_viewport()
    # On a phone the table begins below the window, and is drawn when it is scrolled to.
    listed = table(page, "State")
    listed.scroll_into_view_if_needed()
    rows = cells(listed)
    assert {row["Run"] for row in rows} == {"LoRA + CE", "+ logit KD", "+ cosine", "+ layer-mapped MSE", "+ manifold"}
    assert all("finished" in row["State"] for row in rows)
    page.get_by_role("heading", level=1).scroll_into_view_if_needed()


def new_run(page: Page, places: Places) -> None:
    open_page(page, f"{places.example.url}/new")
    expect(page.get_by_role("heading", level=1)).to_have_text("New run")
    expect(page.get_by_role("combobox", name="Preset")).to_be_in_viewport()
    rows = {row["Run"]: row["Differs"] for row in cells(table(page, "Differs"))}
    assert rows["LoRA + CE"] == "the baseline"
    assert rows["+ manifold"] == "mapping.projection: low_rank; soft labels: weight 0.8; geodesic: weight 8"
    expect(page.get_by_role("button", name="Launch 5 runs")).to_be_in_viewport()


def run(page: Page, places: Places) -> None:
    open_page(page, f"{places.example.url}/run?run={places.runs[-1]}")
    expect(page.get_by_role("heading", level=1)).to_have_text("+ manifold")
    expect(page.get_by_test_id("stMetricValue")).to_have_count(6)
    read = cells(table(page, "CER"))
    assert {(row["Model"], row["Set"]) for row in read} >= {("Teacher", "test"), ("Student", "test")}


def alignment(page: Page, places: Places) -> None:
    open_page(page, f"{places.example.url}/alignment?run={places.runs[-1]}&point={places.heard[-1]}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Alignment")
    chart = page.locator(".js-plotly-plot").first
    expect(chart.locator("canvas").first).to_be_visible()
    names = chart.evaluate("chart => chart._fullData.map(trace => trace.name)")
    assert {"Teacher", "Student"} <= set(names)
    expect(page.get_by_test_id("stAudio").first).to_be_in_viewport()
    for said in ("This map keeps", "WER teacher"):
        expect(page.get_by_text(said).first).to_be_in_viewport()


def ablations(page: Page, places: Places) -> None:
    open_page(page, f"{places.example.url}/ablations?job={places.job}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Ablations")
    rows = cells(table(page, "WER"))
    assert [row["Model"] for row in rows][:3] == ["Teacher", "Student before", "LoRA + CE"]
    # Of two columns of one name, the last: the test set that is large enough to test.
    assert all("[" in row["Points"] for row in rows[3:])
    expect(page.get_by_role("heading", name="Against LoRA + CE")).to_be_visible()
    for place in (0, 1):
        expect(page.locator("[role=graphics-document]").nth(place)).to_be_in_viewport(ratio=1)


def compare(page: Page, places: Places) -> None:
    open_page(page, f"{places.example.url}/compare?runs={','.join(places.runs)}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare")
    # With three test sets its last columns are reached by scrolling the table.
    rows = cells(table(page, "Angle"))
    assert [row["Run"] for row in rows] == ["LoRA + CE", "+ logit KD", "+ cosine", "+ layer-mapped MSE", "+ manifold"]
    assert len(cells(table(page, "Setting"))) == 5
    expect(page.locator("[role=graphics-document]").first).to_be_in_viewport(ratio=1)


def reports(page: Page, places: Places) -> None:
    open_page(page, f"{places.example.url}/reports?job={places.job}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Reports")
    for name in ("Freeze", "Export the bundle", "Import the bundle"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_in_viewport()


def report(page: Page, places: Places) -> None:
    page.goto(places.report.as_uri())
    expect(page.get_by_role("heading", level=1)).to_have_text("quickstart")
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.get_by_role("img")).to_have_count(5)
    expect(page.locator("audio")).to_have_count(20)


@dataclass(frozen=True)
class Picture:
    """A picture of the documentation.

    Attributes:
        alt: What the page says that it shows.
        shows: Opens the page, and fails where something of that is not there.
        height: Of the window in CSS pixels: where the content ends, or something on it does.
        width: The same.
        scale: Pixels of the screen in a CSS pixel.
    """

    alt: str
    shows: Callable[[Page, Places], None]
    height: int = 860
    width: int = 1280
    scale: float = 1.5


PICTURES = {
    "home": Picture("The empty home page: what the quick start is, and the three ways to begin", home, 400),
    "ablations": Picture(
        "The Ablations page: the table of word error rates, and their differences from the baseline with intervals",
        ablations,
        1440,
    ),
    "alignment": Picture(
        "The Alignment page: one map of the teacher's and the student's states, and how alike they are", alignment
    ),
    "run": Picture("The Run page: what came of one run", run),
    "runs": Picture("The list of runs, with the best of the newest job", runs, 700),
    "new-run": Picture("The New run page: a preset, its rows, and what each changes against the baseline", new_run),
    "compare": Picture("The Compare page: runs side by side, their differences, curves and numbers", compare, 1340),
    "reports": Picture("The Reports page: a job as a report in one file, and bundles out and in", reports, 600),
    "report": Picture("A report, one file: the table of a job, and below it charts and clips", report, 600),
    "runs-phone": Picture("The list of runs on a phone", runs, 916, 375, 2),
    "run-phone": Picture("The Run page on a phone", run, 916, 375, 2),
}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return where pictures go."""
    return request.config.getoption("--pictures") or tmp_path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_page_shows_what_its_picture_promises(
    browser: Browser, places: Places, folder: Path, name: str, dark: bool
) -> None:
    picture = PICTURES[name]
    with new_page(browser, width=picture.width, height=picture.height, scale=picture.scale, dark=dark) as page:
        page.clock.install(time=places.at)
        picture.shows(page, places)
        content = at_rest(page)
        for sign in ("stException", "stAlertContentError", "stAlertContentWarning"):
            expect(page.get_by_test_id(sign)).to_have_count(0)
    written = folder / f"{name}-{'dark' if dark else 'light'}.png"
    save(content, written)
    assert written.stat().st_size < MOST_BYTES
    with Image.open(written) as image:
        assert image.size == (picture.width * picture.scale, picture.height * picture.scale)
        brightness = image.convert("L").getpixel((image.width // 2, image.height - 2))
    assert isinstance(brightness, int)
    assert (brightness < 100) == dark


def at_rest(page: Page) -> bytes:
    """Return the picture of a page on which nothing moves any more."""
    page.wait_for_function(AT_REST)
    last = b""
    for _ in range(20):
        page.wait_for_timeout(700)
        now = page.screenshot()
        if now == last:
            return now
        last = now
    pytest.fail("The page does not come to rest: no two pictures of it are alike.")


def save(picture: bytes, path: Path) -> None:
    """Write a PNG of few colours: those of planes, which are seen most, as they are, and others from all over."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    found, which, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    spread = image.quantize(COLOURS // 2, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    seen_most = found[np.argsort(-counts)[: COLOURS // 2]]
    palette = np.concatenate([seen_most, np.reshape(spread, (-1, 3))]).astype(int)
    nearest = np.square(found[:, None].astype(int) - palette).sum(axis=2).argmin(axis=1)
    reduced = Image.fromarray(nearest[which.ravel()].reshape(image.height, image.width).astype(np.uint8), "P")
    reduced.putpalette(palette.ravel().tolist())
    reduced.save(path, optimize=True)


def test_the_documentation_shows_every_picture_and_says_what_is_checked() -> None:
    told = re.findall(r'<img alt="([^"]+)" src="(?:\.\./)?assets/([a-z-]+)-light\.png"', ALL)
    assert {name: said for said, name in told} == {name: picture.alt for name, picture in PICTURES.items()}
