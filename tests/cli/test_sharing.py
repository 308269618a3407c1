import json
from pathlib import Path

import pytest

from core.runs import JobRecord, Studio
from core.store import Store
from tests.cli.conftest import Command


def places_in(folder: Path) -> list[str]:
    return ["--db", f"sqlite:///{folder / 'experiments.db'}", "--runs", str(folder / "runs")]


def test_a_job_travels_by_two_commands(
    manifold: Command, places: list[str], finished: JobRecord, tmp_path: Path
) -> None:
    file = tmp_path / "job.zip"
    code, output, _ = manifold("bundle", "export", finished.id, "--to", str(file), *places)
    assert code == 0
    assert str(file) in output
    code, output, _ = manifold("bundle", "import", str(file), *places_in(tmp_path / "away"))
    assert code == 0
    assert f"manifold ablation show {finished.id}" in output
    here = manifold("ablation", "show", finished.id, *places)[1]
    assert here == manifold("ablation", "show", finished.id, *places_in(tmp_path / "away"))[1]


def test_programs_are_told_what_travelled(
    manifold: Command, places: list[str], finished: JobRecord, studio: Studio, tmp_path: Path
) -> None:
    run = studio.store.runs(job_id=finished.id)[1].id
    told = json.loads(
        manifold("bundle", "export", run, "--small", "--json", "--to", str(tmp_path / "job.zip"), *places)[1]
    )
    assert (told["job"], told["bytes"]) == (finished.id, (tmp_path / "job.zip").stat().st_size)
    told = json.loads(
        manifold("bundle", "import", str(tmp_path / "job.zip"), "--json", *places_in(tmp_path / "away"))[1]
    )
    assert told["job"] == finished.id
    assert told["runs"] == [run.id for run in studio.store.runs(job_id=finished.id)]


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused_with_a_sentence(
    manifold: Command, store: Store, places: list[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "job.zip").write_bytes(content)
    code, output, errors = manifold("bundle", "import", str(tmp_path / "job.zip"), *places)
    assert (code, output) == (1, "")
    assert "bundle" in errors
    assert store.jobs() == []


def test_the_job_that_finished_last_is_frozen_into_a_page(
    manifold: Command, places: list[str], finished: JobRecord, studio: Studio, tmp_path: Path
) -> None:
    code, output, _ = manifold("report", "--to", str(tmp_path / "page.html"), "--notes", "For <you>", *places)
    assert code == 0
    assert finished.id in output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "For &lt;you&gt;" in page
    assert finished.id in page
    code, output, _ = manifold("report", studio.store.runs(job_id=finished.id)[0].id, *places)
    (kept,) = (studio.runs_folder / "reports").iterdir()
    assert output.startswith(str(kept))
    code, _, errors = manifold("report", "--to", str(tmp_path / "page.html"), *places)
    assert code == 1
    assert "is there already" in errors


def test_the_table_is_printed_as_markdown_and_as_latex(
    manifold: Command, places: list[str], finished: JobRecord
) -> None:
    assert "| + manifold |" in manifold("ablation", "show", "--markdown", *places)[1]
    assert r"\begin{tabular}" in manifold("ablation", "show", "--latex", *places)[1]
