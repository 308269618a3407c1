"""File locks that say who has the machine. The kernel gives a lock back when its process dies, however it dies."""

import fcntl
from pathlib import Path
from typing import IO

CPU = "cpu"
ANALYSIS = "analysis"


def take_slot(runs_folder: Path, name: str) -> IO[bytes] | None:
    """Take a slot, or return None when another process has it. It is held until the file is closed."""
    path = runs_folder / "slots" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "ab")  # noqa: SIM115 - the open file is the slot
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def slot_taken(runs_folder: Path, name: str) -> bool:
    """Return whether some process has a slot."""
    file = take_slot(runs_folder, name)
    if file is None:
        return True
    file.close()
    return False
