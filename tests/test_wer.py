"""Word errors: counts that can be checked by hand, rates over a set, and texts that mean the same."""

import math

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from core.normalisers import normaliser_of
from core.wer import WordErrors, normalise, total, word_difference, word_errors

WORDS = st.lists(st.sampled_from(["red", "green", "blue", "house"]), min_size=1, max_size=8)


def test_the_three_kinds_of_error_are_counted_apart() -> None:
    errors = word_errors("the cat sat on the mat by the old door", "the bat sat on mat by the old door now then")
    assert (errors.substitutions, errors.deletions, errors.insertions, errors.words) == (1, 1, 2, 10)
    assert errors.wer == pytest.approx(4 / 10)


def test_characters_are_counted_on_the_same_text() -> None:
    errors = word_errors("the cat", "the bat")
    assert (errors.character_errors, errors.characters) == (1, 7)
    assert errors.cer == pytest.approx(1 / 7)


def test_a_hypothesis_without_words_misses_all_of_them() -> None:
    assert word_errors("one fine day", " ... ") == WordErrors(0, 3, 0, 3, 12, 12)


def test_inserted_words_can_bring_the_rate_above_one() -> None:
    assert word_errors("stop", "stop stop stop stop").wer == 3


@pytest.mark.parametrize("reference", ["...", "[music]", "Uh, um!"])
def test_a_reference_without_words_is_refused(reference: str) -> None:
    with pytest.raises(DataError, match="no words"):
        word_errors(reference, "anything")
    with pytest.raises(DataError, match="no words"):
        word_difference(reference, "anything")


@pytest.mark.parametrize("silence", ["", "   "])
def test_where_nothing_is_said_every_word_is_inserted(silence: str) -> None:
    invented = word_errors(silence, "Thank you.")
    assert (invented.insertions, invented.errors, invented.words) == (2, 2, 0)
    assert invented.wer == math.inf
    assert [change.operation for change in word_difference(silence, "Thank you.")] == ["insert"]
    assert word_errors(silence, "...") == WordErrors(0, 0, 0, 0, 0, 0)
    assert word_errors(silence, "").wer == 0


def test_words_invented_in_silence_count_in_the_rate_of_a_set_that_holds_speech_too() -> None:
    both = total([word_errors("red green", "red green"), word_errors("", "thank you")])
    assert (both.insertions, both.words, both.wer) == (2, 2, 1.0)


def test_case_punctuation_and_spelling_make_no_errors() -> None:
    assert word_errors("Mr. Brown's favourite colour: grey!", "mister brown's favorite color gray").errors == 0


@pytest.mark.parametrize("written", ["Well... yes...", "Well, yes.", "[cough] Well - yes", "well… yes"])
def test_dots_and_dashes_are_no_words(written: str) -> None:
    assert word_errors("well yes", written).errors == 0


def test_a_wrong_digit_is_still_an_error() -> None:
    assert word_errors("one two three", "1 2 4").substitutions == 1


def test_words_are_those_of_the_normaliser_that_is_asked_for() -> None:
    pair = ("the kings men", "the king's men")
    assert word_errors(*pair).errors == 0
    assert word_errors(*pair, normaliser_of("open-asr-leaderboard")).errors == 0
    assert word_errors(*pair, normaliser_of("whisper")).errors == 2
    assert normalise("Don't") == "do not"
    assert normalise("Don't", normaliser_of("basic")) == "don t"


def test_characters_are_those_of_the_reference_where_words_are_only_written_apart() -> None:
    errors = word_errors("the newspapers say so", "the news papers said so")
    assert (errors.errors, errors.words) == (1, 4)
    assert errors.character_errors == 2  # "say" and "said"


def test_a_language_without_spaces_counts_characters_and_no_spaces_between_them() -> None:
    errors = word_errors("今天天气很好。", "今天天氣很好", normaliser_of("auto", "zh"))
    assert (errors.substitutions, errors.errors, errors.words) == (1, 1, 6)
    assert (errors.character_errors, errors.characters) == (1, 6)


def test_a_set_is_errors_over_words_and_not_a_mean_of_rates() -> None:
    each = [word_errors("a b c d e f g h i j".replace(" ", "x "), "nothing"), word_errors("house", "house")]
    assert total(each).wer == pytest.approx(sum(one.errors for one in each) / sum(one.words for one in each))
    assert total(each).wer != pytest.approx(sum(one.wer for one in each) / 2)


def test_a_set_without_utterances_has_no_rate() -> None:
    with pytest.raises(DataError, match="no utterances"):
        total([])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_a_set_agrees_with_jiwer_on_the_whole_set(pairs: list[tuple[list[str], list[str]]]) -> None:
    references, hypotheses = ([" ".join(side) for side in sides] for sides in zip(*pairs, strict=True))
    mine = total([word_errors(*pair) for pair in zip(references, hypotheses, strict=True)])
    assert mine.wer == pytest.approx(jiwer.wer(references, hypotheses))
    assert mine.cer == pytest.approx(jiwer.cer(references, hypotheses))


def test_a_difference_says_what_happened_to_which_words() -> None:
    changes = word_difference("The cat sat down.", "the bat sat down here")
    assert [(change.operation, change.reference, change.hypothesis) for change in changes] == [
        ("equal", ["the"], ["the"]),
        ("substitute", ["cat"], ["bat"]),
        ("equal", ["sat", "down"], ["sat", "down"]),
        ("insert", [], ["here"]),
    ]


def test_a_difference_shows_words_as_each_side_writes_them_where_only_a_space_differs() -> None:
    (change,) = word_difference("any one", "anyone")
    assert (change.operation, change.reference, change.hypothesis) == ("equal", ["any", "one"], ["anyone"])


@settings(max_examples=50, deadline=None)
@given(WORDS, WORDS)
def test_a_difference_holds_every_word_of_both_texts_in_order(said: list[str], heard: list[str]) -> None:
    changes = word_difference(" ".join(said), " ".join(heard))
    assert [word for change in changes for word in change.reference] == said
    assert [word for change in changes for word in change.hypothesis] == heard
    counted = word_errors(" ".join(said), " ".join(heard))
    wrong = [change for change in changes if change.operation != "equal"]
    assert sum(max(len(change.reference), len(change.hypothesis)) for change in wrong) == counted.errors
