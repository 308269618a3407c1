"""Sign flips beside another implementation of the test, and their intervals beside its inversion by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import core.sign_flips as module
from core.sign_flips import sign_flips


def permuted(differences: np.ndarray, resamples: int = 9_999) -> float:
    """Return the p-value of scipy's permutation test of the sum, exact where there are few enough units."""
    found = stats.permutation_test(
        (differences,),
        lambda each, axis: each.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(5),
    )
    return float(found.pvalue)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-4, 6), min_size=2, max_size=12))
def test_the_p_value_of_few_units_is_that_of_all_choices_of_signs(differences: list[int]) -> None:
    apart = np.array(differences, dtype=float)
    found = sign_flips(apart, np.full(len(apart), 7.0), draws=100, seed=0)
    assert found.p_value == pytest.approx(permuted(apart), abs=1e-9)


def test_the_p_value_of_many_units_is_that_of_other_draws() -> None:
    random = np.random.default_rng(3)
    apart, words = random.integers(-3, 5, size=80).astype(float), random.integers(1, 20, size=80).astype(float)
    found = sign_flips(apart, words, draws=20_000, seed=0)
    assert found.p_value == pytest.approx(permuted(apart, 20_000), abs=0.01)


@pytest.mark.parametrize(("one_way", "other_way"), [(4, 0), (8, 0), (5, 1), (9, 3), (13, 0)])
def test_few_units_that_differ_are_judged_by_all_their_signs_among_however_many(one_way: int, other_way: int) -> None:
    apart = np.zeros(400)
    apart[:one_way], apart[one_way : one_way + other_way] = 1, -1
    found = sign_flips(apart, np.full(400, 8.0), draws=10_000, seed=0)
    assert found.p_value == pytest.approx(stats.binomtest(one_way, one_way + other_way).pvalue)
    low, high = found.interval(0.05)
    assert (low <= 0 <= high) == (found.p_value >= 0.05)


def by_hand(apart: np.ndarray, words: np.ndarray, difference: float) -> float:
    """Return the p-value of a difference of rates: all signs of what is left when it is taken off each unit."""
    left = apart - difference * words
    choices = np.array(np.meshgrid(*[[-1, 1]] * len(left))).reshape(len(left), -1)
    sums = left @ choices
    return float(np.mean(np.abs(sums) >= abs(left.sum()) - 1e-9))


def test_the_interval_holds_exactly_the_differences_that_are_not_rejected() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        words = random.integers(1, 30, size=11).astype(float)
        apart = random.integers(-4, 9, size=11).astype(float)
        found = sign_flips(apart, words, draws=100, seed=0)
        for level in (0.05, 0.2):
            low, high = found.interval(level)
            width = high - low
            assert low <= apart.sum() / words.sum() <= high
            assert by_hand(apart, words, low + 1e-6 * width) >= level > by_hand(apart, words, low - 1e-6 * width)
            assert by_hand(apart, words, high - 1e-6 * width) >= level > by_hand(apart, words, high + 1e-6 * width)


def test_units_without_words_count_with_their_errors() -> None:
    apart, words = np.array([3.0, 1, -1, 2, 2, 1, 1, 4]), np.array([0.0, 5, 6, 0, 7, 8, 9, 5])
    found = sign_flips(apart, words, draws=100, seed=0)
    assert found.p_value == pytest.approx(by_hand(apart, words, 0.0))
    low, high = found.interval(0.05)
    assert by_hand(apart, words, low + 1e-6) >= 0.05 > by_hand(apart, words, low - 1e-6)
    assert (by_hand(apart, words, high + 1e-6) if np.isfinite(high) else 0) < 0.05


def test_five_units_can_tell_nothing_and_their_interval_has_no_ends() -> None:
    found = sign_flips(np.full(5, -2.0), np.full(5, 10.0), draws=100, seed=0)
    assert found.p_value == 2 / 2**5
    assert found.interval(0.05) == (-np.inf, np.inf)


@pytest.mark.parametrize("differing", [400, 9])
def test_no_choice_of_signs_is_drawn_twice_though_they_are_drawn_in_blocks(
    monkeypatch: pytest.MonkeyPatch, differing: int
) -> None:
    """Blocks that draw the same signs would be as many draws as a single block has."""
    monkeypatch.setattr(module, "SIGNS_AT_ONCE", 400 * 512)  # 512 choices in a block
    random = np.random.default_rng(2)
    apart = np.where(np.arange(400) < differing, random.normal(size=400), 0.0)
    found = sign_flips(apart, random.uniform(1, 20, size=400), draws=3_000, seed=0)
    assert len(found.lows) >= 3_000
    assert len(np.unique(found.lows)) > 0.99 * len(found.lows)
    assert len(np.unique(found.highs)) > 0.99 * len(found.highs)


def test_the_p_value_of_draws_is_never_zero_and_the_same_seed_draws_the_same() -> None:
    apart, words = np.full(300, -1.0), np.full(300, 5.0)
    assert sign_flips(apart, words, draws=999, seed=0).p_value == pytest.approx(1 / 1000)
    mixed = np.where(np.arange(300) % 3, 1.0, -1.0)
    assert sign_flips(mixed, words, draws=500, seed=4).interval(0.05) == (
        sign_flips(mixed, words, draws=500, seed=4).interval(0.05)
    )
