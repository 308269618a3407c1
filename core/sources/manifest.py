"""NeMo manifests: one JSON object a line, with `audio_filepath`, `text` and optionally `speaker` and `duration`."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core.audio import SAMPLE_RATE, audio_seconds, read_audio
from core.config.sources import Manifest
from core.errors import DataError, Problem, StoreError
from core.sources.utterance import Splits, Utterance

T = TypeVar("T")

TEXT_KEYS = ("text", "sentence", "normalized_text", "transcript", "transcription")
"""Where the transcript may stand; the first key that is there counts."""

LONGEST_SECONDS = 30.0
DURATION_TOLERANCE_SECONDS = 1.0


@dataclass(frozen=True)
class _Row:
    """An utterance, where it was written, and a hash of its samples."""

    utterance: Utterance
    where: str
    audio_hash: str


def manifest_splits(source: Manifest, folder: Path, progress: Callable[[int, int], None]) -> Splits:
    """Return the three sets of a manifest source; nothing is written.

    Raises:
        DataError: With every bad row of the three files, and every clip that stands in two of them.
    """
    names = ("train", "development", "test")
    paths = [Path(getattr(source, name)).expanduser() for name in names]
    lines = [_lines(path) for path in paths]
    total, done = sum(map(len, lines)), 0
    sets: list[list[_Row]] = []
    problems: list[Problem] = []
    for name, path, rows in zip(names, paths, lines, strict=True):
        sets.append([])
        for row in _rows(path, rows, source.longest_seconds, silent=name == "train" and not source.transcripts):
            (problems if isinstance(row, Problem) else sets[-1]).append(row)  # pyright: ignore[reportArgumentType]
            done += 1
            progress(done, total)
    problems += _in_two_sets(dict(zip(names, sets, strict=True)))
    if problems:
        raise DataError(_summary("The manifests", problems), problems)
    return Splits(*(tuple(row.utterance for row in rows) for rows in sets))


def read_manifest(path: Path, *, longest_seconds: float = LONGEST_SECONDS) -> tuple[Utterance, ...]:
    """Return the utterances of a manifest, their audio checked.

    Args:
        path: The manifest; audio paths that are not absolute are relative to its folder.
        longest_seconds: Longer clips are an error.

    Raises:
        DataError: With every bad row as ``file:line``.
    """
    rows = list(_rows(path, _lines(path), longest_seconds))
    problems = [row for row in rows if isinstance(row, Problem)]
    if problems:
        raise DataError(_summary(str(path), problems), problems)
    return tuple(row.utterance for row in rows if isinstance(row, _Row))


@dataclass(frozen=True)
class Glance:
    """What was seen of a manifest without hearing it.

    Attributes:
        problems: Of its rows, as ``file:line``.
        rows: Number of its rows.
        heard: Of how many of them the audio file was opened.
    """

    problems: list[Problem]
    rows: int
    heard: int


def glance(path: Path, *, longest_seconds: float, headers: int, silent: bool = False) -> Glance:
    """Read all rows of a manifest and the headers of some audio files, evenly spread; all files must be there.

    Args:
        path: The manifest.
        longest_seconds: As in `read_manifest`.
        headers: How many audio files are opened at most.
        silent: Whether rows may lack their transcripts.

    Raises:
        DataError: If it is not there, cannot be read or has no rows.
    """
    lines = _lines(path)
    heard = {round(place * (len(lines) - 1) / max(1, headers - 1)) for place in range(headers)}
    heard = heard if headers < len(lines) else set(range(len(lines)))

    def look(place: int, line: bytes) -> str:
        fields = json.loads(line)
        audio, _ = _written(fields, path.absolute().parent, silent=silent)
        if place in heard:
            _require_stated(fields, audio, audio_seconds(audio, longest_seconds=longest_seconds))
        elif not audio.is_file():
            raise DataError(f"There is no audio file {audio}. Check the path.")
        return _id(fields)

    read = _each(path, [(number, partial(look, place, line)) for place, (number, line) in enumerate(lines)], str)
    return Glance([found for found in read if isinstance(found, Problem)], len(lines), len(heard))


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


def _lines(path: Path) -> list[tuple[int, bytes]]:
    """Return the lines that are not blank, numbered from 1."""
    if not path.is_file():
        raise DataError(f"There is no manifest {path}. Check the path.")
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}). Check its permissions.") from error
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} holds no utterances. Add a row for each clip.")
    return lines


def _rows(
    path: Path, lines: Sequence[tuple[int, bytes]], longest_seconds: float, *, silent: bool = False
) -> Iterator[_Row | Problem]:
    def row(number: int, line: bytes) -> _Row:
        where = f"{path}:{number}"
        return _row(json.loads(line), path.absolute().parent, where, longest_seconds, silent=silent)

    return _each(path, [(number, partial(row, number, line)) for number, line in lines], lambda row: row.utterance.id)


def _each(path: Path, rows: Sequence[tuple[int, Callable[[], T]]], name: Callable[[T], str]) -> Iterator[T | Problem]:
    """Yield what each row is, or what is wrong with it; a name that stands twice is wrong, too.

    Args:
        path: The manifest.
        rows: Their numbers, and what reads them.
        name: Returns the id of what was read.
    """
    seen: set[str] = set()
    for number, read in rows:
        where = f"{path}:{number}"
        try:
            row = read()
        except DataError as error:
            yield Problem(where, error.summary)
        except (ValueError, RecursionError) as error:
            yield Problem(where, f"this is not JSON ({error}); write one object a line")
        else:
            if name(row) in seen:
                yield Problem(where, f"a second row has the id '{name(row)}'; give every clip its own")
            else:
                seen.add(name(row))
                yield row


def _row(fields: Any, folder: Path, where: str, longest_seconds: float, *, silent: bool) -> _Row:
    """Check one row and its audio; a silent one may lack its transcript."""
    path, text = _written(fields, folder, silent=silent)
    samples = read_audio(path, longest_seconds=longest_seconds)
    seconds = len(samples) / SAMPLE_RATE
    _require_stated(fields, path, seconds)
    utterance = Utterance(
        id=_id(fields),
        audio_path=path,
        text=text or "",
        speaker=_string(fields, "speaker") or None,
        duration=seconds,
    )
    return _Row(utterance, where, hashlib.sha256(np.round(samples * 32767).astype("<i2").tobytes()).hexdigest())


def _written(fields: Any, folder: Path, *, silent: bool) -> tuple[Path, str | None]:
    """Return the path and the transcript of a row, checked as far as it goes without its audio."""
    if not isinstance(fields, dict):
        raise DataError("this is no JSON object; write {...}, one a line")
    name = _string(fields, "audio_filepath")
    if not name:
        raise DataError("audio_filepath is missing or empty; name the audio file")
    text = next((_string(fields, key) for key in TEXT_KEYS if key in fields), None)
    if silent and not text:
        text = None
    elif text is None:
        raise DataError(
            f"the transcript is missing; add it as one of {', '.join(TEXT_KEYS)}, or, for training without "
            "transcripts, set source.transcripts to false"
        )
    if text is not None and not re.search(r"\w", text):
        raise DataError("the transcript is empty; write what is said, or remove the row")
    if fields.get("offset"):
        raise DataError("parts of files (offset) are not read; cut the clip into a file of its own")
    return folder / name, text


def _id(fields: Mapping[str, Any]) -> str:
    name = _string(fields, "id") or Path(_string(fields, "audio_filepath")).with_suffix("").as_posix()
    return re.sub(r"[^\w.-]+", "-", name)


def _require_stated(fields: Mapping[str, Any], path: Path, seconds: float) -> None:
    stated = fields.get("duration")
    if isinstance(stated, int | float) and not abs(stated - seconds) <= DURATION_TOLERANCE_SECONDS:
        raise DataError(f"duration says {stated:g} s, but {path} lasts {seconds:.1f} s; correct one of them")


def _string(fields: Mapping[str, Any], key: str) -> str:
    """Return a field that is text (a number is written out), stripped; empty when it is missing or null."""
    value = fields.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{key} is no text; put it in quotation marks")
    text = str(value).strip()
    if not text.isprintable() and re.search(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]", text):
        raise DataError(f"{key} holds characters that cannot be written; remove them")
    return text


def _in_two_sets(sets: Mapping[str, Sequence[_Row]]) -> Iterator[Problem]:
    """Yield a problem for every clip, or sentence of one speaker, that stands in two sets."""
    first: dict[tuple[str, ...], tuple[str, str]] = {}
    for name, rows in sets.items():
        for row in rows:
            item = row.utterance
            keys: dict[tuple[str, ...], str] = {("audio", row.audio_hash): "this clip"}
            if item.speaker is not None:
                words = " ".join(re.findall(r"\w+", item.text.casefold()))
                keys["text", item.speaker, words] = f"this sentence of {item.speaker}"
            for key, what in keys.items():
                earlier_name, earlier_where = first.setdefault(key, (name, row.where))
                if earlier_name != name:
                    yield Problem(row.where, f"{what} is also in the {earlier_name} set ({earlier_where}); keep one")
                    break


def _summary(what: str, problems: Sequence[Problem]) -> str:
    rows = "one row" if len(problems) == 1 else f"{len(problems)} rows"
    return f"{what} cannot be used: {rows} must be corrected."
