"""The finished quick start that ships with the project: it can be imported, and the README has its numbers."""

import zipfile
from pathlib import Path

import pytest

from core.bundles import example_bundle, import_bundle
from core.runs import JobRecord, Studio
from tests.documents import between


@pytest.fixture
def example(away: Studio) -> JobRecord:
    path = example_bundle()
    assert path is not None
    return import_bundle(away, path)


def test_all_of_its_pages_have_something_to_show(away: Studio, example: JobRecord) -> None:
    assert example.state == "finished"
    runs = away.store.runs(job_id=example.id)
    assert len(runs) == 4
    for run in runs:
        # Its states are not in the bundle, so what Alignment opens with was made before.
        assert [record.state for record in away.store.maps(run.id) if record.step is None] == ["finished"]
        last = max(item.step for item in away.store.alignments(run.id))
        assert [item.state for item in away.store.comparisons(run.id) if item.step == last] == ["finished"]
        records = away.store.evaluations(job_id=example.id)
        heard = [away.store.utterance_results(record.id) for record in records if record.run_id == run.id]
        assert all(Path(away.runs_folder / each.audio_path).is_file() for found in heard for each in found)


def test_the_table_in_the_readme_is_its_own(away: Studio, example: JobRecord) -> None:
    table = [
        [cell.strip() for cell in line.split("|")[1:6]]
        for line in between("results").splitlines()
        if line.startswith("| ")
    ]
    told = {name: numbers for name, *numbers in table[1:]}
    found = away.ablation(example.id)
    assert found.teacher is not None
    assert found.student_before is not None
    evaluations = {"teacher": found.teacher, "student before training": found.student_before}
    evaluations |= {row.run.name: row.evaluation for row in found.rows if row.evaluation is not None}
    assert told == {
        name: [f"{100 * item.wer:.1f}", str(item.substitutions), str(item.deletions), str(item.insertions)]
        for name, item in evaluations.items()
    }


def test_it_says_nothing_of_the_machine_that_made_it(away: Studio, example: JobRecord) -> None:
    path = example_bundle()
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        said = b"".join(archive.read(name) for name in archive.namelist() if not name.endswith(".mp3"))
    for place in (b"/tmp/", b"/home/", b"/root/", b"/Users/"):
        assert place not in said
    for run in away.store.runs(job_id=example.id):
        assert run.config["evaluation"]["extra_tests"] == [str(away.runs_folder / "data" / "real" / "real.jsonl")]
