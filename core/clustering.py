"""A difference of rates whose utterances err alike in clusters: speakers, sentences, both, and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Variance:
    """An estimated variance of a difference.

    Attributes:
        value: The estimate.
        freedom: Its degrees of freedom.
    """

    value: float
    freedom: float

    def reach(self, level: float) -> float:
        """Return the square of how far the t-interval of this level reaches."""
        # Imported late: the app starts without it.
        from scipy.special import stdtrit

        return self.value * float(stdtrit(self.freedom, 1 - level / 2)) ** 2


@dataclass(frozen=True)
class ClusteredT:
    """The t-test of a difference that scatters for several reasons, and its interval.

    The interval reaches as far as the t-intervals of the reasons together: their squares are added (MOVER, Zou and
    Donner 2008), so that each keeps its own degrees of freedom. Of two clusterings, what both count is taken off once
    (Cameron, Gelbach and Miller 2011); where that leaves less than one of them reaches alone, that one counts
    (MacKinnon, Nielsen and Webb 2021).

    Attributes:
        difference: What was seen.
        clusterings: Its variance over speakers, sentences, or each of them.
        overlap: What two clusterings both count.
        seeds: Its variance over seeds, where there are enough.
    """

    difference: float
    clusterings: tuple[Variance, ...]
    overlap: Variance | None = None
    seeds: Variance | None = None

    def interval(self, level: float) -> tuple[float, float]:
        """Return the differences whose p-value is at least `level`."""
        reach = self._reach(level)
        return self.difference - reach, self.difference + reach

    @property
    def p_value(self) -> float:
        """Two-sided, for no difference: the level of the interval that ends at 0."""
        if self.difference == 0:
            return 1.0
        least, most = np.log(SMALLEST_P), 0.0
        for _ in range(60):
            middle = (least + most) / 2
            least, most = (middle, most) if self._reach(np.exp(middle)) > abs(self.difference) else (least, middle)
        return float(np.exp(most))

    def _reach(self, level: float) -> float:
        alone = [each.reach(level) for each in self.clusterings]
        together = sum(alone) - (self.overlap.reach(level) if self.overlap else 0)
        return float(np.sqrt(max(*alone, together) + (self.seeds.reach(level) if self.seeds else 0)))


def clustered_t(
    differences: np.ndarray, words: np.ndarray, clusterings: Sequence[np.ndarray], *, seeds: Sequence[float] = ()
) -> ClusteredT:
    """Return the t-test of a difference of rates over clusters of utterances, and over seeds.

    Args:
        differences: Errors minus the baseline's, of each utterance.
        words: Reference words of each utterance.
        clusterings: One or two; of each the cluster of every utterance, numbered from 0, two at least that have words.
        seeds: The difference of rates with each seed, of which `differences` are the mean; two at least, or none.
    """
    variances = tuple(
        ratio_variance(np.bincount(of, weights=differences), np.bincount(of, weights=words)) for of in clusterings
    )
    return ClusteredT(
        float(differences.sum() / words.sum()),
        variances,
        overlap=ratio_variance(differences, words) if len(variances) > 1 else None,
        # It holds some of the chance of utterances, too, which is then counted twice: on the safe side.
        seeds=Variance(float(np.var(seeds, ddof=1)) / len(seeds), len(seeds) - 1) if len(seeds) else None,
    )


def ratio_variance(differences: np.ndarray, words: np.ndarray) -> Variance:
    """Return the variance of a ratio of sums over independent units, made linear about the ratio that was seen.

    Each residual is that from the ratio of all other units (CR3, Bell and McCaffrey 2002; the jackknife that MacKinnon,
    Nielsen and Webb 2023 advise for few clusters), which errs on the wide side: by k / (k - 1) for k equal units. The
    degrees of freedom are Satterthwaite's for units that scatter in proportion to their words: k - 1 for k equal units,
    and fewer where some have most of the words.
    """
    share = words / words.sum()
    if share.max() == 1:  # one unit alone has words: nothing can be told
        return Variance(np.inf, 1.0)
    residuals = differences - share * differences.sum()
    weights = 1 / (1 - share) ** 2
    # As a quadratic form of the differences this is D - b1' - 1b' + c11', D diagonal with the weights.
    b, scatter = weights * share, share**2
    c = float(b @ share)
    s0, s1, s2 = (float(scatter @ b**power) for power in (0, 1, 2))
    trace = float(scatter @ (weights - 2 * b)) + c * s0
    square = c**2 * s0**2 + 2 * s0 * s2 + 2 * s1**2 - 4 * c * s0 * s1
    square += float(scatter**2 @ (2 * weights * (c - 2 * b) + weights**2))
    return Variance(float(weights @ residuals**2) / float(words.sum()) ** 2, trace**2 / square)
