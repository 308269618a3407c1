"""The alignment of words: as few errors as other programs find, by a rule that leaves one count of each kind."""

import jiwer
import kaldialign
from hypothesis import given, settings
from hypothesis import strategies as st

from core.edit_distance import align, counts, joins_of
from core.normalisers import Words

PLAIN = st.lists(st.sampled_from(["red", "green", "blue"]), max_size=9)
PARTS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "abab"]), max_size=8)


def _kinds(said: list[str], heard: list[str], *, joins: bool = False) -> tuple[int, int, int]:
    reference, hypothesis = Words(tuple(said)), Words(tuple(heard))
    edits = align(reference, hypothesis, joins_of(reference, hypothesis) if joins else {})
    operations = [edit.operation for edit in edits]
    return operations.count("substitute"), operations.count("delete"), operations.count("insert")


@settings(max_examples=200, deadline=None)
@given(PLAIN, PLAIN)
def test_there_are_as_few_errors_as_jiwer_and_kaldialign_find(said: list[str], heard: list[str]) -> None:
    errors = sum(counts(Words(tuple(said)), Words(tuple(heard))))
    assert errors == kaldialign.edit_distance(said, heard)["total"]
    if said:
        theirs = jiwer.process_words(" ".join(said), " ".join(heard))
        assert errors == theirs.substitutions + theirs.deletions + theirs.insertions


@settings(max_examples=200, deadline=None)
@given(PLAIN, PLAIN)
def test_of_alignments_with_as_few_errors_the_one_with_most_words_right_counts(
    said: list[str], heard: list[str]
) -> None:
    substitutions, deletions, insertions = counts(Words(tuple(said)), Words(tuple(heard)))
    theirs = kaldialign.edit_distance(said, heard)
    assert substitutions <= theirs["sub"]
    assert deletions - insertions == len(said) - len(heard)
    assert _kinds(said, heard) == (substitutions, deletions, insertions)


def test_a_word_right_is_preferred_to_two_substitutions() -> None:
    assert counts(Words(("a", "b")), Words(("b", "c"))) == (0, 1, 1)
    assert kaldialign.edit_distance(["a", "b"], ["b", "c"], sclite_mode=True)["sub"] == 0


@settings(max_examples=300, deadline=None)
@given(PARTS, PARTS)
def test_joined_words_leave_as_few_errors_as_the_scorer_of_the_leaderboard_finds(
    said: list[str], heard: list[str]
) -> None:
    theirs = kaldialign.edit_distance(said, heard, merge_compounds=True)
    assert sum(_kinds(said, heard, joins=True)) == theirs["total"]


def test_another_reading_of_a_word_is_no_error() -> None:
    written, spoken = Words(("pages", "10-15"), {1: ("10to15",)}), Words(("pages", "10", "to", "15"))
    assert joins_of(written, spoken) == {(2, 4): [(1, 3)]}
    assert joins_of(spoken, written) == {(4, 2): [(3, 1)]}
    assert joins_of(Words(("1/2",), {0: ("half",)}), Words(("half",))) == {(1, 1): [(1, 1)]}
