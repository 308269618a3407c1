"""A loss as a sum and a count, so that its mean over several processes is that over their whole batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sum:
    """The sum of some values and how many they are.

    The mean over several processes is the sum of their totals, divided by the sum of their counts.

    Attributes:
        total: With gradient; any shape.
        count: Of the values: points, tokens or utterances; 1 for a value that a batch has as a whole.
    """

    total: Tensor
    count: int

    @classmethod
    def of(cls, values: Tensor) -> "Sum":
        """Return the sum of all values of a tensor."""
        return cls(values.sum(), values.numel())

    @classmethod
    def single(cls, value: Tensor) -> "Sum":
        """Return a value that a batch has as a whole."""
        return cls(value, 1)

    def mean(self) -> Tensor:
        """Return the mean where no other process has a part."""
        return self.total / self.count


@dataclass(frozen=True)
class Part:
    """What one layer pair, or all tokens, add to a term of the objective.

    Attributes:
        sum: Its mean is what counts.
        pairs: Layer pairs of its side that the term is a mean over.
        weight: Of the teacher whose layer it is.
    """

    sum: Sum
    pairs: int = 1
    weight: float = 1.0


Terms = Mapping[str, Sequence[Part]]
"""The terms of an objective by their kind."""


def means(terms: Terms, counts: Sequence[int] | None = None) -> dict[str, Tensor]:
    """Return the terms by kind, each the sum of its parts' means.

    Args:
        terms: Of this process.
        counts: Of each part in order, over all processes; by default this one's own. The terms are then addends, whose
            sum over the processes is the term of the whole batch.
    """
    of_all = iter(own_counts(terms) if counts is None else counts)
    return {kind: reduce(torch.add, [_mean(part, next(of_all)) for part in parts]) for kind, parts in terms.items()}


def own_counts(terms: Terms) -> list[int]:
    """Return the count of each part in order."""
    return [part.sum.count for parts in terms.values() for part in parts]


def _mean(part: Part, count: int) -> Tensor:
    # A part that is empty everywhere has a total of 0.
    return part.sum.total / max(1, count) / part.pairs * part.weight
