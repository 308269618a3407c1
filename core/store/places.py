"""Paths in settings that lie in the folder of runs: as they travel, and as an installation has them."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from core.errors import BundleError
from core.paths import resolved

MARK = "{runs}/"
"""What a path begins with that is meant in the folder of runs of whoever reads it."""


def portable(settings: Any, runs_folder: Path, *, mark: str = MARK) -> Any:
    """Return settings that say nothing of where this installation keeps its runs.

    Args:
        settings: Plain dictionaries, lists and values.
        runs_folder: Absolute paths inside it become relative to it; all others stay.
        mark: What these begin with.
    """
    folder = resolved(runs_folder)

    def relative(text: str) -> str:
        if not text.startswith("/") or "\0" in text:
            return text
        path = resolved(Path(text))
        return f"{mark}{path.relative_to(folder).as_posix()}" if path.is_relative_to(folder) else text

    return each_text(settings, relative)


def placed(settings: Any, runs_folder: Path) -> Any:
    """Return settings that travelled, with the paths that they have in an installation.

    Raises:
        BundleError: If one of them leads out of the folder of runs.
    """

    def joined(text: str) -> str:
        if not text.startswith(MARK):
            return text
        inside = PurePosixPath(text.removeprefix(MARK))
        if inside.is_absolute() or ".." in inside.parts or "\\" in text or "\0" in text:
            raise BundleError(f"The settings of a run name {text[:80]!r}, which leads out of the folder of runs.")
        return str(runs_folder / inside)

    return each_text(settings, joined)


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return settings, or a part of them, with each text in them changed."""
    match value:
        case str():
            return change(value)
        case dict():
            return {name: each_text(each, change) for name, each in value.items()}
        case list() | tuple():
            return [each_text(each, change) for each in value]
        case _:
            return value
