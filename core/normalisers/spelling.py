"""One spelling of words and names for all that mean the same.

The list of British and American spellings is the one that whisper-normalizer ships (tysto.com/uk-us-spelling-list).
"""

from functools import cache
from importlib.resources import files

from whisper_normalizer.english import EnglishSpellingNormalizer

REPAIRED = {
    "archaeology": "archeology",
    "pummelled": "pummeled",
    "pummelling": "pummeling",
    "snowploughs": "snowplows",
    "flyer": "flier",
    "archaeological": "archeological",
    "cancellation": "cancelation",
    "cancellations": "cancelations",
    "travelogue": "travelog",
    "travelogues": "travelogs",
}
"""Entries of the shipped list that are wrong (a stray tag, another form of the verb, a singular for a plural, two words
in one entry) or that run from the American spelling to the British."""

MORE = {"ok": "okay", "kay": "okay", "etcetera": "etc", "mm": "hmm"}
"""What the Open ASR Leaderboard adds to the list (huggingface/open_asr_leaderboard, August 2026)."""

MISSING = {"archaeologist": "archeologist", "archaeologists": "archeologists"}
"""What neither list has, beside words that they have."""


@cache
def spellings() -> dict[str, str]:
    """Return the repaired list: every value is a word, and none is replaced in turn."""
    shipped = {
        word: spelled
        for word, spelled in EnglishSpellingNormalizer().mapping.items()
        if word.isalpha() and spelled not in REPAIRED and word not in REPAIRED.values()
    }
    return shipped | REPAIRED | MORE


@cache
def names() -> dict[str, str]:
    """Return the one spelling of first and family names that sound alike."""
    lines = files("core.normalisers").joinpath("names.txt").read_text(encoding="utf-8").splitlines()
    groups = [line.split() for line in lines if line and not line.startswith("#")]
    return {other: first for first, *others in groups for other in others}
