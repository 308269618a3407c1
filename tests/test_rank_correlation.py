"""Spearman's rank correlation beside scipy's, and its p-values beside published critical values."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from core.rank_correlation import rank_correlation


@pytest.mark.parametrize(
    ("left", "right"),
    [([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]), ([1, 1, 2, 3, 5, 5], [4, 4, 1, 0, 2, 2]), ([0.1, 7, 3, 2], [5, 5, 9, 1])],
)
def test_rho_and_p_are_those_of_all_orders_ties_too(left: list[float], right: list[float]) -> None:
    found = rank_correlation(left, right)
    assert found is not None
    orders = np.array([stats.spearmanr(left, order)[0] for order in permutations(right)], dtype=float)
    assert found.rho == pytest.approx(orders[0])
    assert found.p_value == pytest.approx(np.mean(np.abs(orders) >= abs(orders[0]) - 1e-12))


def test_what_is_the_same_for_all_runs_goes_with_nothing() -> None:
    assert rank_correlation([1, 2, 3, 4, 5], [2.0] * 5) is None


@pytest.mark.parametrize(
    ("runs", "squares"), [(5, 0), (6, 4), (7, 12), (8, 22), (9, 36), (10, 58), (11, 84), (12, 118)]
)
def test_five_percent_begin_at_the_critical_value(runs: int, squares: int) -> None:
    # Two-sided 5 %: 1.000, 0.886, 0.786, 0.738, 0.700, 0.648, 0.618, 0.587 (Zar 1972, table 1), as sums of squares.
    random = np.random.default_rng(0)
    orders = {
        int(((np.arange(runs) - order) ** 2).sum()): order
        for order in (random.permutation(runs) for _ in range(60_000))
    }
    orders[0] = np.arange(runs)
    inside, outside = (rank_correlation(range(runs), orders[each].tolist()) for each in (squares, squares + 2))
    assert inside is not None
    assert outside is not None
    assert inside.p_value < 0.05 <= outside.p_value
