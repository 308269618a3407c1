"""The frozen page: what stands in it, and that nothing in it can do anything."""

import base64
import dataclasses
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from core.config import RunConfig
from core.errors import JobError, NotFoundError, StoreError
from core.reports import page as pages
from core.reports.charts import lines
from core.reports.page import freeze, frozen_report, frozen_reports, render
from core.reports.sheets import sheets
from core.runs import Studio
from core.store import Store
from tests.app import sample
from tests.reports.conftest import NAME

AT = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
ELEMENTS = (
    "html head meta link title style body header h1 h2 h3 p main section div table thead tbody tr th td figure "
    "figcaption svg path circle polygon polyline line text article small audio dl dt dd del ins em details summary "
    "code pre footer"
)
LOADS = ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction")


class Read(HTMLParser):
    """Collects the elements, the attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[str] = []
        self.text = ""
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("td", "th"):
            self.cells.append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.cells[-1] += data


def rendered(studio: Studio, **options: Any) -> str:
    job = studio.store.jobs(states=("finished",))[0].id
    return render(studio, job, **{"notes": "", "clips": 20, "at": AT, **options})


@pytest.fixture
def page(studio: Studio) -> str:
    return rendered(studio)


def test_the_tables_are_those_of_the_terminal(studio: Studio, page: str) -> None:
    cells = [cell.strip() for cell in Read(page).cells]
    for sheet in sheets(studio.ablation(studio.store.jobs(states=("finished",))[0].id)):
        for row in (sheet.columns, *sheet.rows):
            places = [place for place, cell in enumerate(cells) if cell == row[0]]
            assert any(tuple(cells[place : place + len(row)]) == row for place in places), row


def test_it_says_where_the_numbers_come_from(studio: Studio, page: str) -> None:
    said = Read(page).text
    (job, *_) = studio.store.jobs(states=("finished",))
    runs = studio.store.runs(job_id=job.id)
    expected = [job.id, "hash of test", "2026-05-04 12:30 UTC", "torch 2", "manifold-studio", "whisper-english"]
    expected += [text for run in runs for text in (run.id, run.config_hash, run.name)]
    assert [text for text in expected if text not in said] == []
    assert said.count("kind: geodesic") == 1


def test_it_has_every_chart_with_words_for_those_who_do_not_see_it(page: str) -> None:
    labels = [value for tag, name, value in Read(page).attributes if tag == "svg" and name == "aria-label"]
    beginnings = ("Word error rates in", "Differences from", "Word error rate on the", "Debiased linear CKA", "Map of")
    assert len(labels) == len(beginnings)
    assert all(label.startswith(start) for label, start in zip(labels, beginnings, strict=True))


def test_the_clips_are_the_files_themselves_with_what_each_model_heard(studio: Studio, page: str) -> None:
    read = Read(page)
    clips = [value for tag, name, value in read.attributes if tag == "audio" and name == "src"]
    assert len(clips) == 20
    sounds = {base64.b64decode(clip.removeprefix("data:audio/flac;base64,")) for clip in clips}
    files = {path.read_bytes() for path in (studio.runs_folder / "data" / "sample").iterdir()}
    assert len(sounds) == 20
    assert sounds <= files
    assert "20 of 24 utterances of generated voice, evenly spread" in read.text
    assert read.elements["del"] > 20
    assert read.elements["ins"] > 20
    for who in ("Teacher", "LoRA + CE (baseline)", "(best)"):
        assert who in read.text


@pytest.mark.parametrize("clips", [0, 1, 3, 99])
def test_as_many_clips_as_were_asked_for_but_never_more_than_twenty(studio: Studio, clips: int) -> None:
    assert Read(rendered(studio, clips=clips)).elements["audio"] == min(clips, 20)


def test_of_several_seeds_it_shows_the_kinds_and_hears_one_baseline(store: Store, tmp_path: Path) -> None:
    studio = Studio(store.url, tmp_path / "runs")
    job = sample.add_seeds(store, utterances=120)
    sample.write_audio(studio.runs_folder / "data" / "sample", [f"u{number}" for number in range(120)])
    read = Read(render(studio, job.id, notes="", clips=1, at=AT))
    studio.close()
    for said in ("Over seeds", "Against ce", "Fewer than 3 seeds are not tested", "ce (seed 0) (baseline)"):
        assert said in read.text
    assert "ce (seed 1) (baseline)" not in read.text
    assert "too few seeds to test" in read.cells


def test_clips_that_are_gone_are_left_out(studio: Studio) -> None:
    folder = studio.runs_folder / "data" / "sample"
    folder.rename(folder.with_name("elsewhere"))
    try:
        assert Read(rendered(studio)).elements["audio"] == 0
    finally:
        folder.with_name("elsewhere").rename(folder)


def test_it_runs_nothing_and_loads_nothing(page: str) -> None:
    read = Read(page)
    assert set(read.elements) <= set(ELEMENTS.split())
    assert [value[:40] for _, name, value in read.attributes if name in LOADS and not value.startswith("data:")] == []
    assert [name for _, name, _ in read.attributes if name.startswith("on") or name == "style"] == []
    assert "url(" not in page
    assert "@import" not in page


def test_its_policy_allows_its_own_style_alone(page: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'sha256-{digest}'"
    assert (rules["img-src"], rules["media-src"]) == ("data:", "data:")
    assert page.index("Content-Security-Policy") < page.index("<style>")


@pytest.fixture
def hostile(store: Any, tmp_path: Path) -> Studio:
    """Return an installation in which everything that can be named has a name made to break pages."""
    studio = Studio(store.url, tmp_path / "runs")
    named = [config.model_copy(update={"name": NAME}) for config in sample.quick_start()]
    job = studio.store.create_job(NAME, named)
    words = f'{NAME} "><img src=x onerror=alert(1)>'
    clips = ['a"><script>x</script>']
    for subject, run_id in (("teacher", None), *(("student", run.id) for run in studio.store.runs(job_id=job.id))):
        sample.evaluate(studio.store, job.id, run_id, subject, "test", 160, 0.3, clips)
    folder = studio.runs_folder / "data" / "sample"
    sample.write_audio(folder, ["plain"])
    (folder / "plain.flac").rename(folder / "name.flac")
    heard = dataclasses.replace(
        studio.store.utterance_results(1)[0], reference=words, hypothesis=words, audio_path="data/sample/name.flac"
    )
    for record in studio.store.evaluations(job_id=job.id):
        fields = {name: value for name, value in vars(record).items() if name != "id"}
        studio.store.add_evaluation(**fields, results=[heard])
    studio.store.job_state(job.id, "running")
    studio.store.job_state(job.id, "finished")
    return studio


def test_a_name_stays_text(hostile: Studio) -> None:
    page = rendered(hostile, notes=f"{NAME}\n\n<script>alert(2)</script>")
    read = Read(page)
    assert set(read.elements) <= set(ELEMENTS.split())
    assert read.elements["audio"] == 1
    assert NAME in read.text
    assert "<script>alert(2)</script>" in read.text
    assert "<script" not in page
    assert "<img" not in page
    hostile.close()


def test_experts_and_their_ensemble_are_on_the_page_as_teachers(store: Store, tmp_path: Path) -> None:
    studio = Studio(store.url, tmp_path / "runs")
    sample.add_ensemble_job(studio.store, studio.runs_folder)
    read = Read(rendered(studio))
    assert "ensemble, mean" in read.text
    assert "Teachers: ensemble, mean" in read.text
    said = [value for tag, name, value in read.attributes if tag == "svg" and name == "aria-label"]
    assert "expert in babble 2" in said[0]
    assert said[-1].startswith("Map of ensemble: best per utterance")
    studio.close()


def test_a_page_is_found_again_by_its_name(studio: Studio) -> None:
    job = studio.store.jobs(states=("finished",))[0].id
    written = freeze(studio, job, at=AT)
    assert written.path.name == f"quickstart-{job}-20260504-123000.html"
    later = freeze(studio, job, clips=0, at=AT.replace(hour=13))
    assert frozen_reports(studio) == [later, written]
    assert frozen_report(studio, written.path.name) == written
    with pytest.raises(NotFoundError, match="There is no report"):
        frozen_report(studio, "../../experiments.db")
    with pytest.raises(StoreError, match="is there already"):
        freeze(studio, job, at=AT)


def test_a_job_at_work_is_not_frozen(studio: Studio, tmp_path: Path) -> None:
    (run,) = sample.add_job(studio.store, studio.runs_folder, "running")
    with pytest.raises(JobError, match="is running"):
        freeze(studio, run.job_id, tmp_path / "page.html", at=AT)
    studio.store.job_state(run.job_id, "failed", "It was a test.")
    assert freeze(studio, run.job_id, tmp_path / "page.html", at=AT).path.exists()
    assert "Nothing was evaluated yet." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_and_its_style_travel_with_the_package() -> None:
    assert {path.name for path in pages.HERE.iterdir()} >= {"report.html", "report.css"}


def test_its_settings_do_not_say_where_the_runs_lie(
    tmp_path: Path, new_database: Path, make_config: Callable[..., RunConfig]
) -> None:
    shutil.copy(new_database, tmp_path / "experiments.db")
    own = Studio(f"sqlite:///{tmp_path / 'experiments.db'}", tmp_path / "runs")
    manifest = str(own.runs_folder / "data" / "own.jsonl")
    config = make_config(
        source={"kind": "manifest", "train": manifest, "development": manifest, "test": manifest},
        evaluation={"extra_tests": [str(own.runs_folder / "data" / "real.jsonl")]},
    )
    job = own.store.create_job("with paths", [config])
    own.store.job_state(job.id, "failed", "No.")
    page = render(own, job.id, notes="", clips=0, at=AT)
    own.close()
    assert "- data/real.jsonl" in page
    assert "train data/own.jsonl" in page
    assert str(tmp_path) not in page


def test_a_ratio_has_no_axis_above_one() -> None:
    drawn = lines({"a run": [(0.0, 1.0), (8.0, 1.0)]}, label="CKA", unit="CKA", most=1.0)
    numbers = [float(text) for text in re.findall(r'text-anchor="end">([\d.]+)<', drawn)]
    assert (min(numbers), max(numbers)) == (0.0, 1.0)


def test_states_of_one_step_are_no_chart(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    every = studio.store.alignments
    monkeypatch.setattr(studio.store, "alignments", lambda run_id: [r for r in every(run_id) if r.step == 0])
    assert "How alike the states became" not in rendered(studio)


def test_the_map_tells_its_own_trustworthiness_not_the_mean_of_all_steps(store: Store, tmp_path: Path) -> None:
    studio = Studio(store.url, tmp_path / "runs")
    for run in sample.add_finished_job(store, studio.runs_folder):
        for record in store.maps(run.id):
            place = (record.side, record.student_layer, record.teacher_layer, record.step, record.level)
            store.request_map(run.id, *place, again=True)  # pyright: ignore[reportArgumentType]
            counts = {"points": record.points, "points_total": record.points_total}
            said = {"how": record.how, "stratified": record.stratified, "seconds": 1}
            store.finish_map(record.id, path=record.path, trustworthiness=0.5, **counts, **said)
    assert "Its trustworthiness is 0.87." in Read(rendered(studio)).text
    studio.close()
