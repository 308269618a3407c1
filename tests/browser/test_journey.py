"""From an empty database to a row of the ablation table: a run is launched, trained, heard and compared."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import OpenStudio
from tests.browser.pages import cells, choose_row, follow, open_page, read_settings, table

pytestmark = pytest.mark.browser

RUN = """\
name: journey
student: {kind: pruned, encoder_layers: [0, 1, 3]}
freeze_below: 2
lora: {rank: 4, alpha: 8}
source: {kind: generated, train: 8, development: 4, test: 4}
training: {steps: 4, batch_size: 4, learning_rate: 0.003, evaluations: 1, audio_context: 8}
evaluation: {audio_context: 10, batch_size: 4}
method:
  name: manifold
  losses: [{kind: cross_entropy}, {kind: geodesic, weight: 4}]
"""

TRAINED_MS = 300_000
DRAWN_MS = 180_000


@pytest.mark.timeout(600)
def test_a_run_is_launched_trained_heard_and_compared(page: Page, studio: OpenStudio) -> None:
    open_page(page, studio.url)
    expect(page.get_by_role("button", name="Run the quick start")).to_be_visible()

    read_settings(page, RUN)
    # For a moment the form that is replaced stands beside the new one.
    expect(page.get_by_label("Name", exact=True).first).to_have_value("journey")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page).to_have_url(re.compile(r"/run\?run=r[a-z2-7]{7}"))
    expect(page.get_by_role("heading", name="journey")).to_be_visible()
    # Whoever comes back in the middle finds it at work.
    page.reload()
    expect(page.get_by_role("heading", name="journey")).to_be_visible()
    expect(page.get_by_role("button", name="Stop now")).to_be_visible()
    expect(page.locator(".stMarkdownBadge", has_text=re.compile(r"finished$"))).to_be_visible(timeout=TRAINED_MS)

    follow(page, "Alignment")
    points = table(page, "Angle")
    expect(points).to_be_visible(timeout=DRAWN_MS)
    expect(page.locator(".js-plotly-plot canvas").first).to_be_visible()
    audio = page.get_by_test_id("stAudio")
    choose_row(points, 1)
    expect(page).to_have_url(re.compile("point="))
    expect(audio).to_have_attribute("src", re.compile(r"/media/.+\.flac$"))
    assert seconds_of(audio) > 1
    for who in ("Said", "Teacher", "Student, step 4"):
        expect(page.get_by_text(who, exact=True).and_(page.locator("strong"))).to_be_visible()

    follow(page, "Ablations")
    (row,) = [row for row in cells(table(page, "WER")) if row["Model"] == "journey"]
    assert float(row["WER"]) > 0
    assert 0 < float(row["Trained"]) < 1


def seconds_of(audio: Locator) -> float:
    """Return how long the browser finds a clip to be, once it has read its head."""
    return audio.evaluate(
        """audio => new Promise((done, fail) => {
            audio.onloadedmetadata = () => done(audio.duration)
            audio.onerror = () => fail(audio.error.message)
            if (audio.readyState > 0) done(audio.duration)
        })"""
    )
