"""Connections and transactions: SQLite set up so that several processes write at once and lose nothing."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from core.errors import StoreError
from core.store.migrations import HEAD

LOCK_SECONDS = 30.0
"""How long a writer waits for the others before it gives up."""


CACHE_KIB = 16 * 1024
"""So much of the file stays in memory: a list that is drawn every few seconds is not read from it each time."""


class Database:
    """An open database file whose schema is the newest.

    Attributes:
        url: SQLAlchemy URL with an absolute path, so that it means the same in every process.
        path: The file.
    """

    def __init__(self, url: str) -> None:
        """Open the database, and make or migrate it when needed.

        Raises:
            StoreError: If it cannot be opened, with what to do.
        """
        self.path = _file(url)
        self.url = f"sqlite:///{self.path}"
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder of the database {self.path} cannot be made: {error.strerror}.") from error
        self._engine = _engine(self.url)
        try:
            with self._explained():
                self._migrate()
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._explained(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement.

        A transaction that reads first and asks for the lock later fails at once when another writer was faster, busy
        timeout or not. The lock file besides keeps a checkpoint (SQLite runs it inside a commit) from meeting another
        process's commit: up to version 3.51.2 that race could lose committed rows.
        """
        with (
            self._explained(),
            self._locked(),
            self._engine.connect() as connection,
            connection.execution_options(begin="BEGIN IMMEDIATE").begin(),
        ):
            yield connection

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_SECONDS
        with open(self._lock_path, "ab") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError(
                            f"Another process has been writing to {self.path} for {LOCK_SECONDS:.0f} seconds. "
                            "Look for a process that hangs, or try again."
                        ) from None
                    time.sleep(0.002)
            yield

    def _migrate(self) -> None:
        """Bring the schema to HEAD; of several processes one does it and the others wait."""
        if self._revision() == HEAD:
            return
        with self._locked():
            revision = self._revision()
            if revision == HEAD:
                return
            if revision not in (None, *known_revisions()):
                raise StoreError(
                    f"The database {self.path} was written by a newer version (schema {revision}). "
                    "Install that version, or give another database."
                )
            _upgrade(self._engine)

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            tables = inspect(connection).get_table_names()
            if "alembic_version" in tables:
                return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            if tables:
                raise StoreError(f"{self.path} is a database of something else. Give another file with --db.")
            return None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite and the file system report into sentences."""
        try:
            yield
        except SQLAlchemyError as error:
            raise StoreError(_sentence(str(getattr(error, "orig", None) or error), self.path)) from error
        except OSError as error:
            raise StoreError(_sentence(error.strerror or str(error), self.path)) from error


def _file(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"'{url}' is not a database URL. Write it as sqlite:///experiments.db.") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise StoreError(f"'{url}' is not an SQLite file. Write it as sqlite:///experiments.db.")
    return Path(parsed.database).expanduser().resolve()


def _engine(url: str) -> Engine:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        # Python's own transaction handling begins late and deferred; ours is explicit.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {int(LOCK_SECONDS * 1000)}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            f"cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def known_revisions() -> list[str]:
    """Return every schema that this version can read, the newest first."""
    from alembic.script import ScriptDirectory

    return [revision.revision for revision in ScriptDirectory.from_config(_alembic_config()).walk_revisions()]


def _upgrade(engine: Engine) -> None:
    from alembic import command

    config = _alembic_config()
    with engine.connect() as connection:
        # With foreign keys on, rebuilding a table would delete the rows that point to it.
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.commit()
        with connection.execution_options(begin="BEGIN IMMEDIATE").begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.invalidate()


def _alembic_config() -> Any:
    # Alembic takes long to import and is needed only when the schema changes.
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _sentence(reason: str, path: Path) -> str:
    lowered = reason.lower()
    if "full" in lowered or "no space" in lowered:
        return f"The disk is full: {path} cannot be written. Free some space and try again; what was stored is kept."
    if "unable to open" in lowered or "permission" in lowered or "readonly" in lowered or "read-only" in lowered:
        return f"The database {path} cannot be opened for writing. Check that its folder exists and is yours to write."
    if "not a database" in lowered or "malformed" in lowered:
        return (
            f"{path} is not a sound SQLite database ({reason}). Give another file with --db, or restore a copy of it."
        )
    if "locked" in lowered:
        return f"Another process keeps {path} locked. Look for a process that hangs, or try again."
    return f"The database {path} refused: {reason}."
