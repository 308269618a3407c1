"""Values as text: numbers with their units, times, and texts from outside made harmless."""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from core.names import cleaned

NOTHING = "–"

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$^&=])")
_READ_LATER = re.compile(
    r"(?<=http)(?=s?://)|(?<=www)(?=\.)|(?=@)"  # links
    r"|(?<=:)(?=[\w+-])"  # :material/delete:, :streamlit:, :smile: and :red[text]
    r"|(?<=[<>=~-])(?=[>=-])",  # the arrows and signs that Streamlit draws for ->, <-, --, >= and the like
    re.IGNORECASE,
)
_JOINER = "\u2060"
"""A word joiner, which nobody sees. What Streamlit looks for once the escapes are gone it finds wherever it stands,
unless this parts its signs."""


NAMES = {
    "cka": "CKA",
    "dkd": "DKD",
    "fisher rao": "Fisher-Rao",
    "gram": "Gram",
    "infonce": "InfoNCE",
    "kl": "KL",
    "lora": "LoRA",
    "mse": "MSE",
    "procrustes": "Procrustes",
    "rkd": "RKD",
    "taid": "TAID",
    "wer": "WER",
}
"""How names and abbreviations are written that settings have in small letters."""

_NAMES = re.compile(rf"\b({'|'.join(NAMES)})\b", re.IGNORECASE)


def plain(text: str) -> str:
    """Return text that Streamlit's Markdown shows letter by letter, on one line.

    Everything that a user, a file or a model wrote goes through here before it stands in a label, a
    heading or a caption.
    """
    return _MARKDOWN.sub(r"\\\1", _READ_LATER.sub(_JOINER, cleaned(text)))


def pressed(name: str) -> str:
    """Return a name as a button in a table shows it letter by letter: one that begins like an icon, or is in brackets
    like a list of buttons, is parted."""
    shown = _READ_LATER.sub(_JOINER, name) if name.lstrip().startswith(":") else name
    return f"{shown}{_JOINER}" if shown.strip().startswith("[") and shown.strip().endswith("]") else shown


def first_sentence(message: str) -> str:
    """Return the first sentence of a text of several."""
    first = re.split(r"(?<=[.!?])\s|\n", message.strip(), maxsplit=1)[0]
    return f"{first[:-1]}." if first.endswith(":") else first


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage, for example ``26.3 %``."""
    return NOTHING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{digits}f} %"


def points(fraction: float | None) -> str:
    """Return a difference of two rates in percentage points with its sign, for example ``−4.1``."""
    if fraction is None or not math.isfinite(fraction):
        return NOTHING
    return f"{100 * fraction:+.1f}".replace("-", "−")


def interval(low_and_high: tuple[float, float]) -> str:
    """Return an interval of a difference in percentage points, for example ``−8.6 to −2.1``."""
    low, high = low_and_high
    return f"{points(low)} to {points(high)}"


def degrees(radians: float | None) -> str:
    """Return an angle in degrees, for example ``48.2°``."""
    return NOTHING if radians is None or not math.isfinite(radians) else f"{math.degrees(radians):.1f}°"


def count(number: int | None) -> str:
    """Return a whole number with thin spaces between thousands, for example ``37 760 640``."""
    return NOTHING if number is None else f"{number:,}".replace(",", "\u202f")


def decimal(number: float | None, digits: int = 3) -> str:
    """Return a number with a fixed count of decimals; what is rounded to nothing has no sign."""
    return NOTHING if number is None or not math.isfinite(number) else f"{number:z.{digits}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return a time span in its two largest units, for example ``2 min 05 s``."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, for example ``3 min ago``."""
    if moment is None:
        return NOTHING
    seconds = max(0.0, (now - moment).total_seconds())
    if seconds < 5:
        return "just now"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    days = int(seconds // 86_400)
    return "yesterday" if days == 1 else f"{days} days ago"


def moment(at: datetime | None) -> str:
    """Return a moment in UTC, for example ``2026-11-24 04:25 UTC``."""
    return NOTHING if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def size(count: float | None) -> str:
    """Return a number of bytes in words, for example ``1.9 GB``."""
    if count is None:
        return NOTHING
    unit, factor = next(((unit, factor) for unit, factor in (("GB", 1e9), ("MB", 1e6)) if count >= factor), ("kB", 1e3))
    return f"{count / factor:.{0 if unit == 'kB' else 1}f} {unit}"


def spoken(name: str) -> str:
    """Return the name of a setting or of a metric as a sentence has it: ``encoder_layers`` is ``encoder layers``."""
    spaced = name.replace("_", " ").replace("/", ": ")
    return _NAMES.sub(lambda found: NAMES[found.group().lower()], spaced)


def words(name: str) -> str:
    """Return the name of a setting or of a metric as a label: ``encoder_layers`` is ``Encoder layers``."""
    said = spoken(name)
    return said[:1].upper() + said[1:]


def marked(changes: Iterable[tuple[str, list[str], list[str]]]) -> str:
    """Return what was heard as Markdown, with what differs from what was said marked by sign as well as colour.

    Args:
        changes: Stretches of words as (operation, said, heard); operation "equal" means that they agree.
    """
    pieces = []
    for operation, said, heard in changes:
        missed, instead = plain(" ".join(said)), plain(" ".join(heard))
        if operation == "equal":
            pieces.append(instead)
            continue
        pieces += [f":red-background[~~{missed}~~]"] if missed else []
        pieces += [f":orange-background[**{instead}**]"] if instead else []
    return " ".join(pieces) or "*nothing*"
