"""What is wrong with where runs are kept: a database or a disk that cannot be written, files that others can read."""

from pathlib import Path

from core.store import Store
from core.store.files import free_bytes

FULL_BYTES = 16 * 1024**2
"""With less than this on its disk, the next thing that is written may not fit."""


def storage_problems(store: Store, runs_folder: Path, *, folder_is_private: bool, refused: str) -> list[str]:
    """Return what is wrong with where runs are kept, a sentence each: it stands at the top of pages and lists.

    Args:
        store: The database.
        runs_folder: Of the files.
        folder_is_private: Whether its owner alone can read it.
        refused: Why jobs could not be looked after the last time, a sentence; empty where they could.
    """
    said = [store.unwritable or refused]
    kept = {"the database": store.path.parent, "the runs": runs_folder}
    low = {what: folder for what, folder in kept.items() if free_bytes(folder) < FULL_BYTES}
    if low and not any(said):
        what, folder = " and of ".join(low), next(iter(low.values()))
        said.append(
            f"The disk of {what} is full ({free_bytes(folder) / 1e6:.0f} MB are free in {folder}). What is there "
            "can be read, but nothing new can be kept. Free some space on it, for example of runs that nobody "
            "needs."
        )
    exposed = [str(path) for path in (*store.exposed, *(() if folder_is_private else (runs_folder,)))]
    if exposed:
        said.append(
            f"Others on this machine can read {', '.join(exposed)}, and this account cannot change that. Its owner "
            "can: chmod -R go= PATH."
        )
    return [sentence for sentence in said if sentence]
