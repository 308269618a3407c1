"""The comparisons of a table as one family: all its rows, on all its test sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.significance import Difference, contrasts, paired_difference_over_seeds
from core.store import UtteranceResult

Read = Sequence[UtteranceResult]
"""What one model made of a test set."""


@dataclass(frozen=True)
class Pair:
    """Two models, or two kinds of runs, on the same test set.

    Attributes:
        own: What one made of the set, with each seed.
        base: What the other made of it, with the same seeds.
    """

    own: tuple[Read, ...]
    base: tuple[Read, ...]

    @property
    def comparable(self) -> bool:
        """Whether there are words, without which there is no rate of errors."""
        return any(result.words for result in self.base[0])

    def differences(self) -> list[float]:
        """Return the difference of the two rates with each seed."""
        return [
            (sum(result.errors for result in own) - sum(result.errors for result in base))
            / sum(result.words for result in base)
            for own, base in zip(self.own, self.base, strict=True)
        ]

    def tested(self, comparisons: int) -> Difference:
        """Return whether the difference is more than chance, before any correction."""
        first = self.base[0]

        def in_order(reads: Sequence[Read]) -> list[list[int]]:
            errors = [{result.utterance_id: result.errors for result in read} for read in reads]
            return [[read[result.utterance_id] for result in first] for read in errors]

        return paired_difference_over_seeds(
            in_order(self.own),
            in_order(self.base),
            [result.words for result in first],
            speakers=[result.speaker for result in first],
            sentences=[result.reference for result in first],
            comparisons=comparisons,
        )


@dataclass(frozen=True)
class Family:
    """Comparisons that are read together, and corrected for their number.

    Attributes:
        differences: Of each pair; None where there is none, or nothing to compare.
        fields: Of a `Contrast`, for each pair.
        comparisons: How many are corrected for.
        chosen: Whether the baseline was chosen after reading, so that all pairs count.
        sets: On how many test sets.
    """

    differences: tuple[Difference | None, ...]
    fields: tuple[dict[str, Any], ...]
    comparisons: int
    chosen: bool
    sets: int

    def sentences(self, places: Sequence[int], who: str) -> str:
        """Return which test some of the pairs had, of one test set, and for what it was corrected; empty for none.

        Args:
            places: Of the pairs.
            who: What differs from what.
        """
        known = [each for place in places if (each := self.differences[place]) is not None]
        if not known:
            return ""
        first = known[0]
        if not any("p_value" in self.fields[place] for place in places):
            return f"{first.units} {first.unit} are too few to test."
        said = f"95 % interval and p of the difference {who}: {first.how}"
        if self.chosen:
            return (
                f"{said}; the baseline was chosen after reading, so adjusted for all {self.comparisons} pairs (Holm)."
            )
        many = "one comparison" if self.comparisons == 1 else f"{self.comparisons} comparisons"
        return f"{said}, adjusted for {many}{' on all test sets' if self.sets > 1 else ''} (Holm)."


def family(sets: Sequence[Sequence[Sequence[Pair | None]]], *, chosen: bool) -> Family:
    """Compare all pairs of a table.

    Args:
        sets: Of each test set the pairs of runs, and the pairs of kinds of runs.
        chosen: Whether the baseline was chosen after reading: n pairs then stand for all n (n + 1) / 2 of their models.
    """
    known = [[pair for pair in pairs if pair and pair.comparable] for kinds in sets for pairs in kinds]
    sizes = [len(pairs) * (len(pairs) + 1) // 2 if chosen else len(pairs) for pairs in known]
    most = sum(sizes)
    everything = [pair for kinds in sets for pairs in kinds for pair in pairs]
    differences = [pair.tested(most) if pair and pair.comparable else None for pair in everything]
    if not chosen:
        most = sum(each is not None and each.testable for each in differences)
    fields = contrasts(differences, comparisons=most)
    return Family(
        tuple(differences),
        tuple(fields),
        most,
        chosen,
        sum(any(pair for pairs in kinds for pair in pairs) for kinds in sets),
    )
