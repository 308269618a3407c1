import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from core.cli.data import told_without_recordings
from core.config import RunConfig
from core.runs import Studio
from core.sources import data_sets
from core.sources.asterisk import ENGLISH, asterisk_speech
from core.sources.data_sets import DATA_SETS
from tests.sources.packages import asterisk_files, content_of, write_packages

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put small packages where fetched ones are, and make them the pinned ones; return the folder of runs."""
    files = asterisk_files()
    write_packages(tmp_path / "runs" / "data", files)
    small = replace(ENGLISH, content=content_of(files))
    sets = (replace(DATA_SETS[0], write=lambda folder: asterisk_speech(folder, small)), *DATA_SETS[1:])
    monkeypatch.setattr(data_sets, "DATA_SETS", sets)
    return tmp_path / "runs"


def test_every_data_set_is_listed_with_its_licence_and_whether_it_is_here(manifold: Command, tmp_path: Path) -> None:
    code, output, _ = manifold("data", "list", "--runs", str(tmp_path))
    assert code == 0
    assert all(word in output for each in DATA_SETS for word in (each.name, each.licence.split(";")[0]))
    (tmp_path / "data" / "real").mkdir(parents=True)
    (tmp_path / "data" / "real" / "real.jsonl").touch()
    rows = json.loads(manifold("data", "list", "--json", "--runs", str(tmp_path))[1])
    assert [(row["name"], row["here"]) for row in rows] == [("asterisk-en", False), ("recorded", True)]
    assert [row["quick_start"] for row in rows] == [None, str(tmp_path / "data" / "real" / "real.jsonl")]
    assert rows[0]["licence"] == "CC-BY-SA-3.0"


def test_a_data_set_is_fetched_into_the_folder_of_runs_which_is_its_owners_alone(
    manifold: Command, packages: Path
) -> None:
    code, output, _ = manifold("data", "get", "asterisk-en", "--runs", str(packages))
    manifest = packages / "data" / "asterisk-en" / "asterisk-en.jsonl"
    assert (code, output.split(": ")[-1].strip()) == (0, str(manifest))
    assert manifest.exists()
    assert packages.stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_had_is_one_sentence_and_the_others_are_fetched_all_the_same(
    manifold: Command, packages: Path
) -> None:
    (packages / "data" / "pocketsphinx-5.1.1.tar.gz").write_bytes(b"another archive")
    code, output, errors = manifold("data", "get", "recorded", "asterisk-en", "--runs", str(packages))
    assert code == 1
    assert errors.startswith("recorded is not here. ")
    assert errors.count("\n") == 1
    assert output.startswith("asterisk-en: ")


def test_a_system_without_apt_is_told_what_to_do(
    manifold: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asterisk_speech(tmp_path / "probe"):
        pytest.skip("The Asterisk prompts are installed here, so nothing is fetched.")
    monkeypatch.setenv("PATH", "")
    code, _, errors = manifold("data", "get", "asterisk-en", "--runs", str(tmp_path))
    assert code == 1
    assert "This system has no apt-get." in errors
    assert f"as files into {tmp_path / 'data'}" in errors


def test_a_name_that_is_none_is_told_before_anything_is_fetched(manifold: Command, packages: Path) -> None:
    code, _, errors = manifold("data", "get", "asterisk-en", "libri", "--runs", str(packages))
    assert (code, errors) == (1, "There is no data set 'libri'. There are asterisk-en, recorded.\n")
    assert not (packages / "data" / "asterisk-en").exists()


@pytest.mark.parametrize(("extra", "said"), [((), True), (("real.jsonl",), False)])
def test_the_quick_start_says_where_it_tests_generated_speech_alone(
    studio: Studio, configs: tuple[RunConfig, ...], extra: tuple[str, ...], said: bool
) -> None:
    changed = [
        config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"extra_tests": extra})})
        for config in configs
    ]
    screen = Console(file=StringIO(), width=40)
    told_without_recordings(studio, studio.store.create_job("a", changed), screen)
    assert isinstance(screen.file, StringIO)
    sentence = "no recorded speech is here. Fetch some: manifold data get asterisk-en recorded\n"
    assert screen.file.getvalue().endswith(sentence) == said
    assert bool(screen.file.getvalue()) == said
