"""The database's files: whose they are, and how they are read where nothing can be written."""

import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import RunConfig
from core.errors import UnwritableError
from core.runs import Studio
from core.store import Store
from core.store.files import free_bytes, make_folder_private, make_private

Fill = Callable[[Path], Path]


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.fixture
def configs(make_config: Callable[..., RunConfig]) -> list[RunConfig]:
    return [make_config(name="a"), make_config(name="b", seed=1)]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_database_is_its_owners_whatever_the_mask(tmp_path: Path, mask: int, configs: list[RunConfig]) -> None:
    before = os.umask(mask)
    try:
        studio = Studio(f"sqlite:///{tmp_path / 'new' / 'a.db'}", tmp_path / "runs")
        studio.store.create_job("a", configs)
    finally:
        os.umask(before)
    made = {path.name: mode(path) for path in (tmp_path / "new").iterdir()}
    assert made == dict.fromkeys(("a.db", "a.db-wal", "a.db-shm", "a.db.lock"), "0o600")
    assert mode(tmp_path / "runs") == "0o700"
    studio.close()


def test_what_others_could_read_is_repaired_when_it_is_opened(store: Store, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    copy = tmp_path / "experiments.db.schema-0007.20260101-000000.backup"
    for path in (copy, store.path.with_name("experiments.db.lock")):
        path.touch()
    files = [store.path, *(Path(f"{store.path}{end}") for end in ("-wal", "-shm", ".lock")), copy]
    for path in files:
        path.chmod(0o664)
    (tmp_path / "runs").chmod(0o755)
    studio = Studio(store.url, tmp_path / "runs")
    assert {path.name: mode(path) for path in files} == {path.name: "0o600" for path in files}
    assert mode(tmp_path / "runs") == "0o700"
    assert studio.trouble() == []
    studio.close()


def test_what_cannot_be_repaired_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    for path in (store.path, tmp_path / "runs"):
        path.chmod(0o770)

    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    # As for the file of another account, which root, who may run this, cannot have.
    monkeypatch.setattr(Path, "chmod", refuse)
    studio = Studio(store.url, tmp_path / "runs")
    (said,) = studio.trouble()
    assert str(store.path) in said
    assert f", {tmp_path / 'runs'}, and" in said
    assert "chmod" in said
    studio.close()


def test_a_folder_that_is_everybodys_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o1777)
    assert not make_folder_private(tmp_path)
    assert mode(tmp_path) == "0o1777"
    tmp_path.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not make_folder_private(tmp_path)
    assert mode(tmp_path) == "0o755"


def test_nothing_beside_a_database_is_no_trouble(tmp_path: Path) -> None:
    assert make_private(tmp_path / "none.db") == []


def test_a_database_on_a_full_disk_is_read_and_can_be_written_again_when_there_is_room(
    small_disk: Path, fill: Fill, configs: list[RunConfig]
) -> None:
    path = small_disk / "a #b.db"
    store = Store.open(f"sqlite:///{path}")
    store.create_job("kept", configs)
    store.close()
    before = path.read_bytes()
    filling = fill(small_disk)
    assert free_bytes(path) == 0
    for _ in range(2):
        store = Store.open(store.url)
        assert sorted(run.name for run in store.runs()) == ["a", "b"]
        assert "The disk is full" in store.unwritable
        assert str(small_disk) in store.unwritable
        with pytest.raises(UnwritableError, match="The disk is full"):
            store.create_job("lost", configs)
        assert [job.name for job in store.jobs()] == ["kept"]
        store.close()
    assert path.read_bytes() == before
    store = Store.open(store.url)
    filling.unlink()
    assert len(store.runs()) == 2
    assert store.unwritable == ""
    store.create_job("more", configs)
    assert len(store.jobs()) == 2
    store.close()


def test_two_look_at_once_at_what_a_killed_process_left_on_a_full_disk(
    small_disk: Path, tmp_path: Path, fill: Fill, configs: list[RunConfig]
) -> None:
    store = Store.open(f"sqlite:///{small_disk / 'a.db'}")
    store.create_job("kept", configs)
    copies = [shutil.copy(file, tmp_path) for file in (store.path, f"{store.path}-wal")]
    store.close()
    for copy in copies:
        shutil.copy(copy, small_disk)
    fill(small_disk)
    one, other = Store.open(store.url), Store.open(store.url)
    for each in (one, other, one):
        assert len(each.runs()) == 2
    one.close()
    other.close()


def test_a_database_on_a_disk_that_is_mounted_for_reading_is_read(small_disk: Path, configs: list[RunConfig]) -> None:
    store = Store.open(f"sqlite:///{small_disk / 'a.db'}")
    store.create_job("kept", configs)
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = Store.open(store.url)
    assert [job.name for job in store.jobs()] == ["kept"]
    assert "cannot be opened for writing" in store.unwritable
    store.close()


def test_an_older_schema_on_a_full_disk_is_not_read_as_if_it_were_the_newest(small_disk: Path, fill: Fill) -> None:
    path = small_disk / "old.db"
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE alembic_version (version_num TEXT)")
        old.execute("INSERT INTO alembic_version VALUES ('0001')")
    old.close()
    fill(small_disk)
    with pytest.raises(UnwritableError, match="The disk is full"):
        Store.open(f"sqlite:///{path}")


def test_a_studio_on_a_full_disk_shows_what_there_is_and_says_why_nothing_is_added(
    small_disk: Path, tmp_path: Path, fill: Fill, configs: list[RunConfig]
) -> None:
    studio = Studio(f"sqlite:///{small_disk / 'a.db'}", tmp_path / "runs")
    job = studio.store.create_job("kept", configs)
    # Of a worker that is dead: the next look would write that down.
    studio.store.job_started(job.id, 2**22 + 1, "another boot", 0.0)
    studio.store.job_state(job.id, "running")
    fill(small_disk)
    studio.refresh()
    assert sorted(run.name for run in studio.store.runs()) == ["a", "b"]
    (said,) = studio.trouble()
    assert "is full" in said
    assert str(small_disk) in said
    studio.close()
