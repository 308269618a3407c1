"""Which normaliser runs, for which language, and under which name its counts are stored."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from core.normalisers.english import english
from core.normalisers.folding import folded, readable
from core.normalisers.leaderboard import leaderboard
from core.normalisers.words import Words

KINDS = ("auto", "english", "open-asr-leaderboard", "whisper", "basic")
"""What may be asked for; auto is "english" for English and "basic" for all other languages."""

ENGLISH = ("en", "english")
WITHOUT_SPACES = ("zh", "yue", "ja", "th", "lo", "my", "km", "bo")
"""Languages that are written without spaces between words, as Whisper writes their names."""

DOTLESS_I = ("tr", "az")

_PACKAGE = version("whisper-normalizer")


@dataclass(frozen=True)
class Normaliser:
    """How texts become words.

    Attributes:
        name: Name, version and what is special, stored with every word error rate: rates of different normalisers are
            not comparable.
        words: Returns the words of a text.
        joins: Whether words that are written together on one side and apart on the other are equal.
        separator: Between words where characters are counted; none where words are single characters.
    """

    name: str
    words: Callable[[str], Words] = field(repr=False)
    joins: bool = False
    separator: str = " "

    def __call__(self, text: str) -> str:
        """Return the words of a text, joined."""
        return self.separator.join(self.words(text).words)


@cache
def normaliser_of(kind: str = "auto", language: str = "en") -> Normaliser:
    """Return a normaliser by what was asked for, one of `KINDS`, and by language."""
    if kind == "auto":
        kind = "english" if language.lower() in ENGLISH else "basic"
    if kind == "english":
        own = english()
        return Normaliser(
            f"english 1: Open ASR Leaderboard rules with digits and apostrophes kept, compounds joined, over "
            f"whisper-normalizer {_PACKAGE}",
            lambda text: own(readable(text)),
            joins=True,
        )
    if kind == "open-asr-leaderboard":
        rules = leaderboard()
        return Normaliser(
            f"open-asr-leaderboard 2026-08: compounds joined, over whisper-normalizer {_PACKAGE}",
            lambda text: Words(tuple(rules(readable(text)).split())),
            joins=True,
        )
    if kind == "whisper":
        published = EnglishTextNormalizer()
        return Normaliser(
            f"whisper-english {_PACKAGE}: as published", lambda text: Words(tuple(published(readable(text)).split()))
        )
    return _basic(language.lower())


def _basic(language: str) -> Normaliser:
    characters = language in WITHOUT_SPACES
    rules = BasicTextNormalizer(preserve_marks=True, split_letters=characters)

    def words(text: str) -> Words:
        if language in DOTLESS_I:
            text = text.replace("I", "ı").replace("İ", "i")
        text = unicodedata.normalize("NFKC", folded(text))
        return Words(tuple(re.sub(r"\d", lambda digit: str(unicodedata.digit(digit[0])), rules(text)).split()))

    name = f"whisper-basic {_PACKAGE}: marks kept"
    name += ", characters counted as words" if characters else ""
    name += ", dotless i" if language in DOTLESS_I else ""
    return Normaliser(name, words, separator="" if characters else " ")


def normaliser_stamped(name: str) -> Normaliser:
    """Return the normaliser whose counts bear a name; of an earlier version the one that took its place."""
    kinds = {"english": "english", "open-asr-leaderboard": "open-asr-leaderboard", "whisper-english": "whisper"}
    kind = kinds.get(name.partition(" ")[0], "basic" if name.startswith("whisper-basic") else "english")
    return normaliser_of(kind, "zh" if "characters" in name else "tr" if "dotless" in name else "en")


def note_on(kind: str, language: str) -> str:
    """Return what is to be known before words of a language are counted; nothing where they are fully normalised."""
    if language.lower() in ENGLISH or kind not in ("auto", "basic"):
        return ""
    said = "case, punctuation and symbols are dropped; numbers, short forms and spellings stay as they are written"
    if language.lower() in WITHOUT_SPACES:
        return f"language {language} is written without spaces, so each character counts as a word; {said}"
    return f"language {language}: {said}"
