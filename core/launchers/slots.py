"""File locks that say who has what. The kernel gives a lock back when its process dies, however it dies.

What belongs to the machine, its CPU and each of its GPUs, is locked in one folder for all its users, so that no two
studios train on the same device: /run/lock/manifold-studio (or /tmp/manifold-studio; MANIFOLD_SLOTS names another one).
Anyone may make a lock there and anyone may take one that is free; the files hold nothing, and being readable is enough
to be locked. As in /tmp, nobody deletes another's. What belongs to one folder of runs is locked there.
"""

import fcntl
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from core.errors import JobError

CPU = "cpu"
ANALYSIS = "analysis"

SLOTS = "MANIFOLD_SLOTS"
"""Environment variable with another folder for the machine's locks."""

OPEN_TO_ALL = 0o1777


def device_slots() -> Path:
    """Return where the machine's devices are locked.

    Raises:
        JobError: If there is no such folder and none can be made.
    """
    named = os.environ.get(SLOTS)
    if named:
        return Path(named)
    # The same for every user, whatever TMPDIR and XDG_RUNTIME_DIR say.
    homes = [home for home in (Path("/run/lock"), Path("/tmp")) if _open_to_all(home)]
    if not homes:
        raise JobError(f"Neither /run/lock nor /tmp is open to all. Name a folder for locks in {SLOTS}.")
    folder = homes[0] / "manifold-studio"
    try:
        folder.mkdir()
        folder.chmod(OPEN_TO_ALL)
    except FileExistsError:
        pass
    except OSError as error:
        raise JobError(
            f"The folder {folder} cannot be made: {error.strerror}. Name another folder for locks in {SLOTS}."
        ) from error
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise JobError(f"{folder} is no folder. Remove it, or name another folder for locks in {SLOTS}.")
    return folder


def analysis_slots(runs_folder: Path) -> Path:
    """Return where it is locked who answers the requests of a folder of runs."""
    return runs_folder / "slots"


def take_slot(folder: Path, name: str) -> IO[bytes] | None:
    """Take a slot, or return None when another process has it. It is held until the file is closed.

    Args:
        folder: See `device_slots` and `analysis_slots`.
        name: What is locked.

    Raises:
        JobError: If it can be neither opened nor made.
    """
    path = folder / f"{name}.lock"
    try:
        file = _opened(path)
    except OSError as error:
        raise JobError(
            f"The lock {path} cannot be opened: {error.strerror}. Name another folder in {SLOTS}."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def slot_taken(folder: Path, name: str) -> bool:
    """Return whether some process has a slot."""
    file = take_slot(folder, name)
    if file is None:
        return True
    file.close()
    return False


def take_slots(folder: Path, names: Sequence[str], count: int) -> tuple[list[str], ExitStack] | None:
    """Take some of several slots, the first that are free, or none where too few are; return which, to be closed."""
    taken: list[str] = []
    with ExitStack() as held:
        for name in names:
            slot = take_slot(folder, name) if len(taken) < count else None
            if slot is not None:
                held.enter_context(slot)
                taken.append(name)
        if len(taken) == count:
            return taken, held.pop_all()
    return None


def _opened(path: Path) -> IO[bytes]:
    """Open a lock, and make it where it is missing.

    Never both at once: in a folder that is open to all, Linux lets nobody open another's file "to be made if missing"
    (fs.protected_regular).
    """
    while True:
        try:
            return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            os.fchmod(descriptor, 0o644)
            return open(descriptor, "rb")
        except FileExistsError:
            continue


def _open_to_all(folder: Path) -> bool:
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and mode & OPEN_TO_ALL & 0o1002 == 0o1002
