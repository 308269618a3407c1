import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import core.cli.doctor as doctor
from core.cli.doctor import Finding, examine
from core.config import RunConfig
from core.store import Store


@pytest.fixture
def look(tmp_path: Path) -> Callable[[str], Finding]:
    """Return a function that examines the machine and returns one finding."""

    def finding(name: str) -> Finding:
        found = examine(database_url=f"sqlite:///{tmp_path}/runs.db", runs_folder=tmp_path / "not" / "made")
        assert not (tmp_path / "not").exists()
        return next(item for item in found if item.name == name)

    return finding


def test_an_sqlite_with_the_checkpoint_race_is_told_of(
    look: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert "can lose a commit" in look("sqlite").note
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert "can lose a commit" not in look("sqlite").note


def test_little_disk_space_is_told_of(look: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENOUGH_BYTES", shutil.disk_usage("/tmp").total * 1000)
    assert "runs may fill it" in look("disk").note
    monkeypatch.setattr(doctor, "ENOUGH_BYTES", 0)
    assert look("disk").well


def test_jobs_are_counted_in_words_that_fit_their_number(
    look: Callable[[str], Finding], tmp_path: Path, configs: tuple[RunConfig, ...]
) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/runs.db")
    for said in ("0 jobs", "1 job", "2 jobs"):
        assert look("database").note == f"{store.path}, {said}"
        store.create_job("a", configs)
    store.close()


def test_a_missing_torch_is_told_of_and_needed(look: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    found = look("torch")
    assert (found.well, found.needed) == (False, True)
    assert "make setup" in found.note


def test_a_missing_chromium_is_told_of_and_not_needed(
    look: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    found = look("chromium")
    assert (found.well, found.needed) == (False, False)
    assert "apt-get install chromium" in found.note


def test_recorded_speech_is_found_where_it_was_written_and_else_named_with_the_command(tmp_path: Path) -> None:
    def told() -> dict[str, str]:
        found = examine(database_url=f"sqlite:///{tmp_path}/runs.db", runs_folder=tmp_path)
        return {item.name: item.note for item in found if item.name.startswith("speech")}

    asks = "not here; the quick start does without: manifold data get"
    assert told() == {"speech asterisk-en": f"{asks} asterisk-en", "speech recorded": f"{asks} recorded"}
    manifest = tmp_path / "data" / "real" / "real.jsonl"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    assert told() == {"speech asterisk-en": f"{asks} asterisk-en", "speech recorded": str(manifest)}
