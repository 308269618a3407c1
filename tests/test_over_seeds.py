"""Kinds of runs with all their seeds, compared with the formulas that the docstrings name."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from core.over_seeds import Kind, KindRow, but_for_seed, kind_name, kind_rows, sentences
from core.significance import holm
from core.store import UtteranceResult
from core.verdicts import family

WORDS = 6


def kind(name: str, *errors: Sequence[int], seeds: Sequence[int] = (0, 1, 2), speakers: int = 0) -> Kind:
    """Return a kind whose utterances have so many errors with each seed."""
    results = {
        seed: [
            UtteranceResult(
                f"u{i}",
                i,
                f"said {i}",
                "heard",
                count,
                0,
                0,
                WORDS,
                f"s{i % speakers}" if speakers else None,
                1.0,
                "a.flac",
            )
            for i, count in enumerate(own)
        ]
        for seed, own in zip(seeds, errors, strict=False)
    }
    rates = {seed: sum(item.errors for item in own) / (WORDS * len(own)) for seed, own in results.items()}
    return Kind(name, rates, results)


def errors(seed: int, rate: float, size: int) -> list[int]:
    return np.random.default_rng(seed).binomial(WORDS, rate, size).tolist()


def judged(kinds: Sequence[Kind], baseline: int | None) -> list[KindRow]:
    """Return kinds with their verdicts, all of them one family."""
    rows = kind_rows(kinds, baseline)
    found = family([([], [pair for _, pair in rows])], chosen=False)
    return [replace(row, **fields) for (row, _), fields in zip(rows, found.fields, strict=True)]


@pytest.mark.parametrize("speakers", [0, 12], ids=["utterances", "speakers"])
def test_three_seeds_are_judged_over_seeds_and_utterances(speakers: int) -> None:
    size = 144
    base = kind("ce", *(errors(seed, 0.4, size) for seed in (1, 2, 3)), speakers=speakers)
    own = kind("kd", *(errors(seed, 0.2, size) for seed in (4, 5, 6)), speakers=speakers)
    _, row = judged([base, own], 0)
    differences = [own.rates[seed] - base.rates[seed] for seed in (0, 1, 2)]
    assert row.difference == pytest.approx(np.mean(differences))
    assert row.differences == pytest.approx(dict(enumerate(differences)))
    assert row.spread == pytest.approx(np.std(list(own.rates.values()), ddof=1))
    assert row.difference_spread == pytest.approx(np.std(differences, ddof=1))
    # Half the width of the t-interval over seeds, and that over units, are the sides of a right angle.
    each = [
        [mine.errors - theirs.errors for mine, theirs in zip(own.results[seed], base.results[seed], strict=True)]
        for seed in (0, 1, 2)
    ]
    units = np.mean(each, axis=0).reshape(-1, speakers or size).mean(axis=0) / WORDS
    reaches = [stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) for values in (differences, units)]
    reaches[1] *= np.sqrt(len(units) / (len(units) - 1))  # jackknifed, on the wide side
    assert row.interval is not None
    assert row.interval[1] - row.interval[0] == pytest.approx(2 * np.hypot(*reaches))
    assert row.verdict.startswith("better than ce over 3 seeds, p ")


def test_seeds_that_scatter_more_than_they_differ_are_not_significant() -> None:
    base = kind("a", [3] * 100, [3] * 100, [3] * 100)
    _, row = judged([base, kind("b", [0] * 100, [4] * 100, [4] * 100)], 0)
    assert row.verdict.startswith("not significant, p = 0.")
    assert row.better == 1


def test_p_values_are_adjusted_for_the_number_of_kinds() -> None:
    base = kind("ce", *(errors(seed, 0.40, 200) for seed in (1, 2, 3)))
    others = [kind(f"k{rate}", *(errors(seed, rate, 200) for seed in (4, 5, 6))) for rate in (0.36, 0.38, 0.3)]
    alone = [judged([base, other], 0)[1].p_value for other in others]
    assert [row.p_value for row in judged([base, *others], 0)[1:]] == pytest.approx(holm(alone))


def test_fewer_than_three_seeds_have_a_difference_and_no_verdict() -> None:
    first, row = judged([kind("a", [3] * 100, [3] * 100), kind("b", [1] * 100, [2] * 100)], 0)
    assert (first.verdict, row.verdict) == ("baseline", "too few seeds to test")
    assert (row.difference, row.interval, row.p_value) == (pytest.approx(-1.5 / WORDS), None, None)


def test_only_the_seeds_of_both_sides_are_compared() -> None:
    base = kind("a", [2] * 100, [4] * 100, [6] * 100, seeds=(0, 1, 2))
    _, row, other = judged([base, kind("b", [3] * 100, [1] * 100, seeds=(1, 5)), kind("c", [3] * 100, seeds=(7,))], 0)
    assert row.differences == {1: pytest.approx(-1 / WORDS)}
    assert row.difference == pytest.approx(-1 / WORDS)
    assert (row.difference_spread, row.better) == (None, 1)
    assert other.verdict == "not compared"


def test_without_a_baseline_there_is_the_spread_alone() -> None:
    (row,) = judged([kind("a", [2] * 100, [4] * 100)], None)
    assert (row.difference, row.spread) == (None, pytest.approx(2**0.5 / WORDS))
    assert sentences([row], "") == "SD: standard deviation over seeds, in points."


def test_a_kind_is_its_settings_but_for_name_and_seed() -> None:
    config = {"name": "a", "seed": 0, "lora": {"rank": 2}, "method": {"name": "ce"}}
    assert but_for_seed(config) == but_for_seed(dict(reversed({**config, "name": "b", "seed": 3}.items())))
    assert but_for_seed(config) != but_for_seed({**config, "lora": {"rank": 3}})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ce (seed 0)", "ce (seed 1)"], "ce"),
        (["ce (rank 4, seed 0)", "ce (rank 4, seed 1)"], "ce (rank 4)"),
        (["ce (seed 0)"], "ce (seed 0)"),
        (["first", "second", "third"], "first and 2 more"),
    ],
)
def test_a_kind_has_one_name(names: list[str], said: str) -> None:
    assert kind_name(names) == said
