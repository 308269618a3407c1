"""English words as this project counts them: the Open ASR Leaderboard's rules with what they get wrong repaired."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from whisper_normalizer.english import EnglishNumberNormalizer

from core.normalisers.contractions import SPOKEN, TITLES, WHOLE, compounds, endings, replacer
from core.normalisers.folding import folded
from core.normalisers.leaderboard import FILLERS, joined_letters, without_brackets, without_symbols
from core.normalisers.spelling import MISSING, names, spellings
from core.normalisers.words import Words
from core.normalisers.written_numbers import Keep, said

WITHOUT_APOSTROPHE = {
    **{f"{verb}nt": f"{verb} not" for verb in ("do", "does", "did", "is", "are", "was", "were", "have", "has", "had")},
    **{f"{verb}nt": f"{verb} not" for verb in ("could", "would", "should", "must", "need")},
    "youre": "you are",
    "theyre": "they are",
    "youve": "you have",
    "theyve": "they have",
    "weve": "we have",
    "ive": "i have",
    "im": "i am",
    "youll": "you will",
    "theyll": "they will",
    "thats": "that is",
    "whats": "what is",
}
"""Short forms that are no other word where their apostrophe is left out."""

POSSESSIVE = "\uf8ff"
"""Stands for the apostrophe of a possessive while numbers and symbols are dealt with."""

FIRST_KEPT = 0xE000
"""Words that numbers and symbols must leave alone are one character of Unicode's private area meanwhile."""


@cache
def english() -> Callable[[str], Words]:
    """Return the normaliser; its lists are read once."""
    spoken = replacer(
        {**WHOLE, **SPOKEN, "kinda": "kind of", "sorta": "sort of", "dunno": "do not know", "'cause": "because"}
    )
    whole = replacer(WITHOUT_APOSTROPHE)
    titles = replacer({short: f"{word} " for short, word in TITLES.items()})
    fillers = re.compile(rf"\b({FILLERS.replace('|em|', '|').replace('|hum|', '|')})\b")
    numbers, spelled, called = EnglishNumberNormalizer(), spellings() | MISSING, names()

    def spelling(word: str) -> str:
        word = spelled.get(word, word)
        return called.get(word, word)

    def normalise(text: str) -> Words:
        kept: dict[str, tuple[str, tuple[str, ...]]] = {}

        def keep(word: str, readings: tuple[str, ...]) -> str:
            character = chr(FIRST_KEPT + len(kept))
            kept[character] = (word, readings)
            return f" {character} "

        text = without_brackets(_plain(text))
        text = fillers.sub("", text)
        text = re.sub(r"\s+'(?=(?:s|d|t|re|ve|ll|m)\b)", "'", text)
        text = whole(endings(titles(spoken(re.sub(r"\bo'clock\b", "oclock", text)))))
        text = re.sub(r"(?<=[^\W\d])'s\b", f"{POSSESSIVE}s", text)
        text = re.sub(r"(?<=[^\W\d])'(?=[^\W\d])", "", text)
        text = re.sub(r"\s&(?=\s)", " and", text)
        text = without_symbols(said(text, keep))
        text = compounds(" ".join(_no_zeros(_letters(text.split()), numbers, keep)))
        return _words(_numbers(text, numbers), kept, spelling)

    return normalise


def _plain(text: str) -> str:
    """Return a text in lower case, in the characters that most texts are written in."""
    if text.isascii():
        return folded(text).lower()
    # Private characters are the normaliser's own.
    text = re.sub("[\ue000-\uf8ff]", " ", folded(text))
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    return unicodedata.normalize("NFKC", text).lower()


def _letters(words: list[str]) -> list[str]:
    """Join letters that are spelled, before a lone "o" is taken for a zero."""
    joined: list[str] = []
    run: list[str] = []
    for word in [*words, ""]:
        if len(word) == 1 and word.isalpha() and word.isascii():
            run.append(word)
            continue
        joined += joined_letters(run) if set(run) - {"o"} else run
        run = []
        joined += [word] if word else []
    return joined


def _no_zeros(words: list[str], rules: EnglishNumberNormalizer, keep: Keep) -> list[str]:
    """Put "o" and "oh" aside that stand beside no digit: they are no zeros there."""
    around = ["", *words, ""]
    return [
        keep(word, ())
        if word in ("o", "oh")
        and not any(other in rules.decimals or other.isdecimal() for other in (around[place], around[place + 2]))
        else word
        for place, word in enumerate(words)
    ]


def _numbers(text: str, rules: EnglishNumberNormalizer) -> list[str]:
    """Return words with numbers as digits; "1" stays so, that "1%" and "$1" are not the word "one"."""
    text = " ".join(rules.process_words(rules.preprocess(text).split()))
    text = re.sub(
        r"([€£$])(\d+) (?:and )?¢(\d{1,2})\b", lambda found: f"{found[1]}{found[2]}.{int(found[3]):02d}", text
    )
    text = re.sub(r"[€£$]0?\.(\d{1,2})\b", lambda found: f"¢{int(found[1])}", text)
    text = re.sub(r"(?<!\S)([-+])(?=\d)", lambda found: "minus " if found[1] == "-" else "plus ", text)
    # Signs of currency, per cent and decimals belong to numbers alone.
    text = re.sub(r"(?<!\S)([€£$¢]?)\.(?=\d)", r"\g<1>0.", text)
    text = re.sub(r"\.(?!\d)|[$¢€£](?!\d)|(?<!\d)%|(?<!\d)\.", " ", text)
    words: list[str] = []
    for word in text.split():
        if word.isdecimal() and words and words[-1].isdecimal():
            words[-1] += word
        else:
            words.append(word)
    return joined_letters(words)


def _words(words: list[str], kept: dict[str, tuple[str, tuple[str, ...]]], spelling: Callable[[str], str]) -> Words:
    """Spell words alike, and put those that were kept aside in their places again."""
    written: list[str] = []
    readings: dict[int, tuple[str, ...]] = {}
    for word in words:
        if word in kept:
            word, readings[len(written)] = kept[word]
        elif POSSESSIVE in word:
            whose = spelling(word.partition(POSSESSIVE)[0])
            word, readings[len(written)] = f"{whose}s", (f"{whose}is", f"{whose}has")
        elif word in ("1", "1s"):
            word = word.replace("1", "one")
        else:
            word = spelling(word)
        written.append(word)
    return Words(tuple(written), readings) if readings else Words(tuple(written))
