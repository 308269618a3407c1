"""The paired bootstrap beside exact distributions, and Holm's correction beside its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from core.errors import ShapeError
from core.significance import Difference, holm, paired_bootstrap


def exact_draws(differences: list[int]) -> np.ndarray:
    """Return P(sum = k) for k from -n to n when n differences (-1, 0 or 1) are drawn with replacement."""
    count = len(differences)
    one = np.array([differences.count(value) / count for value in (-1, 0, 1)])
    distribution = np.ones(1)
    for _ in range(count):
        distribution = np.convolve(distribution, one)
    return distribution


def compare(differences: list[int], *, samples: int = 10_000, seed: int = 0) -> Difference:
    """Compare two systems whose errors differ so in utterances of one word."""
    ones = [1] * len(differences)
    return paired_bootstrap([1 + each for each in differences], ones, ones, samples=samples, seed=seed)


@pytest.mark.parametrize("better", [55, 60, 65])
def test_the_p_value_is_that_of_the_exact_distribution_of_draws(better: int) -> None:
    differences = [-1] * better + [1] * (110 - better)
    distribution = exact_draws(differences)
    exact = 2 * min(distribution[:111].sum(), distribution[110:].sum())
    found = compare(differences)
    assert found.p_value == pytest.approx(min(1.0, exact), abs=4 * np.sqrt(exact / 10_000))


def test_the_interval_is_that_of_the_exact_distribution_of_draws() -> None:
    differences = [-1] * 40 + [0] * 50 + [1] * 20
    cumulative = np.cumsum(exact_draws(differences))
    low, high = ((np.searchsorted(cumulative, level) - 110) / 110 for level in (0.025, 0.975))
    found = compare(differences)
    assert found.difference == pytest.approx(-20 / 110)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1.1 / 110)


def test_the_interval_agrees_with_another_bootstrap_on_utterances_of_unequal_length() -> None:
    random = np.random.default_rng(1)
    words = random.integers(3, 20, size=120)
    errors, baseline = random.binomial(words, 0.20), random.binomial(words, 0.25)
    found = paired_bootstrap(errors.tolist(), baseline.tolist(), words.tolist())
    other = stats.bootstrap(
        (errors, baseline, words),
        lambda e, b, w, axis: (e.sum(axis=axis) - b.sum(axis=axis)) / w.sum(axis=axis),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.003)


def test_speakers_are_drawn_whole_where_there_are_ten() -> None:
    # Within a speaker all utterances agree, so the utterances tell no more than their ten speakers do.
    of_speaker = [-1, -1, -1, -1, -1, -1, -1, 1, 1, 1]
    differences = [each for each in of_speaker for _ in range(12)]
    speakers = [f"speaker {number}" for number in range(10) for _ in range(12)]
    found = paired_bootstrap([1 + each for each in differences], [1] * 120, [1] * 120, clusters=speakers)
    distribution = exact_draws(of_speaker)
    assert (found.units, found.unit) == (10, "speakers")
    assert found.p_value == pytest.approx(2 * distribution[10:].sum(), abs=0.02)
    alone = compare(differences)
    assert (alone.units, alone.unit) == (120, "utterances")
    assert alone.high - alone.low < (found.high - found.low) / 2


@pytest.mark.parametrize(
    "speakers", [None, ["a", "b"] * 60, [None, *map(str, range(119))]], ids=["none", "two", "one unknown"]
)
def test_utterances_are_drawn_where_speakers_are_few_or_unknown(speakers: list[str | None] | None) -> None:
    found = paired_bootstrap([1] * 120, [2] * 120, [5] * 120, clusters=speakers)
    assert (found.units, found.unit) == (120, "utterances")


def test_fewer_than_a_hundred_utterances_are_not_tested() -> None:
    few, enough = compare([-1] * 60 + [1] * 39), compare([-1] * 60 + [1] * 40)
    assert few.p_value is None
    assert few.low < few.difference < few.high
    assert enough.p_value is not None


def test_no_difference_has_no_width_and_no_significance() -> None:
    found = compare([0] * 100)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_p_value_is_never_zero() -> None:
    assert compare([-1] * 100, samples=999).p_value == pytest.approx(2 / 1000)


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_the_same() -> None:
    differences = [-1] * 50 + [1] * 60
    assert compare(differences, seed=3) == compare(differences, seed=3)
    assert compare(differences, seed=3).low == pytest.approx(compare(differences, seed=4).low, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), min_size=2, max_size=30))
def test_exchanging_the_systems_mirrors_the_result(rows: list[tuple[int, int, int]]) -> None:
    errors, baseline, words = (list(column) for column in zip(*rows, strict=True))
    one = paired_bootstrap(errors, baseline, words, samples=200)
    other = paired_bootstrap(baseline, errors, words, samples=200)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.low <= one.high


@pytest.mark.parametrize(
    ("errors", "baseline", "words"), [([], [], []), ([1], [1, 2], [3, 3]), ([1, 2], [1, 2], [3, 0])]
)
def test_what_does_not_pair_up_is_refused(errors: list[int], baseline: list[int], words: list[int]) -> None:
    with pytest.raises(ShapeError, match="cannot be compared"):
        paired_bootstrap(errors, baseline, words)


def test_speakers_must_be_given_for_all_utterances() -> None:
    with pytest.raises(ShapeError, match="3 speakers"):
        paired_bootstrap([1, 1], [1, 1], [2, 2], clusters=["a", "b", "c"])


def test_the_correction_is_that_of_holms_paper() -> None:
    # Ordered 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


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
