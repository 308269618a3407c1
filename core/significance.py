"""Whether the difference of two word error rates is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.errors import ShapeError

FEWEST_UTTERANCES = 100
"""With fewer there is an interval but no p-value: too few to test."""

FEWEST_CLUSTERS = 10
"""With fewer speakers their spread cannot be seen, and utterances are drawn instead."""

COUNTS_AT_ONCE = 200_000
"""Draws are made in blocks of about this many counts (1.6 MB), which stay in the processor's cache."""


@dataclass(frozen=True)
class Difference:
    """A difference of word error rates.

    Attributes:
        difference: Corpus WER minus the baseline's, a fraction; below 0 is better.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Two-sided, for no difference; None when there are too few utterances to test.
        units: How many speakers or utterances were drawn from.
        unit: What was drawn.
    """

    difference: float
    low: float
    high: float
    p_value: float | None
    units: int
    unit: Literal["speakers", "utterances"]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What a table says of a difference of word error rates, among others of its kind.

    Attributes:
        difference: WER minus the baseline's, a fraction; negative is better. None where nothing is compared.
        interval: 95 % interval of the difference.
        p_value: Over utterances, adjusted for the number of comparisons (Holm); None where there are too few to test.
    """

    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None

    @property
    def significant(self) -> bool:
        """Whether it is more than the chance of utterances at the 5 % level, all comparisons considered."""
        return self.p_value is not None and self.p_value < 0.05

    @property
    def scope(self) -> str:
        """What a difference that is more than chance holds on, where that is not all there is."""
        return ""

    @property
    def verdict(self) -> str:
        """Whether the difference is more than the chance of utterances, in words."""
        if self.difference is None:
            return "not compared"
        if self.p_value is None:
            return "too few to test"
        p = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        if not self.significant:
            return f"not significant, {p}"
        return f"{'better' if self.difference < 0 else 'worse'}{self.scope}, {p}"


def paired_bootstrap(
    errors: Sequence[int],
    baseline_errors: Sequence[int],
    words: Sequence[int],
    *,
    clusters: Sequence[str | None] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compare the corpus WER of two systems on the same utterances by the paired bootstrap.

    Utterances are drawn with replacement, for both systems alike (Bisani and Ney 2004, "Bootstrap estimates for
    confidence intervals in ASR performance evaluation"); whole speakers where there are ten or more, because the
    utterances of a speaker err alike. The interval is that of the percentiles. The p-value is twice the smaller share
    of draws on either side of zero, with one added to the draws and their number so that it is never zero (Davison
    and Hinkley 1997, section 4.2).

    Args:
        errors: Word errors of each utterance.
        baseline_errors: The baseline's, same utterances in the same order.
        words: Reference words of each utterance.
        clusters: Speaker of each utterance; ignored when one is unknown.
        samples: Number of draws.
        seed: Of the draws.

    Raises:
        ShapeError: If the sides do not pair up, or there is an utterance without words.
    """
    utterances = len(words)
    if utterances == 0 or not len(errors) == len(baseline_errors) == utterances or min(words) < 1:
        raise ShapeError(
            f"Errors of {len(errors)} and of {len(baseline_errors)} utterances cannot be compared over {utterances} "
            "references: there must be one of each for every utterance, and no reference without words."
        )
    table = np.array([errors, baseline_errors, words], dtype=np.int64).T
    unit: Literal["speakers", "utterances"] = "utterances"
    if clusters is not None and None not in clusters:
        names, member = np.unique([str(name) for name in clusters], return_inverse=True)
        if len(member) != utterances:
            raise ShapeError(f"{len(member)} speakers were given for {utterances} utterances: give one for each.")
        if len(names) >= FEWEST_CLUSTERS:
            unit, utterance_table = "speakers", table
            table = np.zeros((len(names), 3), dtype=np.int64)
            np.add.at(table, member, utterance_table)
    draws = _differences(_draw_sums(table, samples=samples, seed=seed))
    low, high = np.quantile(draws, (0.025, 0.975))
    p_value = None
    if utterances >= FEWEST_UTTERANCES:
        smaller = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
        p_value = min(1.0, 2 * (int(smaller) + 1) / (samples + 1))
    difference = _differences(table.sum(axis=0, keepdims=True))[0]
    return Difference(float(difference), float(low), float(high), p_value, len(table), unit)


def contrasts(differences: Sequence[Difference | None]) -> list[dict[str, Any]]:
    """Return the fields of a `Contrast` for each difference, p-values adjusted for their number; none for None."""
    p_values = holm([None if each is None else each.p_value for each in differences])
    return [
        {} if each is None else {"difference": each.difference, "interval": (each.low, each.high), "p_value": p_value}
        for each, p_value in zip(differences, p_values, strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number (Holm 1979): those below 0.05 are all true with 95 % confidence.

    Args:
        p_values: In any order; None (not tested) stays None and does not count.
    """
    tested = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (value, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * value))
        adjusted[place] = highest
    return adjusted


def _draw_sums(table: np.ndarray, *, samples: int, seed: int) -> np.ndarray:
    """Return the column sums of `samples` tables whose rows were drawn with replacement, [samples, 3]."""
    units = len(table)
    random = np.random.default_rng(seed)
    block = max(1, COUNTS_AT_ONCE // units)
    sums = []
    for first in range(0, samples, block):
        rows = min(block, samples - first)
        # Each draw counts into a row of its own; the same as multinomial counts, and ten times faster.
        drawn = random.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        sums.append(counts.astype(float) @ table)
    return np.concatenate(sums)


def _differences(sums: np.ndarray) -> np.ndarray:
    return (sums[:, 0] - sums[:, 1]) / sums[:, 2]
