"""The bad rows of a manifest: counted, the first ones kept, and all of them in a file where there are many."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import IO

from core.errors import Problem

MOST_ROWS = 20
"""Rows of a manifest that are named one by one."""


class BadRows:
    """Takes the bad rows of one manifest, however many there are, within a ``with``."""

    def __init__(self, manifest: Path, folder: Path | None) -> None:
        """Begin.

        Args:
            manifest: Whose rows they are.
            folder: Where a file lists them all when they are many, in place of an older one of the same manifest; None
                for nowhere.
        """
        self.count = 0
        self._manifest = manifest
        self._first: list[Problem] = []
        self._folder = folder
        self._file: IO[str] | None = None

    def __enter__(self) -> "BadRows":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._drop()

    def add(self, problem: Problem) -> None:
        """Take one more."""
        self.count += 1
        if self.count <= MOST_ROWS:
            self._first.append(problem)
            return
        try:
            if self.count == MOST_ROWS + 1 and self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = NamedTemporaryFile(  # noqa: SIM115 - closed when the rows are told, or dropped
                    "w", dir=self._folder, prefix=".rows-", delete=False, encoding="utf-8", errors="backslashreplace"
                )
                self._file.writelines(f"{each}\n" for each in self._first)
            if self._file is not None:
                self._file.write(f"{problem}\n")
        except OSError:  # a disk that is full or only read: what is told without a file has to do
            self._drop()

    def told(self) -> list[Problem]:
        """Return the first ones, then how many more there are and where all of them are listed."""
        more = self.count - MOST_ROWS
        if more <= 0:
            return list(self._first)
        path = self._kept()
        said = f"and {more:,} more rows of this manifest cannot be used"
        return [*self._first, Problem(str(self._manifest), f"{said}; all are listed in {path}" if path else said)]

    def _kept(self) -> Path | None:
        """Return the file that lists all of them, once it is whole."""
        if self._file is None or self._folder is None:
            return None
        name = hashlib.sha256(os.fsencode(self._manifest.absolute())).hexdigest()[:8]
        path = self._folder / f"{self._manifest.stem[:60]}-{name}.txt"
        try:
            self._file.close()
            os.replace(self._file.name, path)
        except OSError:
            self._drop()
            return None
        self._file = None
        return path

    def _drop(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
            self._file = None
