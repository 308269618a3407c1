"""The finished quick start that ships with the project: it can be imported, and the README has its numbers."""

import zipfile
from pathlib import Path

import pytest

from core.bundles import example_bundle, import_bundle
from core.reports.markdown import ablation_markdown
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
    """As `manifold ablation show --markdown` writes it, of its columns those that the README has room for."""
    found = [
        line for line in ablation_markdown(away.ablation(example.id)).split("## ")[1].splitlines() if line[:1] == "|"
    ]
    told = [line for line in between("results").splitlines() if line[:1] == "|"]
    written, shown = ([[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] for lines in (found, told))
    assert len(shown[0]) > 5
    places = [written[0].index(name) for name in shown[0]]
    assert shown == [[row[place] for place in places] for row in written]


def test_it_says_nothing_of_the_machine_that_made_it(away: Studio, example: JobRecord) -> None:
    path = example_bundle()
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        said = b"".join(archive.read(name) for name in archive.namelist() if not name.endswith(".mp3"))
    for place in (b"/tmp/", b"/home/", b"/root/", b"/Users/"):
        assert place not in said
    for run in away.store.runs(job_id=example.id):
        assert run.config["evaluation"]["extra_tests"] == [str(away.runs_folder / "data" / "real" / "real.jsonl")]
