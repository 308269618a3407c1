"""NeMo manifests: one JSON object a line, with `audio_filepath`, `text` and optionally `speaker` and `duration`."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core.audio import SAMPLE_RATE, audio_seconds, read_audio
from core.config.sources import Manifest
from core.errors import DataError, Problem, StoreError
from core.names import cleaned
from core.paths import expanded, no_file
from core.sources.bad_rows import BadRows
from core.sources.rows import Transcripts, distinct_ids, plain_id, require_stated, row_parts, string_in, written_id
from core.sources.utterance import Splits, Utterance

T = TypeVar("T")

LONGEST_SECONDS = 30.0

LONGEST_ROW = 1_000_000
"""Bytes of a row; a longer one is none."""

BAD_ROWS = "bad-rows"
"""Where in the folder of data the rows are listed that cannot be used."""


@dataclass(frozen=True)
class _Row:
    """An utterance, how its clip is called in the manifest, and a hash of its samples."""

    utterance: Utterance
    written_id: str
    audio_hash: str


def manifest_splits(source: Manifest, folder: Path, progress: Callable[[int, int], None]) -> Splits:
    """Return the three sets of a manifest source.

    Args:
        source: The settings.
        folder: Where rows that cannot be used are listed if they are many; nothing else is written.
        progress: Called with the rows that are done and all rows.

    Raises:
        DataError: With the bad rows of the three files, and clips that stand in two of them.
    """
    names = ("train", "development", "test")
    paths = {name: expanded(getattr(source, name)) for name in names}
    total, done = sum(row_count(path) for path in paths.values()), 0
    sets: dict[str, list[_Row]] = {}
    problems: list[Problem] = []
    count = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    earlier = _Earlier()
    for name, path in paths.items():
        with BadRows(path, folder / BAD_ROWS) as bad:
            read = _read(path, source.longest_seconds, transcripts_of(source, name), bad, advance=advance)
            sets[name] = [row for row in read if not earlier.has(name, row, bad)]
            problems += bad.told()
            count += bad.count
    if problems:
        raise DataError(_summary("The manifests", count), problems)
    return Splits(*(tuple(row.utterance for row in rows) for rows in sets.values()))


def transcripts_of(source: Manifest, name: str) -> Transcripts:
    """Return what may lack in the transcripts of a set: train, development or test."""
    if name == "train" and not source.transcripts:
        return "may be missing"
    return "may be empty" if name == "test" else "needed"


def read_manifest(
    path: Path,
    *,
    longest_seconds: float = LONGEST_SECONDS,
    transcripts: Transcripts = "needed",
    bad_rows_folder: Path | None = None,
    most: int | None = None,
) -> tuple[Utterance, ...]:
    """Return the utterances of a manifest, their audio checked.

    Args:
        path: The manifest; audio paths that are not absolute are relative to its folder.
        longest_seconds: Longer clips are an error.
        transcripts: What may lack.
        bad_rows_folder: Where rows that cannot be used are listed if they are many.
        most: So many rows are read at most, evenly spread; none: all of them.

    Raises:
        DataError: With the bad rows as ``file:line``.
    """
    with BadRows(path, bad_rows_folder) as bad:
        rows = _read(path, longest_seconds, transcripts, bad, places=None if most is None else _spread(path, most))
        if bad.count:
            raise DataError(_summary(str(path), bad.count), bad.told())
    return tuple(row.utterance for row in rows)


def row_count(path: Path) -> int:
    """Return how many rows a manifest has.

    Raises:
        DataError: If it is not there, cannot be read or has no rows.
    """
    return sum(1 for _ in _lines(path))


@dataclass(frozen=True)
class Glance:
    """What was seen of a manifest without hearing it.

    Attributes:
        problems: Of its rows, as ``file:line``; of many the first ones, and how many more there are.
        rows: Number of its rows.
        heard: Of how many of them the audio file was opened.
    """

    problems: list[Problem]
    rows: int
    heard: int


def glance(
    path: Path, *, longest_seconds: float, headers: int, transcripts: Transcripts, bad_rows_folder: Path | None
) -> Glance:
    """Read all rows of a manifest and the headers of some audio files, evenly spread; all files must be there.

    Args:
        path: The manifest.
        longest_seconds: As in `read_manifest`.
        headers: How many audio files are opened at most.
        transcripts: What may lack.
        bad_rows_folder: As in `read_manifest`.

    Raises:
        DataError: If it is not there, cannot be read or has no rows.
    """
    count = row_count(path)
    heard = _spread(path, headers)
    folder = path.absolute().parent

    def look(place: int, line: bytes) -> tuple[str, str]:
        fields = _fields(line)
        audio, _ = row_parts(fields, folder, transcripts)
        if place in heard:
            require_stated(fields, audio, audio_seconds(audio, longest_seconds=longest_seconds))
        else:
            nothing = no_file(audio, "audio file")
            if nothing:
                raise DataError(f"{nothing}. Check the path.")
        return plain_id(fields), written_id(fields)

    with BadRows(path, bad_rows_folder) as bad:
        rows = ((number, partial(look, place, line)) for place, (number, line) in enumerate(_lines(path)))
        for _ in _each(path, rows, lambda ids: ids, bad):
            pass
        return Glance(bad.told(), count, len(heard))


def make_audio_folder(manifest: Path) -> None:
    """Make the folder `audio` beside a manifest, for the clips that it will list.

    Raises:
        StoreError: If the disk refuses.
    """
    try:
        (manifest.parent / "audio").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{manifest.parent} cannot be made ({error}). Check the permissions.") from error


def write_manifest(
    path: Path, utterances: Sequence[Utterance], notes: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Write a manifest that `read_manifest` reads back; it appears whole or not at all.

    Args:
        path: Where; audio below its folder is named relative to it, so that the folder can be moved.
        utterances: The rows.
        notes: Further fields, one mapping per row.

    Raises:
        StoreError: If the disk refuses.
    """
    lines = []
    for utterance, note in zip(utterances, notes or [{}] * len(utterances), strict=True):
        audio = utterance.audio_path
        audio = audio.relative_to(path.parent) if audio.is_relative_to(path.parent) else audio
        row = {
            "id": utterance.id,
            "audio_filepath": str(audio),
            "text": utterance.text,
            "duration": utterance.duration,
            **({} if utterance.speaker is None else {"speaker": utterance.speaker}),
            **note,
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written ({error}). Check the free space and the permissions.") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, numbered from 1; of one that is too long, its beginning."""
    nothing = no_file(path, "manifest")
    if nothing:
        raise DataError(f"{nothing}. Check the path.")
    try:
        with path.open("rb") as file:
            number = found = 0
            while line := file.readline(LONGEST_ROW + 1):
                number += 1
                rest = line
                while len(rest) > LONGEST_ROW and not rest.endswith(b"\n"):
                    rest = file.readline(LONGEST_ROW + 1)
                if line.strip():
                    found += 1
                    yield number, line
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}). Check its permissions.") from error
    if not found:
        raise DataError(f"{path} holds no utterances. Add a row for each clip.")


def _spread(path: Path, most: int) -> set[int]:
    """Return places of so many rows at most, from 0, evenly spread over a manifest."""
    count = row_count(path)
    if count <= most:
        return set(range(count))
    return {round(place * (count - 1) / max(1, most - 1)) for place in range(most)}


def _fields(line: bytes) -> Any:
    if len(line) > LONGEST_ROW:
        raise DataError(f"this is longer than {LONGEST_ROW:,} bytes; write one object a line")
    return json.loads(line)


def _read(
    path: Path,
    longest_seconds: float,
    transcripts: Transcripts,
    bad: BadRows,
    *,
    advance: Callable[[], None] = lambda: None,
    places: Collection[int] | None = None,
) -> list[_Row]:
    """Return the good rows of a manifest, or those at some places of it, each with an id of its own."""
    folder = path.absolute().parent

    def row(number: int, line: bytes) -> _Row:
        return _row(_fields(line), folder, f"{path}:{number}", longest_seconds, transcripts)

    numbered = (
        (number, partial(row, number, line))
        for place, (number, line) in enumerate(_lines(path))
        if places is None or place in places
    )
    rows = list(_each(path, numbered, lambda row: (row.utterance.id, row.written_id), bad, advance=advance))
    ids = distinct_ids((row.utterance.id, row.written_id) for row in rows)
    return [
        replace(row, utterance=replace(row.utterance, id=each)) if each != row.utterance.id else row
        for row, each in zip(rows, ids, strict=True)
    ]


def _each(
    path: Path,
    rows: Iterator[tuple[int, Callable[[], T]]],
    ids: Callable[[T], tuple[str, str]],
    bad: BadRows,
    *,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[T]:
    """Yield what each good row is; an id that stands twice is wrong, too.

    Args:
        path: The manifest.
        rows: Their numbers, and what reads them.
        ids: Returns the plain and the written id of what was read.
        bad: Takes what is wrong with the others.
        advance: Called after each row.
    """
    seen: set[str] = set()
    for number, read in rows:
        where = f"{path}:{number}"
        try:
            row = read()
        except DataError as error:
            bad.add(Problem(where, error.summary))
        except (ValueError, RecursionError) as error:
            bad.add(Problem(where, f"this is not JSON ({error}); write one object a line"))
        else:
            plain, written = ids(row)
            if written in seen:
                bad.add(Problem(where, f"a second row has the id '{plain}'; give every clip its own"))
            else:
                seen.add(written)
                yield row
        advance()


def _row(fields: Any, folder: Path, where: str, longest_seconds: float, transcripts: Transcripts) -> _Row:
    """Check one row and its audio."""
    path, text = row_parts(fields, folder, transcripts)
    nothing_said = not text and transcripts == "may be empty"
    samples = read_audio(path, longest_seconds=longest_seconds, may_be_silent=nothing_said)
    seconds = len(samples) / SAMPLE_RATE
    require_stated(fields, path, seconds)
    utterance = Utterance(
        id=plain_id(fields),
        audio_path=path,
        text=text,
        speaker=cleaned(string_in(fields, "speaker")) or None,
        duration=seconds,
        where=where,
    )
    heard = hashlib.sha256(np.round(samples * 32767).astype("<i2").tobytes()).hexdigest()
    return _Row(utterance, written_id(fields), heard)


class _Earlier:
    """Clips, and sentences of one speaker, of the sets that were read before."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], tuple[str, str]] = {}

    def has(self, name: str, row: _Row, bad: BadRows) -> bool:
        """Return whether a row stands in another set already, which is a mistake."""
        item = row.utterance
        keys: dict[tuple[str, ...], str] = {("audio", row.audio_hash): "this clip"}
        words = " ".join(re.findall(r"\w+", item.text.casefold()))
        if item.speaker is not None and words:
            keys["text", item.speaker, words] = f"this sentence of {item.speaker}"
        for key, what in keys.items():
            earlier, where = self._first.setdefault(key, (name, item.where))
            if earlier != name:
                bad.add(Problem(item.where, f"{what} is also in the {earlier} set ({where}); keep one"))
                return True
        return False


def _summary(what: str, count: int) -> str:
    rows = "one row" if count == 1 else f"{count:,} rows"
    return f"{what} cannot be used: {rows} must be corrected."
