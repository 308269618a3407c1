"""From an older schema to the newest: a copy of the database first, and no row lost on the way."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from core.errors import StoreError

log = logging.getLogger(__name__)

BACKUPS = 3
"""So many copies of older schemas are kept beside the database, the newest ones."""


def known_revisions() -> list[str]:
    """Return every schema that this version can read, the newest first."""
    from alembic.script import ScriptDirectory

    return [revision.revision for revision in ScriptDirectory.from_config(_alembic_config()).walk_revisions()]


def upgrade(engine: Engine, path: Path, revision: str | None) -> None:
    """Bring a database to the newest schema, or leave it as it was.

    Args:
        engine: Of the database; nobody else writes to it meanwhile.
        path: Its file.
        revision: Its schema; None where it is new and empty.

    Raises:
        StoreError: If the copy cannot be made, or rows would be lost.
    """
    from alembic import command

    if revision is not None:
        back_up(engine, path, revision)
    config = _alembic_config()
    with without_foreign_keys(engine) as connection:
        before, dangling = _row_counts(connection), _dangling(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        lost = [f"{name}: {count} became {left}" for name, count, left in _fewer(before, _row_counts(connection))]
        more = _dangling(connection) - dangling
        lost += [f"{more} would point to rows that are not there"] if more > 0 else []
        if lost:
            raise StoreError(f"{path} was left as it is: its newer schema would have lost rows ({'; '.join(lost)}).")


def back_up(engine: Engine, path: Path, revision: str) -> Path:
    """Write a copy of a database beside it, and remove all but the newest copies; return where it is.

    Raises:
        StoreError: If there is no room for it, or the folder cannot be written.
    """
    now = datetime.now(UTC)
    copy = path.with_name(f"{path.name}.schema-{revision}.{now:%Y%m%d-%H%M%S}.backup")
    written = copy.with_name(f".{copy.name}")
    try:
        # SQLite writes into an empty file that is there, so that nobody but its owner may read it from the beginning.
        os.close(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        connection: Any = engine.raw_connection()
        try:
            connection.execute("VACUUM INTO ?", (str(written),))
        finally:
            connection.close()
        _flush(written)
        written.rename(copy)
        _flush(copy.parent)
    except Exception as error:
        written.unlink(missing_ok=True)
        raise StoreError(
            f"The database {path} has an older schema ({revision}), and no copy of it could be made before it is "
            f"changed: {error}. It was left as it is. Make room in its folder, or give another database with --db."
        ) from error
    log.info("The database %s is brought to a newer schema; as it was, it is kept in %s", path, copy)
    for old in sorted(path.parent.glob(f"{path.name}.schema-*.backup"), key=lambda file: file.stat().st_mtime_ns)[
        :-BACKUPS
    ]:
        old.unlink(missing_ok=True)
    return copy


@contextmanager
def without_foreign_keys(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a writing transaction that follows no foreign keys.

    With them, a table that is rebuilt would take along the rows that point to it (ON DELETE CASCADE).
    """
    with engine.connect() as connection:
        # Asked of the driver itself: SQLAlchemy would begin a transaction first, in which this says nothing and does
        # nothing.
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.execution_options(begin="BEGIN IMMEDIATE").begin():
                yield connection
        finally:
            connection.invalidate()


def _row_counts(connection: Connection) -> dict[str, int]:
    names = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
    return {name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in names}


def _fewer(before: dict[str, int], after: dict[str, int]) -> list[tuple[str, int, int]]:
    """Return tables that have fewer rows than before, with both numbers; one that a migration drops is meant to go."""
    return [(name, count, after[name]) for name, count in before.items() if after.get(name, count) < count]


def _dangling(connection: Connection) -> int:
    """Return how many rows point to rows that are not there."""
    return len(connection.exec_driver_sql("PRAGMA foreign_key_check").all())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alembic_config() -> Any:
    # Alembic takes long to import and is needed only when the schema changes.
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
