"""How often verdicts and intervals of error rates are wrong, and how often a true gain is seen: by simulation.

``python -m benchmarks.coverage`` prints the table and writes it to assets/benchmarks.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from core.power import power
from core.significance import Difference, contrasts, paired_difference_over_seeds

RESULTS = Path(__file__).parents[1] / "assets" / "benchmarks"
RATE, GAIN = 0.10, 0.029
"""Word error rate of the baseline, and the true gain that is to be seen."""

MOST = 0.07
"""What is allowed: 5 %, and what a test that is nearly right and a thousand experiments add."""

DRAWS = 1_000

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)

SPREAD = {"shared": 1.0, "own": 0.5, "run": 0.5, "speaker": 0.25}
"""Standard deviations on the logit of a word's error: an utterance's for all systems; an utterance's, or a sentence's
where voices share them, for one system; an utterance's for one run; a speaker's for one system."""


@dataclass(frozen=True)
class Cell:
    """One situation.

    Attributes:
        title: What it is called.
        utterances: Size of the test set, of 3 to 9 words each.
        speakers: Voices, each with as many utterances; 0 where they are not known.
        sentences: Texts that all voices read; 0 where every utterance says something else.
        shares: Of the utterances, by speaker; by default equal.
        runaway: Share of utterances to which a system adds 20 to 120 words.
        seeds: Runs of each system.
        scatter: Standard deviation of their rates that is not of the utterances, as a fraction.
    """

    title: str
    utterances: int
    speakers: int = 0
    sentences: int = 0
    shares: tuple[float, ...] = ()
    runaway: float = 0.0
    seeds: int = 1
    scatter: float = 0.0


CELLS = (
    *(Cell("utterances without speakers", size) for size in (30, 100, 300)),
    *(Cell("rare runaway texts (1 in 100)", size, runaway=0.01) for size in (30, 100, 300)),
    *(Cell(f"{speakers} speakers", size, speakers) for speakers in (5, 10, 20) for size in (30, 100, 300)),
    *(Cell(f"{speakers} speakers", 100, speakers) for speakers in (2, 3)),
    Cell("5 speakers, one with 60 % of the speech", 100, 5, shares=(0.6, 0.1, 0.1, 0.1, 0.1)),
    Cell("10 speakers, one with 50 % of the speech", 300, 10, shares=(0.5, *[0.5 / 9] * 9)),
    Cell("5 speakers, rare runaway texts", 300, 5, runaway=0.01),
    Cell("10 speakers, rare runaway texts", 100, 10, runaway=0.01),
    *(
        Cell(f"{k} speakers read the same sentences", n, k, n // k)
        for k in (5, 10, 20)
        for n in (30, 100, 300)
        if n >= 2 * k
    ),
    Cell("sentences read again by unknown voices", 100, 0, 20),
    *(
        Cell(f"{seeds} seeds, scatter of 1.7 points", size, seeds=seeds, scatter=0.017)
        for seeds in (3, 5)
        for size in (30, 100, 300)
    ),
    Cell("3 seeds, scatter of 1.7 points, 5 speakers", 100, 5, seeds=3, scatter=0.017),
    Cell("3 seeds, scatter of 1.7 points, 10 speakers read the same", 100, 10, 10, seeds=3, scatter=0.017),
    *(Cell("one run each, scatter of 1.7 points: of these two runs", size, scatter=0.017) for size in (100, 300)),
)


@dataclass(frozen=True)
class Measured:
    """What came of a cell, as shares of experiments.

    Attributes:
        false: Verdicts without a difference; of runs that scatter, on the wrong side.
        missed: Intervals without the truth, where there is no difference.
        missed_gain: The same where there is one.
        seen: Verdicts where there is one.
    """

    false: float
    missed: float
    missed_gain: float
    seen: float


@dataclass(frozen=True)
class Experiment:
    """Errors of two systems, [system][seed][utterance], the true difference of their rates, and the test set."""

    errors: np.ndarray
    truth: float
    words: list[int]
    speakers: list[str] | None
    sentences: list[str] | None

    def tested(self, own: int = 0, base: int = 1) -> Difference:
        """Return what is said of two of the systems."""
        return paired_difference_over_seeds(
            self.errors[own].tolist(),
            self.errors[base].tolist(),
            self.words,
            speakers=self.speakers,
            sentences=self.sentences,
            draws=DRAWS,
        )


def rate(logit: float, spread: float) -> float:
    """Return the word error rate when the logit of an error scatters so."""
    return float(WEIGHTS @ (1 / (1 + np.exp(-logit - spread * POINTS))) / WEIGHTS.sum())


def logit_of(wanted: float, spread: float) -> float:
    """Return the mean logit whose word error rate is wanted, by bisection."""
    low, high = -12.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle, spread) < wanted else (low, middle)
    return low


def setting(cell: Cell, gain: float) -> tuple[float, float, float]:
    """Return the mean logits of the better system and of the other, and the spread of the seeds on the logit."""
    spread = _spread(cell)
    base = logit_of(RATE, spread)
    slope = (rate(base + 0.01, spread) - rate(base - 0.01, spread)) / 0.02
    return logit_of(RATE - gain, spread), base, cell.scatter / slope


def experiment(
    cell: Cell, random: np.random.Generator, levels: tuple[float, float, float], systems: int = 2
) -> Experiment:
    """Draw a test set, and what systems make of it; the first is the better one, the others are alike.

    Args:
        cell: The situation.
        random: Of the draws.
        levels: As `setting` returns them.
        systems: How many.
    """
    better, base, scatter = levels
    size = cell.utterances
    speaker = np.arange(size) % max(1, cell.speakers)
    if cell.shares:
        speaker = random.choice(cell.speakers, size=size, p=cell.shares)
    sentence = np.arange(size) // max(1, cell.speakers) % cell.sentences if cell.sentences else np.arange(size)
    words = random.integers(3, 10, size=size)[sentence]
    shared = SPREAD["shared"] * random.standard_normal(size)[sentence]
    errors = np.zeros((systems, cell.seeds, size), dtype=int)
    rates = []
    for system in range(systems):
        level = better if system == 0 else base
        own = level + shared + SPREAD["own"] * random.standard_normal(size)[sentence]
        if cell.speakers:
            own = own + SPREAD["speaker"] * random.standard_normal(cell.speakers)[speaker]
        for seed in range(cell.seeds):
            shift = scatter * random.standard_normal()
            chance = 1 / (1 + np.exp(-own - shift - SPREAD["run"] * random.standard_normal(size)))
            errors[system, seed] = random.binomial(words, chance)
            errors[system, seed] += (random.random(size) < cell.runaway) * random.integers(20, 121, size=size)
            # One run each is judged by what these runs are; several seeds, by what all seeds are.
            rates.append(rate(level + (shift if cell.seeds == 1 else 0), _spread(cell)))
    return Experiment(
        errors,
        rates[0] - rates[cell.seeds],
        words.tolist(),
        [f"s{each}" for each in speaker] if cell.speakers else None,
        [f"text {each}" for each in sentence] if cell.sentences else None,
    )


def measure(cell: Cell, experiments: int, *, seed: int = 0) -> Measured:
    """Return how often a cell is judged wrongly, and how often a gain is seen."""
    found = []
    for gain in (0.0, GAIN):
        random, levels = np.random.default_rng(seed), setting(cell, gain)
        verdicts, wrong, misses = 0, 0, 0
        for _ in range(experiments):
            drawn = experiment(cell, random, levels)
            said = drawn.tested()
            low, high = said.interval()
            verdicts += said.p_value < 0.05
            wrong += said.p_value < 0.05 and said.difference * drawn.truth <= 0
            misses += not low <= drawn.truth <= high
        found += [wrong / experiments, misses / experiments, verdicts / experiments]
    return Measured(false=found[0], missed=found[1], missed_gain=found[4], seen=found[5])


def any_false(runs: int, experiments: int, *, chosen: bool, seed: int = 0) -> float:
    """Return in what share of tables of equal runs, each on two test sets, any verdict is false.

    Args:
        runs: Rows of a table, the baseline among them.
        experiments: How many tables.
        chosen: Whether the baseline is the run that looks worst, and corrected for; else the first.
        seed: Of the draws.
    """
    cells = (Cell("", 100), Cell("", 100, 10))
    random, levels = np.random.default_rng(seed), [setting(cell, 0.0) for cell in cells]
    false = 0
    for _ in range(experiments):
        sets = [experiment(cell, random, level, runs) for cell, level in zip(cells, levels, strict=True)]
        base = int(np.argmax(sets[0].errors.sum(axis=(1, 2)))) if chosen else 0
        differences = [each.tested(own, base) for each in sets for own in range(runs) if own != base]
        fields = contrasts(differences, comparisons=len(sets) * runs * (runs - 1) // 2 if chosen else None)
        false += any(each["p_value"] < 0.05 for each in fields)
    return false / experiments


def table(rows: Sequence[tuple[Cell, Measured]], families: Sequence[tuple[str, float]], experiments: int) -> str:
    """Return the results in Markdown."""
    lines = [
        f"{experiments:,} experiments a row; 3 to 9 words an utterance, word error rate {RATE:.0%}. False: verdicts "
        "p < 0.05 where there is no difference. Missed: 95 % intervals without the truth, where there is no "
        f"difference and where there is a gain of {100 * GAIN:.1f} points. Seen: verdicts p < 0.05 for that gain; "
        "foreseen: what New run says of it.",
        "",
        "| test set | utterances | false % | missed % | missed % (gain) | seen % | foreseen % |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell, found in rows:
        numbers = (found.false, found.missed, found.missed_gain, found.seen)
        shown = " | ".join(f"{100 * number:.1f}" for number in numbers)
        lines.append(f"| {cell.title} | {cell.utterances} | {shown} | {foreseen(cell)} |")
    lines += ["", "| table of runs without a difference, on two test sets | any verdict false % |", "|---|---|"]
    lines += [f"| {title} | {100 * share:.1f} |" for title, share in families]
    return "\n".join(lines)


def foreseen(cell: Cell) -> str:
    """Return how often New run would expect the gain to be seen; nothing where it says nothing."""
    if cell.sentences or cell.runaway or cell.shares or cell.scatter:
        return ""
    seen = power(GAIN, utterances=cell.utterances, words=6 * cell.utterances, rate=RATE, speakers=cell.speakers)
    return f"{100 * seen:.0f}"


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Simulate, print and write; return 1 where a row is above what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000, help="in each row")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where coverage.md and coverage.json go")
    given = parser.parse_args(arguments)
    rows = []
    for cell in CELLS:
        rows.append((cell, measure(cell, given.experiments)))
        say(f"{cell.title}, {cell.utterances}: {rows[-1][1]}")
    families = [
        ("5 runs, the first is the baseline", any_false(5, given.experiments, chosen=False)),
        ("5 runs, the baseline chosen after reading", any_false(5, given.experiments, chosen=True)),
    ]
    said = table(rows, families, given.experiments)
    say(f"\n{said}")
    found = [{**asdict(cell), **asdict(measured)} for cell, measured in rows]
    stored = {"experiments": given.experiments, "cells": found, "families": dict(families)}
    (given.folder / "coverage.md").write_text(said + "\n", encoding="utf-8")
    (given.folder / "coverage.json").write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    worst = max(max(each.false, each.missed, each.missed_gain) for _, each in rows)
    return int(max(worst, *(share for _, share in families)) > MOST)


def _spread(cell: Cell) -> float:
    parts = [SPREAD["shared"], SPREAD["own"], SPREAD["run"], SPREAD["speaker"] if cell.speakers else 0]
    return float(np.sqrt(np.sum(np.square(parts))))


if __name__ == "__main__":
    raise SystemExit(main())
