"""Looking at paths that somebody wrote.

Python 3.11's `Path.is_file` and its like raise for a folder that may not be entered, and for a name that is too long.
These say no, and `no_file` says why.
"""

import errno
import os
import stat
from pathlib import Path

EFFECTIVE = os.access in os.supports_effective_ids
"""Whether the system says what whoever it acts for may do."""

LONGEST_SHOWN = 300
"""Characters of a path that are repeated."""


def is_file(path: Path) -> bool:
    """Return whether a regular file can be seen there."""
    return stat.S_ISREG(_mode(path) or 0)


def is_folder(path: Path) -> bool:
    """Return whether a folder can be seen there."""
    return stat.S_ISDIR(_mode(path) or 0)


def first_there(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if exists(each))


def may_enter(folder: Path) -> bool:
    """Return whether what is in a folder can be seen."""
    return os.access(folder, os.R_OK | os.X_OK, effective_ids=EFFECTIVE)


def exists(path: Path) -> bool:
    """Return whether anything can be seen there."""
    return _mode(path) is not None


def expanded(text: str | Path) -> Path:
    """Return a path with ``~`` as the home folder, where there is one of that name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def resolved(path: Path) -> Path:
    """Return a path without links where it can be followed, else as it is, absolute."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()


def no_file(path: Path, what: str) -> str | None:
    """Return that nothing can be read there and why, without a full stop; None where a file is that may be read.

    Pipes and devices are no files: they could be read for ever.

    Args:
        path: Where.
        what: What it should be, for example ``audio file``.
    """
    why = _why_not(path)
    if why is None:
        return None
    return f"There is no {what} {_shown(path)}{f' ({why})' if why else ''}"


def _why_not(path: Path) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except PermissionError:
        return "it is in a folder that you may not enter"
    except OSError as error:
        return {
            errno.ENAMETOOLONG: "the name is too long",
            errno.ELOOP: "it is a link that leads to itself",
        }.get(error.errno or 0, error.strerror or "it cannot be looked at")
    except ValueError:  # a zero byte, or half a character
        return "no file can have this name"
    if stat.S_ISDIR(mode):
        return "it is a folder"
    if not stat.S_ISREG(mode):
        return "it is a pipe, a socket or a device"
    return None if os.access(path, os.R_OK, effective_ids=EFFECTIVE) else "you may not read it"


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return None


def _shown(path: Path) -> str:
    text = str(path)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
