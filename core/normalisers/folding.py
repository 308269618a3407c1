"""Characters that are one to a reader: apostrophes, hyphens, and those that are not seen at all."""

import re

APOSTROPHES = "’‘‛ʼʻʽʾʿˈʹ′‵`´＇ꞌ＇՚᾽᾿ˋˊ"
"""Signs that are typed where an apostrophe is meant; all become U+0027."""

MOST_DIGITS = 1000

_FOLDED = str.maketrans({**dict.fromkeys(APOSTROPHES, "'"), **dict.fromkeys("‐‑﹣－", "-")})
# Zero-width characters, soft hyphens, marks of direction, tatweel, byte order marks: format characters of Unicode.
_UNSEEN = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u0640\u06dd\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
)


def folded(text: str) -> str:
    """Return a text with one apostrophe, one hyphen and no unseen characters."""
    return text.replace("`", "'") if text.isascii() else _UNSEEN.sub("", text.translate(_FOLDED))


def readable(text: str) -> str:
    """Return a text without numbers of more digits than Python turns into a number, at which Whisper's rules fail."""
    return text if len(text) < MOST_DIGITS else re.sub(rf"\d{{{MOST_DIGITS}}}", r"\g<0> ", text)
