"""Connections and transactions: SQLite set up so that several processes write at once and lose nothing."""

import copy
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from core.errors import DatabaseGoneError, StoreError, UnwritableError
from core.paths import exists, expanded, resolved
from core.store.files import cannot_be_written, make_file, make_private, private_opener, reading_engine
from core.store.migrating import known_revisions, upgrade
from core.store.migrations import HEAD

LOCK_SECONDS = 30.0
"""How long a writer waits for the others before it gives up."""

READ_SECONDS = 5.0
"""How long a reader waits; it has to only where another process has the file all for itself."""

CACHE_KIB = 16 * 1024
"""So much of the file stays in memory: a list that is drawn every few seconds is not read from it each time."""


class Database:
    """An open database file whose schema is the newest.

    Attributes:
        url: SQLAlchemy URL with an absolute path, so that it means the same in every process.
        path: The file.
        exposed: Files of the database that others than their owner can read, where that could not be changed.
    """

    def __init__(self, url: str) -> None:
        """Open the database, and make or migrate it when needed; where nothing can be written, read what is there.

        Raises:
            StoreError: If it cannot be opened, with what to do.
        """
        self.path = database_path(url)
        self.url = f"sqlite:///{self.path}"
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder of the database {self.path} cannot be made: {error.strerror}.") from error
        self._engine = _engine(self.url)
        self._patience: float | None = None
        self._joined: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self.exposed: list[Path] = []
        self.unwritable = ""
        try:
            with self._explained():
                make_file(self.path)
                self._migrate()
                self.exposed = make_private(self.path)
        except UnwritableError as error:
            self.close()
            if not self._can_read():
                raise
            self.unwritable = str(error)
        except StoreError:
            self.close()
            raise
        self._identity = identity(self.path)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def waiting(self, seconds: float) -> Self:
        """Return the same open database for a caller whose writes give up after other seconds than `LOCK_SECONDS`."""
        other = copy.copy(self)
        other._patience = seconds
        return other

    @contextmanager
    def batch(self) -> Iterator[Self]:
        """Yield the same open database, all of whose writes are one transaction; for a single thread.

        A write that fails in it takes back itself alone, and is raised; one that is not caught takes back all of them.
        """
        with self._write() as connection:
            one = copy.copy(self)
            one._joined = connection
            yield one

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        if self._joined is not None:
            yield self._joined
            return
        with self._explained():
            self._require_same_file()
            seconds = READ_SECONDS if self._patience is None else min(self._patience, READ_SECONDS)
            if self.unwritable and not self._writable_again():
                with reading_engine(self.path).connect() as connection, connection.begin():
                    yield connection
                return
            with self._engine.connect() as connection, connection.execution_options(wait=seconds).begin():
                yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement.

        A transaction that reads first and asks for the lock later fails at once when another writer was faster, busy
        timeout or not. The lock file besides keeps a checkpoint (SQLite runs it inside a commit) from meeting another
        process's commit: up to version 3.51.2 that race could lose committed rows.
        """
        if self._joined is not None:
            with self._explained(), self._joined.begin_nested():
                yield self._joined
            return
        with self._explained():
            self._require_same_file()
            seconds = LOCK_SECONDS if self._patience is None else self._patience
            with (
                self._locked(seconds),
                self._engine.connect() as connection,
                connection.execution_options(begin="BEGIN IMMEDIATE", wait=seconds).begin(),
            ):
                yield connection

    def _require_same_file(self) -> None:
        """Refuse to go on with a file that has no name any more: nobody else would ever read what is written to it.

        Raises:
            DatabaseGoneError: If the database was deleted, or another file is in its place.
        """
        if self._identity is not None and identity(self.path) != self._identity:
            what = "replaced by another file" if exists(self.path) else "deleted"
            raise DatabaseGoneError(
                f"The database {self.path} was {what} while it was in use. Put the file back, or start again with "
                "another one (--db)."
            )

    @contextmanager
    def _locked(self, seconds: float) -> Iterator[None]:
        deadline = time.monotonic() + seconds
        with open(self._lock_path, "ab", opener=private_opener) as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError(
                            f"Another process has been writing to {self.path} for {seconds:.3g} seconds. "
                            "Look for a process that hangs, or try again."
                        ) from None
                    time.sleep(0.002)
            yield

    def _migrate(self) -> None:
        """Bring the schema to HEAD; of several processes one does it and the others wait."""
        if self._revision() == HEAD:
            return
        with self._locked(LOCK_SECONDS):
            revision = self._revision()
            if revision == HEAD:
                return
            if revision not in (None, *known_revisions()):
                raise StoreError(
                    f"The database {self.path} was written by a newer version (schema {revision}). "
                    "Install that version, or give another database."
                )
            upgrade(self._engine, self.path, revision)

    def _can_read(self) -> bool:
        """Return whether the file can be read without writing; of an older schema it could not be understood."""
        try:
            return self.path.stat().st_size > 0 and self._revision(reading_engine(self.path)) == HEAD
        except (OSError, SQLAlchemyError, StoreError):
            return False

    def _writable_again(self) -> bool:
        try:
            self._revision()
        except SQLAlchemyError:
            return False
        self.unwritable = ""
        return True

    def _revision(self, engine: Engine | None = None) -> str | None:
        with (engine or self._engine).connect() as connection:
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
            cause = getattr(error, "orig", None)
            kind = UnwritableError if cannot_be_written(cause) else StoreError
            raise kind(_sentence(str(cause or error), self.path)) from error
        except OSError as error:
            raise UnwritableError(_sentence(error.strerror or str(error), self.path)) from error


def database_path(url: str) -> Path:
    """Return the file that a URL names.

    Raises:
        StoreError: If it names none.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"'{url}' is not a database URL. Write it as sqlite:///experiments.db.") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise StoreError(f"'{url}' is not an SQLite file. Write it as sqlite:///experiments.db.")
    return resolved(expanded(parsed.database))


def _engine(url: str) -> Engine:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        # Python's own transaction handling begins late and deferred; ours is explicit.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {_milliseconds(LOCK_SECONDS)}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            f"cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_milliseconds(options.get('wait', LOCK_SECONDS))}")
        connection.exec_driver_sql(options.get("begin", "BEGIN"))

    return engine


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file or folder a path names: its device and inode; None where there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _has_no_room(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free == 0
    except OSError:
        return False


def _sentence(reason: str, path: Path) -> str:
    lowered = reason.lower()
    if "full" in lowered or "no space" in lowered or "quota" in lowered or _has_no_room(path):
        return (
            f"The disk is full: the database {path} cannot be written. Free some space in {path.parent} and try "
            "again; what was stored is kept."
        )
    if "disk i/o error" in lowered:
        return (
            f"The disk of the database {path} does not take what is written to it: its quota is used up, it is "
            "read-only, or it fails. What was stored is kept."
        )
    if (
        "unable to open" in lowered
        or "is a directory" in lowered
        or "permission" in lowered
        or "readonly" in lowered
        or "read-only" in lowered
    ):
        return f"The database {path} cannot be opened for writing. Check that its folder exists and is yours to write."
    if "not a database" in lowered or "malformed" in lowered:
        return (
            f"{path} is not a sound SQLite database ({reason}). Give another file with --db, or restore a copy of it."
        )
    if "locked" in lowered:
        return f"Another process keeps {path} locked. Look for a process that hangs, or try again."
    return f"The database {path} refused: {reason}."
