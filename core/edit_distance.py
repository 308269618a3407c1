"""Which words of two texts are alike: an alignment whose rule is stated, so that its counts are always the same.

Of all alignments the one with the fewest errors; of those the one with the fewest substitutions, so that most words
count as heard (as the weights of sclite have it: 3, 3 and 4); of those the one with the fewest joins. What is left
differs in the places of errors, not in their kinds.
"""

from collections import defaultdict
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from core.normalisers import Words

ERROR, SUBSTITUTION, JOIN = 10**9, 10**4, 1


class Edit(NamedTuple):
    """A step of an alignment.

    Attributes:
        operation: "equal", "substitute", "delete" or "insert"; words are equal, too, that differ in spaces alone.
        reference: First word of the reference, and the first after it.
        hypothesis: The same of the hypothesis.
    """

    operation: str
    reference: tuple[int, int]
    hypothesis: tuple[int, int]


class Counts(NamedTuple):
    """Errors by kind."""

    substitutions: int
    deletions: int
    insertions: int


Joins = dict[tuple[int, int], list[tuple[int, int]]]
"""By the ends of two stretches that are equal although their words are not: how many words each holds."""


def counts(reference: Words, hypothesis: Words) -> Counts:
    """Return the errors of words that are equal only as they are."""
    said, heard = reference.words, hypothesis.words
    cost = Levenshtein.distance(said, heard, weights=(ERROR, ERROR, ERROR + SUBSTITUTION))
    errors, substitutions = cost // ERROR, cost % ERROR // SUBSTITUTION
    shift = len(said) - len(heard)
    deletions = (errors - substitutions + shift) // 2
    return Counts(substitutions, deletions, deletions - shift)


def joins_of(reference: Words, hypothesis: Words) -> Joins:
    """Return where one word, in any of its readings, is what several words are when written together."""
    found: Joins = defaultdict(list)
    for start, end, place in _matches(reference, hypothesis):
        found[place + 1, end].append((1, end - start))
    for start, end, place in _matches(hypothesis, reference):
        found[end, place + 1].append((end - start, 1))
    return dict(found)


def _matches(single: Words, several: Words) -> list[tuple[int, int, int]]:
    """Return stretches (start, end) of one text that are a word (its place) of the other."""
    starts: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(several.words):
        starts[word[0]].append(place)
    matches = []
    for place, word in enumerate(single.words):
        for form in (word, *single.readings.get(place, ())):
            for start in starts.get(form[0], ()):
                end = start
                rest = form
                while rest and end < len(several.words) and rest.startswith(several.words[end]):
                    rest = rest[len(several.words[end]) :]
                    end += 1
                if not rest and (end - start > 1 or form != word):
                    matches.append((start, end, place))
    return matches


def align(reference: Words, hypothesis: Words, joins: Joins) -> list[Edit]:
    """Return the alignment of two texts, from left to right."""
    said, heard = reference.words, hypothesis.words
    costs = [[ERROR * column for column in range(len(heard) + 1)]]
    for row, word in enumerate(said, 1):
        above, own = costs[-1], [ERROR * row]
        costs.append(own)
        for column, other in enumerate(heard, 1):
            best = above[column - 1] + (0 if word == other else ERROR + SUBSTITUTION)
            best = min(best, above[column] + ERROR, own[column - 1] + ERROR)
            for rows, columns in joins.get((row, column), ()) if joins else ():
                best = min(best, costs[row - rows][column - columns] + JOIN)
            own.append(best)
    edits: list[Edit] = []
    row, column = len(said), len(heard)
    while row or column:
        edits.append(_last_edit(costs, row, column, said, heard, joins))
        row, column = edits[-1].reference[0], edits[-1].hypothesis[0]
    return edits[::-1]


def _last_edit(
    costs: list[list[int]], row: int, column: int, said: tuple[str, ...], heard: tuple[str, ...], joins: Joins
) -> Edit:
    """Return the step that ends at two places: of those that cost the same one word each, a join, a deletion."""
    cost = costs[row][column]
    if row and column:
        same = said[row - 1] == heard[column - 1]
        if cost == costs[row - 1][column - 1] + (0 if same else ERROR + SUBSTITUTION):
            return Edit("equal" if same else "substitute", (row - 1, row), (column - 1, column))
    for rows, columns in joins.get((row, column), ()):
        if cost == costs[row - rows][column - columns] + JOIN:
            return Edit("equal", (row - rows, row), (column - columns, column))
    if row and cost == costs[row - 1][column] + ERROR:
        return Edit("delete", (row - 1, row), (column, column))
    return Edit("insert", (row, row), (column - 1, column))
