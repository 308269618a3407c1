"""Word and character errors of transcripts, after Whisper's English normaliser."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from typing import NamedTuple

import jiwer
from whisper_normalizer.english import EnglishTextNormalizer

from core.errors import DataError

NORMALISER = f"whisper-english {version('whisper-normalizer')}, digit strings joined, lone symbols dropped"
"""Name and version, stored with every word error rate: rates of different normalisers are not comparable."""


@dataclass(frozen=True)
class WordErrors:
    """Errors of one utterance or of many.

    Attributes:
        substitutions: Words that are wrong.
        deletions: Words that are missing.
        insertions: Words that were not said.
        words: Words of the reference.
        character_errors: The three kinds of error together, on characters; spaces count as characters.
        characters: Characters of the reference.
    """

    substitutions: int
    deletions: int
    insertions: int
    words: int
    character_errors: int
    characters: int

    @property
    def errors(self) -> int:
        """Word errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Word error rate, a fraction; above 1 when a model inserts many words."""
        return self.errors / self.words

    @property
    def cer(self) -> float:
        """Character error rate, a fraction."""
        return self.character_errors / self.characters


class WordChange(NamedTuple):
    """A stretch of words that two texts share, or in which they differ.

    Attributes:
        operation: "equal", "substitute", "delete" or "insert".
        reference: Words that were said; none for an insertion.
        hypothesis: Words that were heard; none for a deletion.
    """

    operation: str
    reference: list[str]
    hypothesis: list[str]


def normalise(text: str) -> str:
    """Return text in the form in which words are compared.

    Whisper's normaliser writes the spoken "one two three" as 123, but leaves "1 2 3" and "1-2-3" as "one 2 3": here
    neighbouring numbers become one word, so that a string of digits reads the same however it was grouped. It also
    leaves one dot of "well..." as a word, which is dropped here.
    """
    words = _whisper_normaliser()(text).split()
    return _join_digit_strings(" ".join(word for word in words if any(letter.isalnum() for letter in word)))


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the errors of a hypothesis; both texts as they were written.

    Raises:
        DataError: If the reference has no words.
    """
    reference, hypothesis = _normalised_reference(reference), normalise(hypothesis)
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return WordErrors(
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        words=len(reference.split()),
        character_errors=characters.substitutions + characters.deletions + characters.insertions,
        characters=len(reference),
    )


def total(errors: Sequence[WordErrors]) -> WordErrors:
    """Return sums over a test set: its rates are errors over words, never means of the utterances' rates.

    Raises:
        DataError: If there are no utterances.
    """
    if not errors:
        raise DataError("There are no utterances to count errors of.")
    return WordErrors(
        substitutions=sum(each.substitutions for each in errors),
        deletions=sum(each.deletions for each in errors),
        insertions=sum(each.insertions for each in errors),
        words=sum(each.words for each in errors),
        character_errors=sum(each.character_errors for each in errors),
        characters=sum(each.characters for each in errors),
    )


def word_difference(reference: str, hypothesis: str) -> list[WordChange]:
    """Return how a hypothesis differs from its reference, in normalised words from left to right.

    Raises:
        DataError: If the reference has no words.
    """
    output = jiwer.process_words(_normalised_reference(reference), normalise(hypothesis))
    said, heard = output.references[0], output.hypotheses[0]
    return [
        WordChange(
            chunk.type,
            said[chunk.ref_start_idx : chunk.ref_end_idx],
            heard[chunk.hyp_start_idx : chunk.hyp_end_idx],
        )
        for chunk in output.alignments[0]
    ]


@lru_cache(maxsize=20_000)
def _normalised_reference(text: str) -> str:
    # Every run, checkpoint and test set context of a job is judged by the same texts.
    reference = normalise(text)
    if not reference:
        raise DataError(f"The reference {text!r} has no words after normalising. Correct or remove the utterance.")
    return reference


@cache
def _whisper_normaliser() -> EnglishTextNormalizer:
    # It reads a list of spellings, which takes longer than normalising.
    return EnglishTextNormalizer()


def _join_digit_strings(text: str) -> str:
    # The normaliser writes a digit 1 that stands alone as "one".
    return re.sub(
        r"(?<!\S)(?:\d+|one)(?: (?:\d+|one))+(?!\S)",
        lambda found: found.group().replace("one", "1").replace(" ", ""),
        text,
    )
