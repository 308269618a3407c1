"""Word and character errors of transcripts, after a normaliser that is named beside every count."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from core.edit_distance import align, counts, joins_of
from core.errors import DataError
from core.normalisers import Normaliser, Words, normaliser_of, normaliser_stamped


@dataclass(frozen=True)
class WordErrors:
    """Errors of one utterance or of many.

    Attributes:
        substitutions: Words that are wrong.
        deletions: Words that are missing.
        insertions: Words that were not said.
        words: Words of the reference; none where nothing is said, and all that is written is inserted.
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
        """Word error rate, a fraction; above 1 when a model inserts many words, infinite when nothing was said."""
        return _rate(self.errors, self.words)

    @property
    def cer(self) -> float:
        """Character error rate, a fraction."""
        return _rate(self.character_errors, self.characters)


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


def normalise(text: str, normaliser: Normaliser | None = None) -> str:
    """Return text in the form in which words are compared; without a normaliser, in that of English."""
    return (normaliser or normaliser_of())(text)


def word_errors(reference: str, hypothesis: str, normaliser: Normaliser | None = None) -> WordErrors:
    """Count the errors of a hypothesis.

    The kinds are those of one alignment, whose rule is in `core.edit_distance`.

    Args:
        reference: As it was written; empty where nothing is said.
        hypothesis: As it was written.
        normaliser: Makes words of both; without, that of English.

    Raises:
        DataError: If the reference is not empty but has no words.
    """
    normaliser = normaliser or normaliser_of()
    said, heard = _normalised_reference(reference, normaliser), normaliser.words(hypothesis)
    kinds, written = counts(said, heard), heard.words
    if kinds != (0, 0, 0) and normaliser.joins and (joins := joins_of(said, heard)):
        edits = align(said, heard, joins)
        operations = [edit.operation for edit in edits]
        kinds = tuple(operations.count(each) for each in ("substitute", "delete", "insert"))
        written = tuple(
            word
            for edit in edits
            for word in (
                said.words[slice(*edit.reference)]
                if edit.operation == "equal"
                else heard.words[slice(*edit.hypothesis)]
            )
        )
    text = normaliser.separator.join(said.words)
    return WordErrors(
        *kinds,
        words=len(said.words),
        character_errors=Levenshtein.distance(text, normaliser.separator.join(written)),
        characters=len(text),
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


def word_difference(reference: str, hypothesis: str, normaliser: Normaliser | str | None = None) -> list[WordChange]:
    """Return how a hypothesis differs from its reference, in normalised words from left to right.

    Args:
        reference: As it was written; empty where nothing is said.
        hypothesis: As it was written.
        normaliser: Makes words of both, or the name of it that is stored with the errors; without, that of English.

    Raises:
        DataError: If the reference is not empty but has no words.
    """
    if isinstance(normaliser, str):
        normaliser = normaliser_stamped(normaliser)
    normaliser = normaliser or normaliser_of()
    said, heard = _normalised_reference(reference, normaliser), normaliser.words(hypothesis)
    changes: list[WordChange] = []
    for edit in align(said, heard, joins_of(said, heard) if normaliser.joins else {}):
        here, there = list(said.words[slice(*edit.reference)]), list(heard.words[slice(*edit.hypothesis)])
        if changes and changes[-1].operation == edit.operation:
            changes[-1].reference.extend(here)
            changes[-1].hypothesis.extend(there)
        else:
            changes.append(WordChange(edit.operation, here, there))
    return changes


def _rate(errors: int, size: int) -> float:
    if size == 0:
        return math.inf if errors else 0.0
    return errors / size


@lru_cache(maxsize=20_000)
def _normalised_reference(text: str, normaliser: Normaliser) -> Words:
    # Every run, checkpoint and test set context of a job is judged by the same texts.
    reference = normaliser.words(text)
    if text.strip() and not reference.words:
        raise DataError(
            f"The reference {text!r} has no words after normalising. Correct or remove the utterance; where nothing is "
            "said, leave its text empty."
        )
    return reference
