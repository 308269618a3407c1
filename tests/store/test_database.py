import fcntl
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event

import core.store.database as database
from core.errors import DatabaseGoneError, NotFoundError, StoreError
from core.store import JobRecord, ParameterCounts, Store, UtteranceResult
from core.store.migrations import HEAD
from core.store.tables import metadata

MIGRATIONS = Path(database.__file__).parent / "migrations"


def ask(path: Path, question: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchone()[0]


def test_a_relative_url_means_the_same_file_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.open("sqlite:///new/folder/runs.db")
    assert store.url == f"sqlite:///{tmp_path.resolve()}/new/folder/runs.db"
    assert (tmp_path / "new/folder/runs.db").is_file()
    store.close()


def test_readers_do_not_wait_for_writers(store: Store) -> None:
    assert ask(store.path, "PRAGMA journal_mode") == "wal"


def test_a_metric_is_stored_once_under_its_key(store: Store) -> None:
    assert "WITHOUT ROWID" in ask(store.path, "SELECT sql FROM sqlite_master WHERE name = 'metrics'")


def test_a_result_of_a_run_that_does_not_exist_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.add_metrics("r0000000", 1, {"total": 1.0})


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(store: Store) -> None:
    engine = create_engine(store.url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_newest_migration_is_the_head_that_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_going_back_before_the_first_migration_leaves_no_table(store: Store) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = create_engine(store.url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert sqlalchemy.inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_a_database_of_the_first_schema_keeps_its_rows(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    store.set_parameters(run.id, ParameterCounts(1000, 800, 5, 2, 600, 300, 1.5e12, 0.5e12))
    asked = store.request_check({"seed": 1})
    engine = create_engine(store.url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        columns = {column["name"] for column in sqlalchemy.inspect(connection).get_columns("runs")}
        assert not columns & {"estimate", "peak_memory", "precision"}
    engine.dispose()
    again = Store.open(store.url)
    assert again.run(run.id) == run
    assert again.parameters(run.id) == ParameterCounts(1000, 800, 5, 2)
    assert (again.check(asked.id).config, again.check(asked.id).measure) == ({"seed": 1}, False)
    again.close()


def test_a_database_that_was_opened_before_is_opened_again_with_its_rows(store: Store, job: JobRecord) -> None:
    again = Store.open(store.url)
    assert again.job(job.id) == job
    again.close()


def test_processes_that_open_a_new_database_at_once_all_succeed(tmp_path: Path) -> None:
    script = f"from core.store import Store; Store.open('sqlite:///{tmp_path}/new.db').jobs()"
    processes = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("postgresql://host/name", "not an SQLite file"),
        ("sqlite://", "not an SQLite file"),
        ("sqlite:///:memory:", "not an SQLite file"),
    ],
)
def test_what_is_no_file_is_refused_with_an_example(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=f"{said}.*sqlite:///experiments.db"):
        Store.open(url)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database\n" * 100)
    with pytest.raises(StoreError, match="not a sound SQLite database"):
        Store.open(f"sqlite:///{path}")
    assert path.read_text().startswith("these are my notes")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE addresses (name TEXT)")
    with pytest.raises(StoreError, match="something else"):
        Store.open(f"sqlite:///{tmp_path}/other.db")


def test_a_database_of_a_newer_version_is_refused(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreError, match="newer version"):
        Store.open(store.url)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(f"sqlite:///{tmp_path}")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        Store.open(f"sqlite:///{tmp_path}/file/runs.db")


@contextmanager
def disk_of(pages: int) -> Iterator[None]:
    """Let SQLite find the disk full after so many pages."""

    def limit(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


def test_a_full_disk_is_named_and_loses_nothing_that_was_stored(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    store.add_metrics(run.id, 0, {"total": 1.0})
    with disk_of(1):
        full = Store.open(store.url)
        with pytest.raises(StoreError, match="The disk is full"):
            full.add_metrics(run.id, 1, {f"term {number}": 1.0 for number in range(5000)})
        assert full.metrics(run.id, ["total"])[0].value == 1.0
        full.close()
    store.add_metrics(run.id, 200, {"total": 2.0})
    assert [metric.value for metric in store.metrics(run.id, ["total"])] == [1.0, 2.0]


def test_a_writer_that_waits_too_long_says_so(store: Store, job: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    with open(f"{store.path}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="Another process has been writing"):
            store.heartbeat(job.id)
    assert store.heartbeat(job.id)


def test_a_foreign_lock_on_the_database_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    store = Store.open(f"sqlite:///{tmp_path}/runs.db")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"keeps .* locked"):
            store.request_check({})
    store.close()


def test_a_folder_that_vanished_is_explained(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/sub/runs.db")
    for path in (tmp_path / "sub").iterdir():
        path.unlink()
    (tmp_path / "sub").rmdir()
    with pytest.raises(DatabaseGoneError, match="was deleted while it was in use"):
        store.request_check({})
    assert not (tmp_path / "sub").exists()
    store.close()


def test_a_database_that_was_deleted_is_told_and_not_made_anew(store: Store, job: JobRecord) -> None:
    for path in store.path.parent.glob("experiments.db*"):
        path.unlink()
    for use in (lambda: store.job(job.id), lambda: store.heartbeat(job.id), store.list_version):
        with pytest.raises(DatabaseGoneError, match="was deleted while it was in use"):
            use()
    assert not store.path.exists()


def test_a_database_that_was_replaced_is_told_and_the_other_left_alone(store: Store, job: JobRecord) -> None:
    store.path.rename(store.path.with_name("away.db"))
    other = Store.open(store.url)
    with pytest.raises(DatabaseGoneError, match="replaced by another file"):
        store.heartbeat(job.id)
    assert other.jobs() == []
    other.close()


def test_a_database_that_was_put_back_is_used_again(store: Store, job: JobRecord) -> None:
    store.path.rename(store.path.with_name("away.db"))
    with pytest.raises(DatabaseGoneError):
        store.job(job.id)
    store.path.with_name("away.db").rename(store.path)
    assert store.heartbeat(job.id)


def locks_on(path: Path) -> int:
    """Return how many locks this process has on a file."""
    found = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    inode = str(path.stat().st_ino)
    return sum(fields[4] == str(os.getpid()) and fields[5].endswith(f":{inode}") for fields in found if len(fields) > 5)


def test_opening_a_database_twice_in_a_process_leaves_the_first_its_locks(store: Store, job: JobRecord) -> None:
    """Without them another process that closes the database deletes the log that the first still writes to."""
    store.job(job.id)
    before = locks_on(store.path)
    assert before
    other = Store.open(store.url)
    assert locks_on(store.path) >= before
    other.close()
    script = f"from core.store import Store; s = Store.open('{store.url}'); s.heartbeat('{job.id}'); s.close()"
    subprocess.run([sys.executable, "-c", script], check=True)
    for _ in range(3):
        assert store.heartbeat(job.id)
    assert ask(store.path, "PRAGMA integrity_check") == "ok"


def test_a_batch_is_one_transaction_and_a_write_that_fails_in_it_takes_back_itself_alone(
    store: Store, job: JobRecord
) -> None:
    run = store.runs(job_id=job.id)[0]
    with store.batch() as one:
        one.add_metrics(run.id, 1, {"total": 1.0})
        with pytest.raises(StoreError, match="FOREIGN KEY"):
            one.add_metrics("r0000000", 1, {"total": 1.0})
        one.run_progress(run.id, 1, 0.5)
        assert one.run(run.id).step == 1
        assert store.run(run.id).step == 0
    assert (store.run(run.id).step, len(store.metrics(run.id))) == (1, 1)

    def give_up() -> None:
        with store.batch() as one:
            one.add_metrics(run.id, 2, {"total": 1.0})
            one.job("j0")

    with pytest.raises(NotFoundError):
        give_up()
    assert len(store.metrics(run.id)) == 1


def test_a_caller_may_wait_less_for_a_writer(store: Store, job: JobRecord) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreError, match="locked"):
            store.waiting(0.1).heartbeat(job.id)
        assert time.monotonic() - began < 5
        assert store.job(job.id).id == job.id
    assert store.heartbeat(job.id)


def test_a_transaction_that_reads_first_lets_no_other_program_write_before_it(store: Store, job: JobRecord) -> None:
    """Another program knows nothing of the lock file; a transaction begun late would fail at its first write."""
    run = store.runs(job_id=job.id)[0]
    with closing(sqlite3.connect(store.path, isolation_level=None, timeout=0.05)) as other:
        with store.batch() as one:
            assert one.run(run.id).step == 0
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("UPDATE runs SET step = 5")
            one.run_progress(run.id, 1, 0.5)
        other.execute("UPDATE runs SET step = 5")
    assert store.run(run.id).step == 5


def test_a_write_that_fails_leaves_nothing_half_written(store: Store, evaluate: Callable[..., Any]) -> None:
    twice = UtteranceResult("u1", 0, "a", "a", 0, 0, 0, 1, None, 1.0, "a.flac")
    with pytest.raises(StoreError, match="UNIQUE"):
        evaluate(results=[twice, twice])
    assert store.evaluations() == []


def test_many_writers_at_once_lose_nothing(store: Store, job: JobRecord) -> None:
    runs = store.runs(job_id=job.id)
    script = (
        "import sys; from core.store import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "for step in range(60): store.add_metrics(sys.argv[2], step, {'total': 1.0, 'clip': 2.0})\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, store.url, run.id]) for run in runs[:2]]

    def write(run_id: str) -> None:
        for step in range(60):
            store.add_metrics(run_id, step, {"total": 1.0, "clip": 2.0})
            store.heartbeat(job.id)

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, [run.id for run in runs[2:]]))
    assert [process.wait(60) for process in processes] == [0, 0]
    assert [len(store.metrics(run.id)) for run in runs] == [120] * len(runs)


def test_a_missing_row_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="job 'j0'"):
        store.job("j0")
    with pytest.raises(NotFoundError, match="run 'r0'"):
        store.run("r0")
    with pytest.raises(NotFoundError, match="map 7"):
        store.map(7)
    with pytest.raises(NotFoundError, match="check 7"):
        store.check(7)
    with pytest.raises(NotFoundError, match="job 'j0'"):
        store.progress("j0", "training", 1, 2)
