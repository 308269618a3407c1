"""Kinds of runs with all their seeds, compared with the formulas that the docstrings name."""

from collections.abc import Sequence

import numpy as np
import pytest

from core.over_seeds import Kind, but_for_seed, kind_name, over_seeds
from core.significance import holm
from core.store import UtteranceResult

WORDS = 6


def kind(name: str, *errors: Sequence[int], seeds: Sequence[int] = (0, 1, 2), speakers: int = 0) -> Kind:
    """Return a kind whose utterances have so many errors with each seed."""
    results = {
        seed: [
            UtteranceResult(
                f"u{i}", i, "said", "heard", count, 0, 0, WORDS, f"s{i % speakers}" if speakers else None, 1.0, "a.flac"
            )
            for i, count in enumerate(own)
        ]
        for seed, own in zip(seeds, errors, strict=False)
    }
    rates = {seed: sum(item.errors for item in own) / (WORDS * len(own)) for seed, own in results.items()}
    return Kind(name, rates, results)


def errors(seed: int, rate: float, size: int) -> list[int]:
    return np.random.default_rng(seed).binomial(WORDS, rate, size).tolist()


def by_hand(own: Kind, base: Kind, groups: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of the differences by seed, and the ends of its interval from draws of whole groups."""
    apart = np.mean(
        [
            [mine.errors - theirs.errors for mine, theirs in zip(own.results[seed], base.results[seed], strict=True)]
            for seed in base.results
        ],
        axis=0,
    )
    members = np.array([[apart[groups == group].sum(), (groups == group).sum()] for group in np.unique(groups)])
    counts = np.random.default_rng(99).multinomial(len(members), np.full(len(members), 1 / len(members)), size=20_000)
    sums = counts @ members
    low, high = np.quantile(sums[:, 0] / sums[:, 1] / WORDS, (0.025, 0.975))
    return apart.mean() / WORDS, low, high


@pytest.mark.parametrize("speakers", [0, 12], ids=["utterances", "speakers"])
def test_the_interval_is_that_of_the_mean_over_seeds(speakers: int) -> None:
    size = 150
    base = kind("ce", *(errors(seed, 0.4, size) for seed in (1, 2, 3)), speakers=speakers)
    own = kind("kd", *(errors(seed, 0.33, size) for seed in (4, 5, 6)), speakers=speakers)
    found = over_seeds([base, own], 0)
    assert found is not None
    _, row = found.rows
    groups = np.arange(size) % speakers if speakers else np.arange(size)
    difference, low, high = by_hand(own, base, groups)
    assert row.difference == pytest.approx(difference)
    assert row.interval == pytest.approx((low, high), abs=0.003)
    assert row.differences == pytest.approx({seed: own.rates[seed] - base.rates[seed] for seed in (0, 1, 2)})
    assert row.spread == pytest.approx(np.std(list(own.rates.values()), ddof=1))
    assert row.difference_spread == pytest.approx(np.std(list(row.differences.values()), ddof=1))
    assert f"over {speakers or size} {'speakers' if speakers else 'utterances'}" in found.test


def test_p_values_are_adjusted_for_the_number_of_kinds() -> None:
    base = kind("ce", *(errors(seed, 0.40, 200) for seed in (1, 2, 3)))
    others = [kind(f"k{rate}", *(errors(seed, rate, 200) for seed in (4, 5, 6))) for rate in (0.36, 0.38, 0.3)]
    alone = [pair.rows[1].p_value for other in others if (pair := over_seeds([base, other], 0)) is not None]
    together = over_seeds([base, *others], 0)
    assert together is not None
    assert [row.p_value for row in together.rows[1:]] == holm(alone)
    assert "adjusted for 3 comparisons (Holm)" in together.test


def test_a_difference_by_chance_is_called_not_significant() -> None:
    base, own = (
        kind(name, *(errors(seed, 0.4, 150) for seed in seeds)) for name, seeds in (("a", (1, 2)), ("b", (3, 4)))
    )
    found = over_seeds([base, own], 0)
    assert found is not None
    assert found.rows[1].verdict.startswith("not significant, p = 0.")
    assert found.rows[0].verdict == "baseline"


@pytest.mark.parametrize(
    ("first", "others", "said", "better"), [(0, 4, "better", 1), (6, 2, "worse", 2)], ids=["better", "worse"]
)
def test_what_p_says_of_several_seeds_is_said_of_these_seeds(first: int, others: int, said: str, better: int) -> None:
    base = kind("a", [3] * 100, [3] * 100, [3] * 100)
    # With two of three seeds it is the other way round, and by less.
    found = over_seeds([base, kind("b", [first] * 100, [others] * 100, [others] * 100)], 0)
    assert found is not None
    assert (found.rows[1].verdict, found.rows[1].better) == (f"{said} on these seeds, p < 0.001", better)


def test_what_one_seed_has_in_common_with_the_baseline_is_said_as_ever() -> None:
    found = over_seeds([kind("a", [3] * 100, [3] * 100), kind("b", [1] * 100, seeds=(1,))], 0)
    assert found is not None
    assert found.rows[1].verdict == "better, p < 0.001"


def test_few_utterances_have_an_interval_but_no_test() -> None:
    found = over_seeds([kind("a", [2] * 99, [3] * 99), kind("b", [1] * 99, [0] * 99)], 0)
    assert found is not None
    row = found.rows[1]
    assert (row.difference, row.p_value, row.verdict) == (pytest.approx(-2 / WORDS), None, "too few to test")
    assert row.interval is not None
    assert "99 utterances are too few to test" in found.test


def test_only_the_seeds_of_both_sides_are_compared() -> None:
    base = kind("a", [2] * 100, [4] * 100, [6] * 100, seeds=(0, 1, 2))
    found = over_seeds([base, kind("b", [3] * 100, [1] * 100, seeds=(1, 5))], 0)
    assert found is not None
    assert found.rows[1].differences == {1: pytest.approx(-1 / WORDS)}
    assert found.rows[1].difference == pytest.approx(-1 / WORDS)
    assert found.rows[1].difference_spread is None
    assert found.rows[1].better == 1


def test_without_a_baseline_there_is_the_spread_alone() -> None:
    found = over_seeds([kind("a", [2] * 100, [4] * 100)], None)
    assert found is not None
    assert (found.rows[0].difference, found.rows[0].spread) == (None, pytest.approx(2**0.5 / WORDS))
    assert found.test == "SD: standard deviation over seeds, in points."


def test_one_seed_of_each_is_nothing_over_seeds() -> None:
    assert over_seeds([kind("a", [1] * 100), kind("b", [2] * 100)], 0) is None
    assert over_seeds([], None) is None


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
