"""Runs that differ in their seed alone, together: their mean, their spread, and how they differ from the baseline's."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from core.significance import Contrast, Difference, contrasts, paired_bootstrap
from core.store import UtteranceResult

SEED = re.compile(r" \(seed \d+\)$|, seed \d+(?=\)$)")

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

    The difference is the mean over the seeds that both have, which is that of their rates with the errors of all these
    seeds together. Its interval and its p-value are over utterances, with the seeds as they are: they say what other
    utterances would change. What other seeds would change, the spread over seeds says.

    Attributes:
        name: What its runs are called, together.
        rates: Word error rate by seed, a fraction.
        differences: WER minus the baseline's by seed, of the seeds that both have; empty for the baseline itself.
        is_baseline: Whether the others are compared with it.
    """

    name: str
    rates: dict[int, float]
    differences: dict[int, float]
    is_baseline: bool = False

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
        """What a difference holds on: p knows other utterances, and of seeds none but those that were compared."""
        return " on these seeds" if len(self.differences) > 1 else ""

    @property
    def verdict(self) -> str:
        """Whether the difference is more than the chance of utterances, with these seeds, in words."""
        return "baseline" if self.is_baseline else super().verdict


@dataclass(frozen=True)
class OverSeeds:
    """Kinds of runs, each with all of its seeds.

    Attributes:
        rows: In the order of their first runs.
        test: What the interval is and whether it is a test; what SD is. Sentences.
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


def over_seeds(kinds: Sequence[Kind], baseline: int | None) -> OverSeeds | None:
    """Compare kinds of runs by all their seeds; None where every kind has one.

    Errors of each utterance are summed over the seeds that a kind and the baseline's both have, and compared by the
    paired bootstrap over utterances, or over speakers: see core.significance.

    Args:
        kinds: Those that were read, with one seed at least.
        baseline: Place of the baseline's kind; None where it was not read.
    """
    if max((len(kind.rates) for kind in kinds), default=0) < 2:
        return None
    base = None if baseline is None else kinds[baseline]
    differences: list[Difference | None] = []
    rows: list[KindRow] = []
    for kind in kinds:
        others = {} if base is None or kind is base else base.results
        pairs = {seed: _paired(kind.results[seed], others[seed]) for seed in kind.rates if seed in others}
        differences.append(_together(list(pairs.values())))
        rows.append(
            KindRow(
                name=kind.name,
                rates=dict(kind.rates),
                differences={seed: _difference(each) for seed, each in pairs.items() if each},
                is_baseline=kind is base,
            )
        )
    compared = (replace(row, **fields) for row, fields in zip(rows, contrasts(differences), strict=True))
    return OverSeeds(tuple(compared), _sentences(differences, len(kinds[0].results[next(iter(kinds[0].rates))])))


Pairs = Sequence[tuple[int, UtteranceResult]]
"""Errors of one side in each utterance, and what the baseline made of it."""


def _paired(own: Sequence[UtteranceResult], base: Sequence[UtteranceResult]) -> Pairs:
    errors = {result.utterance_id: result.errors for result in own}
    # An utterance whose reference is empty has no share in a rate of words.
    return [(errors[result.utterance_id], result) for result in base if result.words > 0]


def _difference(pairs: Pairs) -> float:
    return sum(errors - result.errors for errors, result in pairs) / sum(result.words for _, result in pairs)


def _together(seeds: Sequence[Pairs]) -> Difference | None:
    """Compare two kinds by the errors that each utterance has with all seeds; None where nothing can be compared."""
    utterances = list(zip(*seeds, strict=True))
    if not utterances:
        return None
    return paired_bootstrap(
        [sum(errors for errors, _ in each) for each in utterances],
        [sum(result.errors for _, result in each) for each in utterances],
        [sum(result.words for _, result in each) for each in utterances],
        clusters=[each[0][1].speaker for each in utterances],
    )


def _sentences(differences: Sequence[Difference | None], utterances: int) -> str:
    """Return what the interval is and whether it is a test; empty where nothing is compared."""
    known = [each for each in differences if each is not None]
    if not known:
        return SPREAD
    tested = sum(each.p_value is not None for each in known)
    said = (
        f"Differences are of the seeds that both sides have. 95 % interval: paired bootstrap over {known[0].units} "
        f"{known[0].unit}, the errors of an utterance summed over these seeds. It takes the seeds as they are; how far "
        f"they scatter, the SD says. {SPREAD}"
    )
    if not tested:
        return f"{said} {utterances} utterances are too few to test."
    adjusted = "one comparison" if tested == 1 else f"{tested} comparisons"
    return f"{said} p-values are adjusted for {adjusted} (Holm)."


def _spread(rates: Mapping[int, float]) -> float | None:
    return stdev(rates.values()) if len(rates) > 1 else None
