"""Migrations: a copy first, foreign keys off, every row kept or nothing changed."""

import json
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

import core.store.database as database
import core.store.migrating as migrating
from core.config import RunConfig
from core.errors import StoreError
from core.store import EvaluationRecord, JobRecord, Store
from core.store.database import _engine as engine_of
from core.store.migrating import BACKUPS, without_foreign_keys

MIGRATIONS = Path(database.__file__).parent / "migrations"


def older(store: Store, revision: str = "0001") -> None:
    """Take a database back to an older schema, as a version of then has left it."""
    store.close()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = create_engine(store.url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()


def backups(store: Store) -> list[Path]:
    return sorted(store.path.parent.glob("*.backup"))


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_database_of_an_older_schema_is_copied_before_it_is_changed(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    store.add_metrics(run.id, 1, {"total": 1.0})
    older(store, "0003")
    again = Store.open(store.url)
    assert again.run(run.id).name == run.name
    again.close()
    (copy,) = backups(store)
    assert copy.name.startswith("experiments.db.schema-0003.")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert (rows(copy, "runs"), rows(copy, "metrics")) == (4, 1)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0003",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not list(store.path.parent.glob(".*.backup"))


def test_a_new_database_and_one_of_the_newest_schema_need_no_copy(store: Store, tmp_path: Path) -> None:
    Store.open(store.url).close()
    Store.open(f"sqlite:///{tmp_path}/other.db").close()
    assert backups(store) == []


def test_only_the_newest_copies_are_kept(store: Store, job: JobRecord) -> None:
    engine = engine_of(store.url)
    made = []
    for number in range(BACKUPS + 2):
        made.append(migrating.back_up(engine, store.path, f"{number:04}"))
    engine.dispose()
    assert backups(store) == made[-BACKUPS:]


def test_a_copy_that_cannot_be_made_leaves_the_database_alone(store: Store, job: JobRecord) -> None:
    older(store, "0005")
    before = store.path.read_bytes()
    engine = engine_of(store.url)
    with pytest.raises(StoreError, match=r"older schema \(0005\).*left as it is"):
        migrating.back_up(engine, store.path.parent / "gone" / "experiments.db", "0005")
    engine.dispose()
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("table", ["jobs", "runs", "evaluations"])
def test_a_table_that_is_rebuilt_takes_no_other_rows_with_it(
    store: Store, job: JobRecord, evaluate: Callable[..., Any], table: str
) -> None:
    """With foreign keys on, dropping the old table deletes every row that points to it."""
    run = store.runs(job_id=job.id)[0]
    store.add_metrics(run.id, 1, {"total": 1.0})
    evaluate(run_id=run.id, subject="student")
    store.close()
    names = ("jobs", "runs", "metrics", "evaluations")
    before = [rows(store.path, name) for name in names]
    assert all(before)
    engine = engine_of(store.url)
    with without_foreign_keys(engine) as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table(table, recreate="always") as batch:
            batch.alter_column("id", comment="rebuilt")
    engine.dispose()
    assert [rows(store.path, name) for name in names] == before


def test_a_migration_lets_no_other_program_write_from_its_first_look_on(store: Store, job: JobRecord) -> None:
    engine = engine_of(store.url)
    with closing(sqlite3.connect(store.path, isolation_level=None, timeout=0.05)) as other:
        with without_foreign_keys(engine) as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 4
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("UPDATE runs SET step = 5")
        other.execute("UPDATE runs SET step = 5")
    engine.dispose()


def test_a_database_is_brought_to_the_newest_schema_without_following_foreign_keys(
    store: Store, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    older(store, "0005")
    real, found = command.upgrade, []

    def watched(config: Config, revision: str) -> None:
        found.append(config.attributes["connection"].exec_driver_sql("PRAGMA foreign_keys").scalar())
        real(config, revision)

    monkeypatch.setattr(command, "upgrade", watched)
    Store.open(store.url).close()
    assert found == [0]


def test_after_a_migration_foreign_keys_count_again(store: Store) -> None:
    engine = engine_of(store.url)
    with without_foreign_keys(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 0
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_a_migration_that_would_lose_rows_changes_nothing(
    store: Store, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    older(store, "0005")
    real = command.upgrade

    def careless(config: Config, revision: str) -> None:
        real(config, revision)
        config.attributes["connection"].execute(text("DELETE FROM runs"))

    monkeypatch.setattr(command, "upgrade", careless)
    with pytest.raises(StoreError, match=r"would have lost rows \(runs: 4 became 0"):
        Store.open(store.url)
    monkeypatch.undo()
    assert rows(store.path, "runs") == 4
    again = Store.open(store.url)
    assert len(again.runs(job_id=job.id)) == 4
    again.close()


def test_divergences_of_older_jobs_with_compact_teacher_outputs_are_marked(
    store: Store, job: JobRecord, configs: tuple[RunConfig, ...], evaluate: Callable[..., EvaluationRecord]
) -> None:
    with engine_of(store.url).begin() as connection:
        compact = store.runs(job_id=job.id)[0]
        config = {**compact.config, "training": {**compact.config["training"], "teacher_outputs": "compact"}}
        connection.execute(
            text("UPDATE runs SET config = :config WHERE id = :id"), {"config": json.dumps(config), "id": compact.id}
        )
    other = store.create_job("live", configs)
    for owner in (job, other):
        for subject, value in (("teacher", None), ("student_before", 1.5)):
            evaluate(job_id=owner.id, subject=subject, heldout_kl=value)
    older(store, "0009")
    again = Store.open(store.url)
    marks = {(item.job_id, item.subject): item.heldout_kl_tokens for item in again.evaluations()}
    again.close()
    assert marks == {
        (job.id, "teacher"): None,
        (job.id, "student_before"): 32,
        (other.id, "teacher"): None,
        (other.id, "student_before"): None,
    }


def test_layers_of_older_evaluations_are_not_known(
    store: Store, job: JobRecord, evaluate: Callable[..., EvaluationRecord]
) -> None:
    evaluate(job_id=job.id, subject="teacher", encoder_layers=4, decoder_layers=4)
    assert [(item.encoder_layers, item.decoder_layers) for item in store.evaluations()] == [(4, 4)]
    older(store, "0019")
    again = Store.open(store.url)
    assert [(item.encoder_layers, item.decoder_layers) for item in again.evaluations()] == [(None, None)]
    again.close()
