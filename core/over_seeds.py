"""Runs that differ in their seed alone, together: their mean, their spread, and how they differ from the baseline's."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from core.significance import Contrast
from core.store import UtteranceResult
from core.verdicts import Pair

SEED = re.compile(r" \(seed \d+\)$|, seed \d+(?=\)$)")

FEWEST_SEEDS = 3
"""From so many on, both sides having them, a difference can be told from that of other seeds."""

SPREAD = "SD: standard deviation over seeds, in points."


@dataclass(frozen=True)
class Kind:
    """Runs that have the same settings but for name and seed.

    Attributes:
        name: What they are called, together.
        rates: Word error rate by seed, a fraction.
        results: What they made of each utterance of the test set, by seed; the same seeds.
    """

    name: str
    rates: Mapping[int, float]
    results: Mapping[int, Sequence[UtteranceResult]]


@dataclass(frozen=True, kw_only=True)
class KindRow(Contrast):
    """A kind of runs beside the baseline's kind.

    The difference is the mean over the seeds that both have. Of three such seeds or more it is tested: interval and
    p-value say what other seeds and other utterances would change.

    Attributes:
        name: What its runs are called, together.
        rates: Word error rate by seed, a fraction.
        differences: WER minus the baseline's by seed, of the seeds that both have; empty for the baseline itself.
        is_baseline: Whether the others are compared with it.
        against: What the baseline's runs are called, together; None where nothing is compared.
    """

    name: str
    rates: dict[int, float]
    differences: dict[int, float]
    is_baseline: bool = False
    against: str | None = None

    @property
    def mean(self) -> float:
        """Mean word error rate over the seeds."""
        return fmean(self.rates.values())

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of the word error rate over the seeds; None of one seed."""
        return _spread(self.rates)

    @property
    def difference_spread(self) -> float | None:
        """Sample standard deviation of the difference over the seeds that both have; None of fewer than two."""
        return _spread(self.differences)

    @property
    def better(self) -> int:
        """With how many seeds its rate is lower than the baseline's."""
        return sum(difference < 0 for difference in self.differences.values())

    @property
    def scope(self) -> str:
        """Than what it is better or worse, and over how many seeds."""
        return f" than {self.against} over {len(self.differences)} seeds"

    @property
    def verdict(self) -> str:
        """Whether the difference is more than the chance of seeds and utterances, in words."""
        if self.is_baseline:
            return "baseline"
        return "too few seeds to test" if 0 < len(self.differences) < FEWEST_SEEDS else super().verdict


@dataclass(frozen=True)
class OverSeeds:
    """Kinds of runs, each with all of its seeds.

    Attributes:
        rows: In the order of their first runs.
        test: What the interval is and what was tested; what SD is. Sentences.
    """

    rows: tuple[KindRow, ...]
    test: str


def but_for_seed(config: Mapping[str, Any]) -> str:
    """Return what the settings of all runs of a kind have in common, as text: all but name and seed."""
    return json.dumps({key: value for key, value in config.items() if key not in ("name", "seed")}, sort_keys=True)


def kind_name(names: Sequence[str]) -> str:
    """Return what runs of a kind are called, together: their name without its seed, where there are several."""
    if len(names) == 1:
        return names[0]
    first, *others = dict.fromkeys(SEED.sub("", name) for name in names)
    return f"{first} and {len(others)} more" if others else first


def kind_rows(kinds: Sequence[Kind], baseline: int | None) -> list[tuple[KindRow, Pair | None]]:
    """Return kinds of runs beside the baseline's kind, each with what is to be tested of it.

    Args:
        kinds: Those that were read, with one seed at least.
        baseline: Place of the baseline's kind; None where it was not read.

    Returns:
        Of each kind its row, still without a verdict, and a pair where both sides have enough seeds.
    """
    base = None if baseline is None else kinds[baseline]
    rows = []
    for kind in kinds:
        others = {} if base is None or kind is base else base.results
        seeds = [seed for seed in kind.rates if seed in others]
        pair = (
            Pair(tuple(kind.results[seed] for seed in seeds), tuple(others[seed] for seed in seeds)) if seeds else None
        )
        differences = dict(zip(seeds, pair.differences(), strict=True)) if pair and pair.comparable else {}
        row = KindRow(
            name=kind.name,
            rates=dict(kind.rates),
            difference=fmean(differences.values()) if differences else None,
            differences=differences,
            is_baseline=kind is base,
            against=base.name if base is not None and differences else None,
        )
        rows.append((row, pair if len(differences) >= FEWEST_SEEDS else None))
    return rows


def sentences(rows: Sequence[KindRow], test: str) -> str:
    """Return what stands under a table of kinds.

    Args:
        rows: Its rows.
        test: Which test some had; empty where none was tested.
    """
    few = any(row.differences and len(row.differences) < FEWEST_SEEDS for row in rows)
    said = [test, f"Fewer than {FEWEST_SEEDS} seeds are not tested." if few else "", SPREAD]
    return " ".join(filter(None, said))


def _spread(rates: Mapping[int, float]) -> float | None:
    return stdev(rates.values()) if len(rates) > 1 else None
