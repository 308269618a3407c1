"""Which test a difference has, beside other implementations; and its correction beside Holm's definition."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from core.errors import ShapeError
from core.significance import (
    Contrast,
    Difference,
    contrasts,
    holm,
    paired_difference,
    paired_difference_over_seeds,
)


def compare(
    differences: Sequence[int], speakers: Sequence[str | None] | None = None, *, seed: int = 0, comparisons: int = 1
) -> Difference:
    """Compare two systems whose errors differ so in utterances of eight words."""
    size = len(differences)
    own = [3 + each for each in differences]
    return paired_difference(own, [3] * size, [8] * size, speakers=speakers, seed=seed, comparisons=comparisons)


def test_four_utterances_of_a_hundred_that_differ_one_way_are_not_significant() -> None:
    found = compare([-1] * 4 + [0] * 96)
    assert found.p_value == 2 / 2**4
    assert found.low < found.difference < found.high
    assert found.high == 0


@pytest.mark.parametrize(
    ("one_way", "other_way", "size"), [(5, 0, 100), (6, 0, 40), (7, 1, 500), (10, 2, 99), (6, 0, 6)]
)
def test_few_utterances_that_differ_are_judged_by_the_sign_test(one_way: int, other_way: int, size: int) -> None:
    found = compare([-1] * one_way + [1] * other_way + [0] * (size - one_way - other_way))
    assert found.p_value == pytest.approx(stats.binomtest(one_way, one_way + other_way).pvalue)
    assert (found.low <= 0 <= found.high) == (found.p_value >= 0.05)


def test_a_speaker_whose_name_is_missing_is_a_unit_of_its_own() -> None:
    names = [f"s{number % 20}" for number in range(120)]
    differences = [number % 3 - 1 for number in range(120)]
    assert (compare(differences, names).units, compare(differences, names).unit) == (20, "speakers")
    for missing in (1, 3):
        found = compare(differences, [*names[:-missing], *[None] * missing])
        assert (found.units, found.unit) == (20 + missing, "speakers")
    found = compare(differences, [*names[:-2], "", ""])
    assert found.units == 22


def test_without_any_name_utterances_are_the_units() -> None:
    for names in (None, [None] * 30):
        assert (compare([1, 0, -1] * 10, names).units, compare([1, 0, -1] * 10, names).unit) == (30, "utterances")


def test_one_voice_is_said() -> None:
    found = compare([1, 0, -1] * 10, ["anna"] * 30)
    assert (found.units, found.one_voice) == (30, True)
    assert found.how == "sign flips (paired permutation) over 30 utterances of one voice"


def test_speakers_are_flipped_whole_where_there_are_eight() -> None:
    random = np.random.default_rng(0)
    names = [f"s{number % 10}" for number in range(120)]
    differences = random.integers(-2, 3, size=120) + random.integers(-1, 2, size=10)[np.arange(120) % 10]
    found = compare(differences.tolist(), names)
    sums = np.bincount(np.arange(120) % 10, weights=differences)
    exact = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=9_999)
    assert found.p_value == pytest.approx(exact.pvalue)
    assert found.how == "sign flips (paired permutation) over 10 speakers"


def test_few_speakers_have_a_t_test_of_their_rates() -> None:
    # Each five of a kind: their signs could reach p = 0.06 at best.
    names = [f"s{number % 5}" for number in range(200)]
    differences = [-(number % 5) - 2 + number % 2 for number in range(200)]
    found = compare(differences, names)
    rates = np.bincount(np.arange(200) % 5, weights=differences) / (40 * 8)
    usual = stats.ttest_1samp(rates, 0)
    reach = np.sqrt(5 / 4) * usual.confidence_interval(0.95).high - np.sqrt(5 / 4) * rates.mean()
    assert found.p_value == pytest.approx(2 * stats.t.sf(np.abs(np.asarray(usual[0])) / np.sqrt(5 / 4), 4))
    assert (found.low, found.high) == pytest.approx((rates.mean() - reach, rates.mean() + reach))
    assert found.p_value < 0.05
    assert found.how == "t-test over 5 speakers"


def test_few_speakers_never_make_a_difference_more_certain_than_its_utterances_do() -> None:
    # Four of five speakers have one error less in one utterance: the t-test over speakers would say p = 0.016.
    differences = [0] * 100
    differences[:4] = [-1] * 4
    found = compare(differences, [f"s{number % 5}" for number in range(100)])
    assert found.p_value == 2 / 2**4


def test_speakers_who_read_the_same_sentences_are_judged_over_both() -> None:
    random = np.random.default_rng(8)
    speaker, sentence = np.arange(200) % 10, np.arange(200) // 10
    own = random.binomial(8, 0.2, size=200) + random.integers(0, 4, size=20)[sentence]
    base = random.binomial(8, 0.2, size=200) + random.integers(0, 4, size=20)[sentence]
    names, texts = [f"s{each}" for each in speaker], [f"text {each}" for each in sentence]

    def found(speakers: list[str] | None, sentences: list[str] | None) -> Difference:
        return paired_difference(own.tolist(), base.tolist(), [8] * 200, speakers=speakers, sentences=sentences)

    both, speakers, alone = found(names, texts), found(names, None), found(None, texts)
    assert (both.units, both.unit, both.sentences) == (10, "speakers", 20)
    assert both.how == "t-test over 10 speakers and 20 sentences that they share"
    assert both.high - both.low > max(speakers.high - speakers.low, alone.high - alone.low)
    assert (alone.units, alone.unit) == (20, "sentences")
    # Sentences that one speaker repeats, and no other reads, are the speaker's.
    nested = found(names, [f"{name} {each % 3}" for each, name in enumerate(names)])
    assert (nested.sentences, nested.p_value) == (0, speakers.p_value)


def test_three_seeds_that_scatter_are_no_proof_though_every_utterance_is_better() -> None:
    base = np.full((3, 100), 3)
    own = base - np.array([[2], [0], [1]])
    found = paired_difference_over_seeds(own.tolist(), base.tolist(), [8] * 100)
    expected = stats.ttest_1samp([-2 / 8, 0, -1 / 8], 0)
    assert found.p_value == pytest.approx(expected[1])
    assert found.how == "t-test over 100 utterances and 3 seeds"
    one = paired_difference(own.sum(axis=0).tolist(), base.sum(axis=0).tolist(), [24] * 100)
    assert one.p_value < 0.001
    alike = paired_difference_over_seeds((base - 1).tolist(), base.tolist(), [8] * 100)
    assert alike.p_value < 0.001


def test_errors_in_what_says_nothing_count_and_a_set_without_words_is_refused() -> None:
    found = paired_difference([1, 0, 5], [1, 1, 0], [5, 5, 0])
    assert found.difference == pytest.approx(0.4)
    with pytest.raises(ShapeError, match="words in some"):
        paired_difference([1, 0], [0, 0], [0, 0])


def test_no_difference_has_no_width_and_no_significance() -> None:
    found = compare([0] * 100)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), min_size=2, max_size=30),
    st.sampled_from([0, 2, 9]),
)
def test_exchanging_the_systems_mirrors_the_result(rows: list[tuple[int, int, int]], speakers: int) -> None:
    errors, baseline, words = (list(column) for column in zip(*rows, strict=True))
    names = [f"s{place % speakers}" for place in range(len(rows))] if speakers else None
    one = paired_difference(errors, baseline, words, speakers=names, draws=200)
    other = paired_difference(baseline, errors, words, speakers=names, draws=200)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)
    assert one.low <= one.difference <= one.high
    assert (one.low <= 1e-9 and one.high >= -1e-9) or one.p_value < 0.05


@pytest.mark.parametrize(
    ("errors", "baseline", "words"), [([], [], []), ([1], [1, 2], [3, 3]), ([1, 2], [1, 2], [3, -1])]
)
def test_what_does_not_pair_up_is_refused(errors: list[int], baseline: list[int], words: list[int]) -> None:
    with pytest.raises(ShapeError, match="cannot be compared"):
        paired_difference(errors, baseline, words)


def test_speakers_must_be_given_for_all_utterances() -> None:
    with pytest.raises(ShapeError, match="3 speakers"):
        paired_difference([1, 1], [1, 1], [2, 2], speakers=["a", "b", "c"])


def test_the_correction_is_that_of_holms_paper() -> None:
    # Ordered 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # Chosen from ten: times 10, 9, 8, 7.
    assert holm([0.01, 0.04, 0.03, 0.005], comparisons=10) == pytest.approx([0.09, 0.28, 0.24, 0.05])


def test_what_was_not_tested_does_not_count() -> None:
    adjusted = holm([None, 0.03, None, 0.02])
    assert [adjusted[0], adjusted[2]] == [None, None]
    assert adjusted[1::2] == pytest.approx([0.04, 0.04])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_correction_never_makes_anything_more_significant_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert all(after is not None and before <= after <= 1 for before, after in pairs)
    assert [after for _, after in pairs] == sorted(after for _, after in pairs if after is not None)


@pytest.mark.parametrize("comparisons", [None, 30])
def test_an_interval_is_without_no_difference_exactly_where_p_is_below_five_percent(comparisons: int | None) -> None:
    random = np.random.default_rng(6)
    differences = [
        compare(random.integers(-3, 4, size=60).tolist(), seed=seed)
        if seed % 4
        else compare((random.integers(-3, 3, size=60) - seed // 4).tolist())
        for seed in range(12)
    ]
    rows = [Contrast(**fields) for fields in contrasts([None, *differences], comparisons=comparisons)]
    assert rows[0].verdict == "not compared"
    assert any(row.significant for row in rows)
    assert any(not row.significant for row in rows[1:])
    for row, each in zip(rows[1:], differences, strict=True):
        assert row.interval is not None
        assert row.interval[0] <= each.low <= each.high <= row.interval[1]
        assert (row.interval[0] <= 0 <= row.interval[1]) == (not row.significant)


def test_the_smallest_p_value_follows_the_comparisons() -> None:
    many = [compare([-1] * 200, comparisons=190), compare([-1, 1] * 100, comparisons=190)]
    found = contrasts(many, comparisons=190)
    assert found[0]["p_value"] == pytest.approx(190 / 190_001)


def test_three_utterances_are_too_few_to_test_and_do_not_count_as_comparisons() -> None:
    alone, with_few = (
        contrasts([compare([-1] * 6 + [0] * 50)]),
        contrasts([compare([-1] * 6 + [0] * 50), compare([-1] * 3)]),
    )
    assert with_few[0] == alone[0]
    assert with_few[1] == {"difference": -1 / 8}
    assert Contrast(**with_few[1]).verdict == "too few to test"
