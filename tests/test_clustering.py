"""The t-test over clusters beside t-tests of scipy, and beside its variances written out as matrices."""

import numpy as np
import pytest
from scipy import stats

from core.clustering import ClusteredT, Variance, clustered_t, ratio_variance


def drawn(seed: int, size: int = 60) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    random = np.random.default_rng(seed)
    return random.integers(-3, 5, size=size).astype(float), random.integers(1, 12, size=size).astype(float), random


@pytest.mark.parametrize("speakers", [2, 3, 5, 12])
def test_equal_speakers_are_judged_by_a_t_test_that_errs_on_the_wide_side(speakers: int) -> None:
    apart, _, _ = drawn(speakers)
    words, of = np.full(60, 6.0), np.arange(60) % speakers
    found = clustered_t(apart, words, [of])
    rates = np.bincount(of, weights=apart) / np.bincount(of, weights=words)
    wide = np.sqrt(speakers / (speakers - 1))
    usual = stats.ttest_1samp(rates, 0)
    low, high = usual.confidence_interval(0.95)
    assert found.p_value == pytest.approx(2 * stats.t.sf(np.abs(np.asarray(usual[0])) / wide, speakers - 1))
    assert found.interval(0.05) == pytest.approx(
        (rates.mean() - wide * (high - low) / 2, rates.mean() + wide * (high - low) / 2)
    )


def test_where_one_unit_alone_has_words_nothing_can_be_told() -> None:
    found = clustered_t(np.array([2.0, 1.0]), np.array([5.0, 0.0]), [np.arange(2)], seeds=[0.6, 0.5, 0.7])
    assert found.interval(0.05) == (-np.inf, np.inf)
    assert found.p_value == pytest.approx(1.0)


def test_the_variance_of_unequal_units_is_the_quadratic_form_of_bell_and_mccaffrey() -> None:
    apart, words, _ = drawn(9, 7)
    words[0] = 60
    share = words / words.sum()
    residual = np.eye(7) - np.outer(share, np.ones(7))
    form = residual.T @ np.diag(1 / (1 - share) ** 2) @ residual
    scatter = form @ np.diag(share**2)
    found = ratio_variance(apart, words)
    assert found.value == pytest.approx(apart @ form @ apart / words.sum() ** 2)
    assert found.freedom == pytest.approx(np.trace(scatter) ** 2 / np.trace(scatter @ scatter))
    assert 1 < found.freedom < 3
    others = [(apart.sum() - one) / (words.sum() - size) for one, size in zip(apart, words, strict=True)]
    assert found.value == pytest.approx(np.sum((np.array(others) - apart.sum() / words.sum()) ** 2))


def test_two_clusterings_add_up_but_for_what_both_count() -> None:
    apart, words, random = drawn(2, 200)
    speakers, sentences = np.arange(200) % 10, np.arange(200) // 10
    apart += 2 * random.standard_normal(10)[speakers] + 2 * random.standard_normal(20)[sentences]
    found = clustered_t(apart, words, [speakers, sentences])
    one, other = (clustered_t(apart, words, [of]).interval(0.05) for of in (speakers, sentences))
    both = clustered_t(apart, words, [np.arange(200)]).interval(0.05)
    reach = [high - found.difference for _, high in (one, other, both)]
    assert found.interval(0.05)[1] - found.difference == pytest.approx(
        np.sqrt(reach[0] ** 2 + reach[1] ** 2 - reach[2] ** 2)
    )
    # Beside the sum over all pairs of utterances that share a speaker or a sentence, which corrects for nothing.
    left = apart - found.difference * words
    alike = (speakers[:, None] == speakers) | (sentences[:, None] == sentences)
    plain = float(left @ alike @ left) / words.sum() ** 2
    added = sum(each.value for each in found.clusterings) - (found.overlap.value if found.overlap else 0)
    assert added == pytest.approx(plain, rel=0.25)


def test_a_clustering_that_explains_all_counts_alone() -> None:
    # Within a sentence speakers cancel: together less would be left than the sentences have.
    speakers, sentences = np.arange(100) % 10, np.arange(100) // 10
    apart = np.where((speakers + sentences) % 2, 1.0, -1.0)
    found = clustered_t(apart, np.full(100, 5.0), [speakers, sentences])
    assert found.interval(0.05)[1] >= max(
        clustered_t(apart, np.full(100, 5.0), [of]).interval(0.05)[1] for of in (speakers, sentences)
    )


def test_seeds_without_scatter_change_nothing_and_seeds_alone_are_their_t_test() -> None:
    apart, words, _ = drawn(4)
    of = [np.arange(60)]
    rate = apart.sum() / words.sum()
    assert clustered_t(apart, words, of, seeds=[rate] * 3).p_value == pytest.approx(
        clustered_t(apart, words, of).p_value
    )
    alike = np.full(60, -1.0)
    found = clustered_t(alike, np.full(60, 5.0), of, seeds=[-0.1, -0.2, -0.3])
    assert found.p_value == pytest.approx(stats.ttest_1samp([-0.1, -0.2, -0.3], 0)[1])


def test_the_p_value_is_the_level_of_the_interval_that_ends_at_no_difference() -> None:
    test = ClusteredT(0.3, (Variance(0.01, 4), Variance(0.004, 30)), Variance(0.001, 99), Variance(0.005, 2))
    low, _ = test.interval(test.p_value)
    assert low == pytest.approx(0, abs=1e-9)
    assert 0.01 < test.p_value < 0.2


def test_no_difference_is_certain_to_be_none() -> None:
    assert clustered_t(np.zeros(10), np.ones(10), [np.arange(10)]).p_value == 1
