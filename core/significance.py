"""Whether the difference of two word error rates is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

import numpy as np

from core.clustering import ClusteredT, clustered_t
from core.errors import ShapeError
from core.sign_flips import SignFlips, sign_flips

LEVEL = 0.05
"""Verdicts and intervals are right in at least 1 - LEVEL of cases, all comparisons of a table considered."""

FEWEST_DRAWS = 10_000

DRAWS_PER_COMPARISON = 1_000
"""The smallest p-value of n draws is 1 / n, and is multiplied by the number of comparisons."""

FEWEST_CHOICES = 160
"""With fewer choices of signs for each comparison, flipping them could tell nothing: 2 of 160 make p = 0.0125."""

WIDEST = 2.0
"""An interval of 200 points says nothing, as of three speakers; it is not shown: there are too few to test."""

Unit = Literal["speakers", "sentences", "utterances"]


@dataclass(frozen=True)
class Difference:
    """A difference of word error rates.

    Attributes:
        difference: Corpus WER minus the baseline's, a fraction; below 0 is better.
        p_value: Two-sided, for no difference, before any correction.
        units: How many units of speech the test is over.
        unit: What they are.
        sentences: How many sentences there are, where speakers share them: the test is over these, too.
        seeds: How many seeds the test is over, too; 0 where it takes the runs as they are.
        one_voice: Whether all utterances are known to be of one speaker.
        one_sentence: Whether all utterances say the same.
        tests: Those that decide together: the largest p-value and the ends farthest apart count.
    """

    difference: float
    p_value: float
    units: int
    unit: Unit
    sentences: int = 0
    seeds: int = 0
    one_voice: bool = False
    one_sentence: bool = False
    tests: tuple[SignFlips | ClusteredT, ...] = field(default=(), repr=False, compare=False)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the differences whose p-value is at least `level`; infinite ends where there are too few units."""
        ends = [test.interval(level) for test in self.tests]
        return min(low for low, _ in ends), max(high for _, high in ends)

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval, before any correction."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval, before any correction."""
        return self.interval()[1]

    @property
    def testable(self) -> bool:
        """Whether there are units enough for any difference to be more than chance."""
        return isfinite(self.low) and isfinite(self.high)

    @property
    def how(self) -> str:
        """Which test it is, in words."""
        over = [f"{self.units} {self.unit}"]
        over += [f"{self.sentences} sentences that they share"] if self.sentences else []
        over += [f"{self.seeds} seeds"] if self.seeds else []
        clustered = any(isinstance(test, ClusteredT) for test in self.tests)
        alone = [name for name, is_one in (("voice", self.one_voice), ("sentence", self.one_sentence)) if is_one]
        of = f" of one {' and one '.join(alone)}" if alone else ""
        return f"{'t-test' if clustered else 'sign flips (paired permutation)'} over {_listed(over)}{of}"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What a table says of a difference of word error rates, among others of its kind.

    Attributes:
        difference: WER minus the baseline's, a fraction; negative is better. None where nothing is compared.
        interval: Interval of the difference, adjusted as `p_value` is: it holds 0 exactly where that is 0.05 or more.
            None where there are too few units to test (see `WIDEST`).
        p_value: Adjusted for the number of comparisons (Holm); None where there are too few units to test.
        over_seeds: Whether this run is one of several seeds, which are judged together elsewhere.
    """

    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    over_seeds: bool = False

    @property
    def significant(self) -> bool:
        """Whether it is more than chance at the 5 % level, all comparisons considered."""
        return self.p_value is not None and self.p_value < LEVEL

    @property
    def scope(self) -> str:
        """Than what it is better or worse, and of what that holds, as words of the verdict; empty where not known."""
        return ""

    @property
    def verdict(self) -> str:
        """Whether the difference is more than chance, in words."""
        if self.difference is None:
            return "not compared"
        if self.over_seeds:
            return "see over seeds"
        if self.p_value is None:
            return "too few to test"
        p = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        if not self.significant:
            return f"not significant, {p}"
        return f"{'better' if self.difference < 0 else 'worse'}{self.scope}, {p}"


def paired_difference(
    errors: Sequence[int],
    baseline_errors: Sequence[int],
    words: Sequence[int],
    *,
    speakers: Sequence[str | None] | None = None,
    sentences: Sequence[str] | None = None,
    comparisons: int = 1,
    draws: int | None = None,
    seed: int = 0,
) -> Difference:
    """Compare the corpus WER of two systems on the same utterances; see `paired_difference_over_seeds`.

    Args:
        errors: Word errors of each utterance.
        baseline_errors: The baseline's, same utterances in the same order.
        words: Reference words of each utterance; 0 where nothing is said.
        speakers: Speaker of each utterance; None where unknown.
        sentences: What each utterance says, alike where two say the same.
        comparisons: How many p-values it will be corrected for.
        draws: Choices of signs; by default as many as the comparisons ask for.
        seed: Of the draws.

    Raises:
        ShapeError: If the sides do not pair up, or there are no words at all.
    """
    return paired_difference_over_seeds(
        [errors],
        [baseline_errors],
        words,
        speakers=speakers,
        sentences=sentences,
        comparisons=comparisons,
        draws=draws,
        seed=seed,
    )


def paired_bootstrap(
    errors: Sequence[int],
    baseline_errors: Sequence[int],
    words: Sequence[int],
    *,
    clusters: Sequence[str | None] | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> Difference:
    """Return `paired_difference` under the name and the arguments of the bootstrap that it replaced."""
    return paired_difference(errors, baseline_errors, words, speakers=clusters, draws=samples, seed=seed)


def paired_difference_over_seeds(
    errors: Sequence[Sequence[int]],
    baseline_errors: Sequence[Sequence[int]],
    words: Sequence[int],
    *,
    speakers: Sequence[str | None] | None = None,
    sentences: Sequence[str] | None = None,
    comparisons: int = 1,
    draws: int | None = None,
    seed: int = 0,
) -> Difference:
    """Compare the mean corpus WER of two kinds of runs on the same utterances.

    The utterances of a speaker err alike, and so do those of a sentence that is read more than once. Units of speech
    are therefore whole speakers where two at least are known, else whole sentences where some are repeated, else
    utterances; an utterance of an unknown speaker is a unit of its own. Their signs are flipped (`core.sign_flips`).

    Three cases need the t-test over clusters (`core.clustering`): so few units that no choice of signs could tell
    anything (five speakers reach p = 0.06), speakers who share sentences, which no exchange of signs keeps, and several
    seeds. The sign flips of utterances are then asked as well, because neither clusters nor seeds make a difference
    more certain than it is of the utterances alone: the larger p-value and the wider interval count.

    Args:
        errors: Word errors of each utterance with each seed, [seeds][utterances]. Of two seeds or more the test says
            what other seeds would change, too; of one it takes the runs as they are.
        baseline_errors: The baseline's, same seeds and utterances in the same order.
        words: Reference words of each utterance; 0 where nothing is said.
        speakers: Speaker of each utterance; None where unknown.
        sentences: What each utterance says, alike where two say the same.
        comparisons: How many p-values it will be corrected for.
        draws: Choices of signs; by default as many as the comparisons ask for.
        seed: Of the draws.

    Raises:
        ShapeError: If the sides do not pair up, or there are no words at all.
    """
    counts = np.array(words, dtype=float)
    apart = _apart(errors, baseline_errors, counts)
    for name, given in (("speakers", speakers), ("sentences", sentences)):
        if given is not None and len(given) != len(counts):
            raise ShapeError(f"{len(given)} {name} were given for {len(counts)} utterances: give one for each.")
    voices, texts = _clusters(speakers, counts), _clusters(sentences, counts, repeated=True)
    crossed = voices is not None and texts is not None and _is_crossed(voices, texts)
    units = np.arange(len(counts)) if voices is None and texts is None else texts if voices is None else voices
    assert units is not None
    many = int(units.max()) + 1
    draws = draws or max(FEWEST_DRAWS, DRAWS_PER_COMPARISON * comparisons)
    by_seed = apart.sum(axis=1) / counts.sum() if len(apart) > 1 else ()
    mean, total = apart.mean(axis=0), apart.sum(axis=0)
    tests: tuple[SignFlips | ClusteredT, ...]
    if crossed or len(by_seed) or (many < len(counts) and 2**many < FEWEST_CHOICES * comparisons):
        clusterings = [each for each in (units, texts if crossed else None) if each is not None]
        flips = sign_flips(total, len(apart) * counts, draws=draws, seed=seed)
        tests = (clustered_t(mean, counts, clusterings, seeds=by_seed), flips)
    else:
        sums = (np.bincount(units, weights=values) for values in (total, len(apart) * counts))
        tests = (sign_flips(*sums, draws=draws, seed=seed),)
    return Difference(
        float(mean.sum() / counts.sum()),
        max(test.p_value for test in tests),
        many,
        "speakers" if voices is not None else "sentences" if texts is not None else "utterances",
        sentences=int(texts.max()) + 1 if crossed and texts is not None else 0,
        seeds=len(by_seed),
        one_voice=_all_alike(speakers),
        one_sentence=_all_alike(sentences),
        tests=tests,
    )


def contrasts(differences: Sequence[Difference | None], *, comparisons: int | None = None) -> list[dict[str, Any]]:
    """Return the fields of a `Contrast` for each difference, adjusted for their number; none for None.

    Holm tests the smallest of n p-values at 5 % / n, the next at 5 % / (n - 1), and stops at the first that fails. Each
    interval has the level at which its difference was tested, so that it holds 0 exactly where that was not rejected.

    Args:
        differences: Of all rows and test sets that are read together.
        comparisons: How many there could have been, where these were chosen after reading; by default their number.
    """
    p_values = [each.p_value if each is not None and each.testable else None for each in differences]
    adjusted = holm(p_values, comparisons=comparisons)
    many = max(sum(p_value is not None for p_value in p_values), comparisons or 0)
    rejected = sum(p_value is not None and p_value < LEVEL for p_value in adjusted)
    order = sorted((p_value, place) for place, p_value in enumerate(p_values) if p_value is not None)
    ranks = {place: rank for rank, (_, place) in enumerate(order)}
    fields: list[dict[str, Any]] = []
    for place, (each, p_value) in enumerate(zip(differences, adjusted, strict=True)):
        said: dict[str, Any] = {} if each is None else {"difference": each.difference}
        if each is not None and p_value is not None:
            interval = each.interval(LEVEL / (many - min(ranks[place], rejected)))
            said |= {"interval": interval, "p_value": p_value} if interval[1] - interval[0] < WIDEST else {}
        fields.append(said)
    return fields


def holm(p_values: Sequence[float | None], *, comparisons: int | None = None) -> list[float | None]:
    """Return p-values adjusted for their number (Holm 1979): those below 0.05 are all true with 95 % confidence.

    Args:
        p_values: In any order; None (not tested) stays None and does not count.
        comparisons: How many they were chosen from; by default their number. The others are taken to be larger, which
            is on the safe side.
    """
    tested = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    many = max(len(tested), comparisons or 0)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (value, place) in enumerate(tested):
        highest = max(highest, min(1.0, (many - rank) * value))
        adjusted[place] = highest
    return adjusted


def _apart(errors: Sequence[Sequence[int]], baseline_errors: Sequence[Sequence[int]], words: np.ndarray) -> np.ndarray:
    """Return errors minus the baseline's, [seeds, utterances].

    Raises:
        ShapeError: If the sides do not pair up, or there are no words at all.
    """
    sizes = {len(each) for each in (*errors, *baseline_errors)}
    if len(errors) != len(baseline_errors) or sizes != {len(words)} or words.min(initial=0) < 0 or words.sum() < 1:
        raise ShapeError(
            f"Errors of {' and '.join(map(str, sorted(sizes)))} utterances cannot be compared over {len(words)} "
            "references: there must be one of each for every utterance, and words in some of them."
        )
    return np.subtract(errors, baseline_errors).astype(float)


def _clusters(names: Sequence[str | None] | None, words: np.ndarray, *, repeated: bool = False) -> np.ndarray | None:
    """Return the cluster of each utterance, from 0; None where there are not two that have words.

    Args:
        names: Of each utterance; None or empty where unknown, which makes a cluster of its own.
        words: Of each utterance.
        repeated: Whether a name that two utterances have is asked for, without which clusters are only utterances.
    """
    known = [name for name in names or () if name]
    if names is None or not known or (repeated and len(set(known)) == len(known)):
        return None
    numbers: dict[str | int, int] = {}
    of = np.array([numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(names)])
    return of if np.count_nonzero(np.bincount(of, weights=words)) > 1 else None


def _all_alike(names: Sequence[str | None] | None) -> bool:
    return names is not None and len(names) > 1 and len(set(names)) == 1 and bool(names[0])


def _is_crossed(voices: np.ndarray, texts: np.ndarray) -> bool:
    """Return whether a sentence is read by more than one speaker."""
    return len(set(zip(voices.tolist(), texts.tolist(), strict=True))) > int(texts.max()) + 1


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
