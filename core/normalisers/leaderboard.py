"""Words as the Open ASR Leaderboard counts them (huggingface/open_asr_leaderboard, its scoring of August 2026).

Whisper's rules with other ones for possessives, fillers, names and single letters. Nothing is repaired here: rates are
to be those of the leaderboard.
"""

import re
from collections.abc import Callable
from functools import cache

from whisper_normalizer.basic import remove_symbols_and_diacritics
from whisper_normalizer.english import EnglishNumberNormalizer

from core.normalisers.contractions import SPOKEN, TITLES, WHOLE, compounds, endings, replacer
from core.normalisers.spelling import names, spellings

FILLERS = "hmm|mm|mhm|mmm|uh|um|ah|aha|ahh|ahm|eh|ehehe|em|hm|huh|hum|mhum|uhm|umm|uhuh"


@cache
def leaderboard() -> Callable[[str], str]:
    """Return the normaliser; its lists are read once."""
    whole = replacer(WHOLE | SPOKEN)
    titles = replacer({short: f"{word} " for short, word in TITLES.items()})
    numbers, spelled, called = EnglishNumberNormalizer(), spellings(), names()

    def normalise(text: str) -> str:
        text = without_brackets(text.lower())
        text = re.sub(rf"\b({FILLERS})\b", "", text)
        text = re.sub(r"\s+'", "'", text)
        text = endings(titles(whole(text)))
        text = without_symbols(text)
        words = [spelled.get(word, word) for word in numbers(compounds(text)).split()]
        text = " ".join(joined_letters([called.get(word, word) for word in words]))
        text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
        return " ".join(re.sub(r"([^0-9])%", r"\1 ", text).split())

    return normalise


def without_brackets(text: str) -> str:
    """Drop what stands in brackets, which is not said."""
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text)
    return re.sub(r"\(([^)]+?)\)", "", text)


def without_symbols(text: str) -> str:
    """Drop punctuation, symbols and accents; those stay that numbers are written with."""
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    text = re.sub(r"\.([^0-9]|$)", r" \1", text)
    return remove_symbols_and_diacritics(text, keep=".%$¢€£")


def joined_letters(words: list[str]) -> list[str]:
    """Join single letters and digits that stand together: "b b c", "5 g".

    Two are joined only if neither is "a" or "i", which are words.
    """
    joined: list[str] = []
    run: list[str] = []
    for word in [*words, ""]:
        if len(word) == 1 and word.isalnum():
            run.append(word)
            continue
        fewest = 3 if {"a", "i"} & set(run) else 2
        joined += ["".join(run)] if len(run) >= fewest else run
        run = []
        joined += [word] if word else []
    return joined
