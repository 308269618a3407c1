"""Whether two quantities of a few runs go together: Spearman's rank correlation with its exact p-value."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

MOST_ENUMERATED = 9
"""All orders are taken of up to so many pairs (362,880), and draws of more."""

DRAWS = 100_000


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation (Spearman 1904), ties with their mean rank.

    Attributes:
        rho: From -1 to 1.
        p_value: Two-sided, for no relation: the share of orders of one side with a correlation as far from 0.
    """

    rho: float
    p_value: float


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> RankCorrelation | None:
    """Return how two quantities go together over independent runs; None where one of them is the same for all.

    Args:
        left: Of each run.
        right: The other of the same runs.
    """
    one, other = _ranks(left), _ranks(right)
    if not one.any() or not other.any():
        return None
    seen = float(one @ other)
    if len(left) <= MOST_ENUMERATED:
        sums = np.array(list(permutations(other))) @ one
        p_value = float(np.mean(np.abs(sums) >= abs(seen) - 1e-9))
    else:
        drawn = np.random.default_rng(0).permuted(np.tile(other, (DRAWS, 1)), axis=1) @ one
        p_value = (1 + int(np.count_nonzero(np.abs(drawn) >= abs(seen) - 1e-9))) / (1 + DRAWS)
    return RankCorrelation(seen / float(np.sqrt((one @ one) * (other @ other))), p_value)


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Return ranks less their mean; those of equal values are the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place] - (len(values) - 1) / 2
