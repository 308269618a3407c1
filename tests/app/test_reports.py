"""The Reports page, the way to it from the Ablations page, and the example on an empty home page."""

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.bundles import example, export_bundle
from core.reports.page import freeze, frozen_reports
from core.runs import RunRecord, Studio
from core.store import Store
from tests.app import sample

OpenPage = Callable[..., AppTest]


@pytest.fixture
def own(store: Store, runs_folder: Path) -> Studio:
    """Return the installation that the pages show."""
    return Studio(store.url, runs_folder)


@pytest.fixture
def finished(store: Store, runs_folder: Path) -> list[RunRecord]:
    return sample.add_finished_job(store, runs_folder)


def press(page: AppTest, label: str) -> AppTest:
    (button,) = [button for button in page.button if button.label == label]
    return button.click().run()


def test_a_job_is_frozen_with_notes_and_shown(open_page: OpenPage, finished: list[RunRecord], own: Studio) -> None:
    page = open_page("reports", job=finished[0].job_id)
    page.text_area[0].set_value("What <b>this</b> shows.")
    page.slider[0].set_value(2)
    page = press(page, "Freeze")
    assert not page.exception
    (report,) = frozen_reports(own)
    written = report.path.read_text(encoding="utf-8")
    assert "What &lt;b&gt;this&lt;/b&gt; shows." in written
    assert written.count("<audio") == 2
    assert page.query_params["report"] == report.path.name
    assert page.get("iframe")


def test_notes_are_of_one_job_and_gone_once_its_page_is_frozen(
    open_page: OpenPage, finished: list[RunRecord], own: Studio, store: Store, runs_folder: Path
) -> None:
    other = sample.add_job(store, runs_folder, "failed", "The disk is full.")[0].job_id
    page = open_page("reports", job=finished[0].job_id)

    def choose(job_id: str) -> str | None:
        page.selectbox(key="choice:job").set_value(job_id).run()
        return page.text_area[0].value

    page.text_area[0].set_value("Of the first.").run()
    assert choose(other) == ""
    page.text_area[0].set_value("Of another.").run()
    assert choose(finished[0].job_id) == "Of the first."
    # In a browser, a form would keep it to itself.
    assert page.text_area[0].form_id == ""
    press(page, "Freeze")
    (report,) = frozen_reports(own)
    assert "Of the first." in report.path.read_text(encoding="utf-8")
    assert page.text_area[0].value == ""
    assert choose(other) == "Of another."


@pytest.mark.parametrize(("page", "labels"), [("ablations", ["Job"]), ("reports", ["Job", "Job to carry"])])
def test_jobs_of_one_name_and_one_minute_are_told_apart(
    open_page: OpenPage, store: Store, runs_folder: Path, monkeypatch: pytest.MonkeyPatch, page: str, labels: list[str]
) -> None:
    monkeypatch.setattr("core.store.writes._now", lambda: datetime(2026, 5, 4, 12, 30, tzinfo=UTC))
    alike = [sample.add_job(store, runs_folder, "failed")[0].job_id for _ in range(2)]
    sample.add_job(store, runs_folder, "stopped")
    boxes = [box for box in open_page(page).selectbox if box.label in labels]
    assert [box.label for box in boxes] == labels
    expected = {f"a job that is failed · 2026-05-04 12:30 UTC · {job_id}" for job_id in alike}
    for box in boxes:
        assert set(box.options) == {"a job that is stopped · 2026-05-04 12:30 UTC", *expected}


def test_the_newest_page_is_shown_first_and_an_address_opens_another(
    open_page: OpenPage, finished: list[RunRecord], own: Studio
) -> None:
    older, newer = (
        freeze(own, finished[0].job_id, clips=0, at=datetime(2026, 5, day, tzinfo=UTC)).path.name for day in (4, 5)
    )
    for parameters, shown in (({}, newer), ({"report": older}, older)):
        page = open_page("reports", **parameters)
        assert next(box for box in page.selectbox if box.label == "Page").value == shown


def test_a_page_that_is_gone_is_told_in_a_sentence(open_page: OpenPage, finished: list[RunRecord], own: Studio) -> None:
    freeze(own, finished[0].job_id, clips=0, at=datetime(2026, 5, 4, tzinfo=UTC))
    page = open_page("reports", report="../experiments.db")
    assert not page.exception
    assert "There is no report" in page.error[0].value


def test_the_table_leads_to_its_page_and_is_offered_in_every_form(
    open_page: OpenPage, finished: list[RunRecord]
) -> None:
    page = open_page("ablations", job=finished[0].job_id)
    labels = [item.proto.label for item in page.get("download_button")]
    assert labels == ["CSV", "Markdown", "LaTeX"]
    assert "Freeze it into a page" in [item.proto.label for item in page.get("page_link")]


def test_jobs_at_work_are_neither_frozen_nor_packed(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    sample.add_job(store, runs_folder, "running")
    page = open_page("reports")
    assert not page.exception
    assert not page.selectbox
    assert [button.label for button in page.button] == ["Import the bundle"]


def test_an_empty_home_page_offers_a_finished_ablation(
    open_page: OpenPage, store: Store, tmp_path: Path, new_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.db").write_bytes(new_database.read_bytes())
    other = Studio(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "other")
    job_id = sample.add_finished_job(other.store, other.runs_folder)[0].job_id
    monkeypatch.setattr(example, "EXAMPLE", export_bundle(other, job_id, tmp_path / "example.zip", small=True).path)
    assert open_page("runs").button[0].label == "Run the quick start"
    page = press(open_page("runs"), "Look at a finished ablation")
    assert not page.exception
    assert store.job(job_id).state == "finished"
    assert page.dataframe[0].value[("", "Model")].iloc[0] == "Teacher"
    other.close()


def test_without_an_example_none_is_offered(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "EXAMPLE", Path("nowhere.zip"))
    labels = [button.label for button in open_page("runs").button]
    assert labels == ["Run the quick start", "Set up a run of your own"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("My jöb (2).zip", "My jöb (2).zip"),
        ("../../evil.zip", "_.._evil.zip"),
        (f"A{'ö' * 300}.zip", f"A{'ö' * 55}.zip"),
    ],
)
def test_a_wrong_bundle_is_told_by_the_name_that_it_was_dropped_with(
    open_page: OpenPage, tmp_path: Path, name: str, written: str
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("manifest.json", "{]")
    page = open_page("reports")
    page.file_uploader[0].set_value((name, content.getvalue(), "application/zip"))
    page = press(page, "Import the bundle")
    assert not page.exception
    said = page.error[0].value.replace("\\", "")
    assert said.startswith(f"{written} is no bundle of this program: its manifest.json cannot be read")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_report_asks_what_came_of_what_was_expected_and_shows_both_at_the_top(
    open_page: OpenPage, store: Store, own: Studio
) -> None:
    job = store.create_job("a bet", sample.rows("quickstart")[:1], expectation="I think the sphere wins.")
    plain = store.create_job("no bet", sample.rows("quickstart")[:1])
    for each in (job, plain):
        store.job_state(each.id, "running")
        store.job_state(each.id, "finished")
    assert open_page("reports", job=plain.id).text_area[0].label == "Notes"
    page = open_page("reports", job=job.id)
    assert any("I think the sphere wins." in item.value.replace("\\", "") for item in page.markdown)
    assert page.text_area[0].label == "What came of it?"
    page.text_area[0].set_value("It did, by a hair.")
    assert not press(page, "Freeze").exception
    (report,) = frozen_reports(own)
    written = report.path.read_text(encoding="utf-8")
    order = [written.index(said) for said in ("I think the sphere wins.", "What came of it", "It did, by a hair.")]
    assert order == sorted(order)
    assert order[-1] < written.index("<table")
