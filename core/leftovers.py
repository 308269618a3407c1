"""What a process that was killed had begun to write: folders that nobody reads, and that go away with the next look."""

import shutil
from pathlib import Path

from core.errors import NotFoundError
from core.store import Store

STAGING = ".writing-"
"""How folders begin in which adapters are written before they have their name."""


def remove_unfinished(runs_folder: Path, store: Store) -> list[Path]:
    """Remove what runs that have ended were writing when they were killed, and return what that was.

    Args:
        runs_folder: Where runs keep their files; runs that the database does not have are left alone.
        store: Knows which have ended.
    """
    removed = []
    for begun in sorted(runs_folder.glob(f"*/adapters/{STAGING}*")):
        try:
            ended = not store.run(begun.parent.parent.name).active
        except NotFoundError:
            continue
        if ended:
            shutil.rmtree(begun, ignore_errors=True)  # which follows no links
            removed.append(begun)
    return removed
