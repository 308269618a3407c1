"""The database's files on the disk: nobody else reads them, and they are read where nothing can be written."""

import contextlib
import os
import shutil
import sqlite3
import stat
from pathlib import Path

from sqlalchemy import Engine, NullPool, create_engine

from core.paths import first_there

PRIVATE = 0o600

BESIDE = ("-wal", "-shm", "-journal", ".lock")
"""What SQLite and this program keep beside a database."""

UNWRITABLE = (
    "SQLITE_FULL",
    "SQLITE_READONLY",
    "SQLITE_CANTOPEN",
    "SQLITE_PERM",
    "SQLITE_IOERR_WRITE",
    "SQLITE_IOERR_SHM",
    "SQLITE_IOERR_FSYNC",
    "SQLITE_IOERR_DIR_FSYNC",
    "SQLITE_IOERR_TRUNCATE",
    "SQLITE_IOERR_LOCK",
)
"""How the names of SQLite's errors begin that say nothing of what is stored, but that nothing more can be."""


def private_opener(path: str, flags: int) -> int:
    """Open a file; one that is made by it is its owner's alone, whatever the process's mask."""
    return os.open(path, flags, PRIVATE)


def make_file(path: Path) -> None:
    """Make a database's file, its owner's alone, where there is none.

    One that is there is not opened, not even for a moment: closing any descriptor of a file gives back all locks that
    the process has on it (fcntl(2)), those of its other connections too, and SQLite would then take a file that is in
    use for one that nobody has open (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, PRIVATE))


def make_private(path: Path) -> list[Path]:
    """Take the rights of all others from a database and what lies beside it; return the files where that cannot be."""
    copies = path.parent.glob(f"{path.name}.*.backup")
    return [file for file in (path, *(Path(f"{path}{end}") for end in BESIDE), *copies) if not _is_private(file)]


def free_bytes(path: Path) -> int:
    """Return how much may still be written where a file or folder is, or will be."""
    return shutil.disk_usage(first_there(path)).free


def make_folder_private(folder: Path) -> bool:
    """Take the rights of all others from a folder; return whether nobody else has any now.

    A folder that is everybody's, as that for temporary files, and the home of a user stay as they are.
    """
    found = folder.stat()
    if stat.S_IMODE(found.st_mode) & 0o077 == 0:
        return True
    shared = found.st_mode & stat.S_ISVTX or folder in (Path("/"), Path(os.path.expanduser("~")))
    if shared or found.st_uid != os.geteuid():
        return False
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
        return True
    return False


def cannot_be_written(error: BaseException | None) -> bool:
    """Return whether an error of SQLite says that its file cannot be written, and nothing worse."""
    return getattr(error, "sqlite_errorname", "").startswith(UNWRITABLE)


def reading_engine(path: Path) -> Engine:
    """Return connections to a database that write nothing, not even the index that readers share.

    Where a write-ahead log has content, its index is kept in memory, which SQLite does for who has the file alone:
    each connection is closed after use, so that others have their turn. Else the file is read as it is.
    """
    log = Path(f"{path}-wal")
    alone = log.exists() and log.stat().st_size > 0
    address = f"{path.as_uri()}?{'mode=rw' if alone else 'immutable=1'}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout = 5000")
        if alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA query_only = ON")
        return connection

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _is_private(file: Path) -> bool:
    """Return whether a file is its owner's alone, or is not there; repair it if that can be."""
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            file.chmod(PRIVATE)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
