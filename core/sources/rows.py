"""One row of a manifest: what it says of its clip, checked as far as that goes without the audio."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from core.errors import DataError

TEXT_KEYS = ("text", "sentence", "normalized_text", "transcript", "transcription")
"""Where the transcript may stand; the first key that is there, and not null, counts."""

CONTROL_TOKEN = re.compile(r"<\|[^<>|]*\|>")
"""How Whisper writes what is no speech: <|endoftext|>, languages, tasks, times. Tokenizers find them in a text, too."""

DURATION_TOLERANCE_SECONDS = 1.0

Transcripts = Literal["needed", "may be missing", "may be empty"]
"""Whether each row has a transcript; whether some are unlabelled; or whether nothing may be said in some clips."""


def row_parts(fields: Any, folder: Path, transcripts: Transcripts) -> tuple[Path, str]:
    """Return path and transcript of a row; the transcript is empty where there is none.

    Args:
        fields: The row, as JSON has it.
        folder: What its path is relative to.
        transcripts: What may lack.

    Raises:
        DataError: With what is wrong, without the place.
    """
    if not isinstance(fields, dict):
        raise DataError("this is no JSON object; write {...}, one a line")
    name = string_in(fields, "audio_filepath")
    if not name:
        raise DataError("audio_filepath is missing or empty; name the audio file")
    text = _transcript(fields, transcripts)
    if fields.get("offset"):
        raise DataError("parts of files (offset) are not read; cut the clip into a file of its own")
    return folder / name, text


def _transcript(fields: Mapping[str, Any], transcripts: Transcripts) -> str:
    texts = {key: string_in(fields, key) for key in TEXT_KEYS if fields.get(key) is not None}
    if not texts:
        if transcripts == "may be missing":
            return ""
        raise DataError(
            f"the transcript is missing; add it as one of {', '.join(TEXT_KEYS)}, or, for training without "
            "transcripts, set source.transcripts to false"
        )
    key, text = next(iter(texts.items()))
    token = CONTROL_TOKEN.search(text)
    if token:
        raise DataError(f"the transcript holds {token[0]}, a control token that the model takes as such; remove it")
    if text and not re.search(r"\w", text):
        raise DataError("the transcript is empty: it has signs, and no words; write what is said, or remove the row")
    filled = next((other for other in texts if texts[other]), None)
    if not text and filled:
        raise DataError(f"{key} is empty, and {filled} is not; keep one of them")
    if not text and transcripts == "needed":
        raise DataError(
            "the transcript is empty; write what is said, or remove the row (only in a test set does an empty one say "
            "that nobody speaks)"
        )
    return text


def written_id(fields: Mapping[str, Any]) -> str:
    """Return what names a clip: its id, or its file."""
    return string_in(fields, "id") or string_in(fields, "audio_filepath")


def plain_id(fields: Mapping[str, Any]) -> str:
    """Return the name of a clip with letters, digits, dots and hyphens alone; several clips may have the same."""
    name = string_in(fields, "id") or Path(string_in(fields, "audio_filepath")).with_suffix("").as_posix()
    return re.sub(r"[^\w.-]+", "-", name)


def distinct_ids(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return an id for each pair of plain and written id, in which equal plain ones are told apart by what was written.

    They do not depend on the order of the rows. A plain id that was written so stays as it is.
    """
    pairs = list(rows)
    counts: dict[str, int] = {}
    for plain, _ in pairs:
        counts[plain] = counts.get(plain, 0) + 1
    return [
        plain
        if counts[plain] == 1 or plain == written
        else f"{plain}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"
        for plain, written in pairs
    ]


def require_stated(fields: Mapping[str, Any], path: Path, seconds: float) -> None:
    """Raise DataError if a row says that its clip has another length than it has."""
    stated = fields.get("duration")
    if isinstance(stated, int | float) and not abs(stated - seconds) <= DURATION_TOLERANCE_SECONDS:
        raise DataError(f"duration says {stated:g} s, but {path} lasts {seconds:.1f} s; correct one of them")


def string_in(fields: Mapping[str, Any], key: str) -> str:
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
