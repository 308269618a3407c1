"""The files of the cache. Nothing here needs torch: the command line lists a cache at once."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from core.errors import StoreError

FORMAT = 1
"""Counted up when the same recipe would make other bytes."""

Entry = Mapping[str, np.ndarray]
"""The answer about one utterance: arrays by name, whose first dimension is tokens or frames."""

USED = "used"
"""File whose time says when a shelf was read last."""


@dataclass(frozen=True)
class Recipe:
    """How answers are made: all that changes one of them.

    Attributes:
        model: What the teacher is called.
        revision: Of its weights: a commit, or a hash of the files.
        content: What is kept, in words, for example "top tokens".
        settings: Of features, prompt and form, as JSON holds them.
    """

    model: str
    revision: str
    content: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of the recipe's folder: equal recipes have equal keys."""
        written = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:32]


def utterance_key(audio: Path, tokens: Sequence[int] | None = None) -> str:
    """Return the key of an utterance: its audio's bytes and, where the answer is about a transcript, its tokens.

    Raises:
        StoreError: If the audio cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with audio.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError as error:
        raise StoreError(f"{audio} cannot be read: {error.strerror}. Is it still there?") from error
    key = digest.hexdigest()[:32]
    return key if tokens is None else transcript_key(key, tokens)


def transcript_key(audio: str, tokens: Sequence[int]) -> str:
    """Return the key of an utterance with its tokens, from that of its audio."""
    return hashlib.sha256(f"{audio}\n{','.join(map(str, tokens))}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class ShelfRecord:
    """What is kept of one recipe.

    Attributes:
        recipe: Which.
        entries: Utterances.
        size: Of all files, in bytes.
        audio_seconds: Length of the utterances; 0 where nobody said.
        used: When it was read or written last, seconds since 1970.
    """

    recipe: Recipe
    entries: int
    size: int
    audio_seconds: float
    used: float


class Cache:
    """A folder of shelves, one for each recipe."""

    def __init__(self, folder: Path) -> None:
        """Name a folder; it is made when something is kept."""
        self.folder = folder

    def shelf(self, recipe: Recipe) -> "Shelf":
        """Return what is kept of a recipe."""
        return Shelf(self.folder / recipe.key, recipe)

    def records(self) -> list[ShelfRecord]:
        """Return what is kept, used last first."""
        found = [self._record(path.parent) for path in self.folder.glob("*/recipe.json")]
        return sorted((record for record in found if record), key=lambda record: -record.used)

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(record.size for record in self.records())

    def prune(self, *, keep_bytes: int = 0, unused_seconds: float = 0.0) -> list[ShelfRecord]:
        """Throw shelves away, the longest unused first, and return which.

        Args:
            keep_bytes: What may stay, all together.
            unused_seconds: Shelves that were used within this time stay.
        """
        records = self.records()
        total, thrown = sum(record.size for record in records), []
        for record in reversed(records):
            if total <= keep_bytes or time.time() - record.used < unused_seconds:
                continue
            # Renamed first, so that nobody finds half of it.
            doomed = Path(tempfile.mkdtemp(prefix=".thrown-", dir=self.folder))
            os.replace(self.folder / record.recipe.key, doomed / "shelf")
            shutil.rmtree(doomed)
            total -= record.size
            thrown.append(record)
        return thrown

    def _record(self, folder: Path) -> ShelfRecord | None:
        try:
            recipe = Recipe(**json.loads((folder / "recipe.json").read_text(encoding="utf-8")))
            indices = [index for _, index in _indices(folder)]
            entries = sum(len(index["keys"]) for index in indices)
            seconds = sum(index.get("audio_seconds", 0.0) for index in indices)
            size = sum(file.stat().st_size for file in folder.iterdir())
            return ShelfRecord(recipe, entries, size, seconds, (folder / USED).stat().st_mtime)
        except (OSError, ValueError, TypeError):
            # Somebody else is throwing it away, or never finished making it.
            return None


class Shelf:
    """The answers of one recipe. Several processes may read and add at once.

    Attributes:
        recipe: Which.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        """Look at what is there; `Cache.shelf` is the way here."""
        self.recipe, self._folder = recipe, folder
        self._open: dict[str, Any] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._indices: dict[str, dict[str, Any]] = {}
        self.look()

    def look(self) -> None:
        """See what others have added since."""
        for shard, index in _indices(self._folder):
            if shard not in self._indices:
                self._indices[shard] = index
                self._places |= {key: (shard, number) for number, key in enumerate(index["keys"])}

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return which utterances have no sound answer, each once, in order; damaged shards are thrown away."""
        for shard in {self._places[key][0] for key in keys if key in self._places}:
            self._sound(shard)
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def read(self, key: str) -> dict[str, np.ndarray]:
        """Return the answer about an utterance; only its rows are read from the disk.

        Raises:
            KeyError: If there is no sound one.
        """
        shard, number = self._places[key]
        if not self._sound(shard):
            raise KeyError(key)
        opened, index = self._open[shard], self._indices[shard]
        rows = {name: (offsets[number], offsets[number + 1]) for name, offsets in index["offsets"].items()}
        return {name: opened.get_slice(name)[first:last] for name, (first, last) in rows.items()}

    def write(self, entries: Mapping[str, Entry], *, audio_seconds: float = 0.0) -> None:
        """Publish answers as one shard, whole or not at all.

        Args:
            entries: By key.
            audio_seconds: Length of these utterances.

        Raises:
            StoreError: If the disk refuses; nothing half written is left.
        """
        if not entries:
            return
        names = next(iter(entries.values())).keys()
        lengths = {name: [len(entry[name]) for entry in entries.values()] for name in names}
        offsets = {name: np.cumsum([0, *counts]).tolist() for name, counts in lengths.items()}
        # What is laid out column by column would be written so, and read row by row.
        joined = {name: np.concatenate([entry[name] for entry in entries.values()]) for name in names}
        joined = {name: np.ascontiguousarray(array) for name, array in joined.items()}
        shard = hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()[:16] + os.urandom(4).hex()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            recipe = self._folder / "recipe.json"
            if not recipe.is_file():
                _publish(recipe, lambda path: path.write_text(json.dumps(asdict(self.recipe)), encoding="utf-8"))
            data = self._folder / f"{shard}.safetensors"
            _publish(data, lambda path: save_file(joined, path))
            index = {
                "sha256": _sha256(data),
                "size": data.stat().st_size,
                "keys": list(entries),
                "offsets": offsets,
                "audio_seconds": audio_seconds,
            }
            _publish(
                self._folder / f"{shard}.json",
                lambda path: path.write_text(json.dumps(index, separators=(",", ":")), encoding="utf-8"),
            )
            (self._folder / USED).touch()
        except OSError as error:
            raise StoreError(f"The cache in {self._folder} cannot be written: {error.strerror}.") from error
        self.look()

    def touch(self) -> None:
        """Note that it was used now; nothing is made where there is nothing."""
        if self._places:
            (self._folder / USED).touch()

    def fetch(
        self, keys: Sequence[str], make: Callable[[list[str]], Mapping[str, Entry]], *, at_once: int = 64
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yield each utterance's answer in order; those that are missing are made, and kept as soon as they are.

        Args:
            keys: Which.
            make: Answers about some utterances; never called when all are there.
            at_once: How many are made and published together.
        """
        missing = self.missing(keys)
        for first in range(0, len(missing), at_once):
            self.write(make(missing[first : first + at_once]))
        if keys and not missing:
            self.touch()
        for key in keys:
            yield key, self.read(key)

    def _sound(self, shard: str) -> bool:
        """Return whether a shard is what was written; one that is not is thrown away. Each is hashed once."""
        if shard in self._open:
            return True
        path, index = self._folder / f"{shard}.safetensors", self._indices[shard]
        try:
            if path.stat().st_size == index["size"] and _sha256(path) == index["sha256"]:
                self._open[shard] = safe_open(path, framework="numpy")
                return True
        except (OSError, SafetensorError):
            pass
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        del self._indices[shard]
        self._places = {key: place for key, place in self._places.items() if place[0] != shard}
        return False


def _indices(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each published shard of a shelf with its index; an index that cannot be read is none."""
    for path in sorted(folder.glob("*.json")):
        if path.name != "recipe.json":
            try:
                index = json.loads(path.read_text(encoding="utf-8"))
                if {"sha256", "size", "keys", "offsets"} <= index.keys():
                    yield path.stem, index
            except (OSError, ValueError, AttributeError):
                continue


def _publish(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, make sure that it is on the disk, and put it there."""
    descriptor, name = tempfile.mkstemp(prefix=".half-", dir=path.parent)
    os.close(descriptor)
    half = Path(name)
    try:
        write(half)
        with half.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
