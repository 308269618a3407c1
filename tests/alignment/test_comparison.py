"""Intervals, floors and ceilings beside formulas of another form and what is known of them beforehand."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist

from core.alignment import comparison
from core.alignment.comparison import Measured, cka_grid, compared
from core.alignment.measures import (
    centred,
    linear_cka,
    mean_geodesic_angle,
    mutual_knn,
    nearest_first,
    procrustes_residual,
    rsa,
)
from core.errors import ShapeError

POINTS, WIDTH = 120, 8
UTTERANCE = np.repeat(np.arange(24), 5)


def sides(noise: float, *, points: int = POINTS, width: int = WIDTH, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    teacher = random.normal(size=(points, width)) + 2
    return teacher + noise * random.normal(size=(points, width)), teacher


def measured(noise: float, **fields: object) -> dict[str, Measured]:
    student, teacher = sides(noise)
    given = {"student": student, "teacher": teacher, "aligned_student": student, "aligned_teacher": teacher}
    return compared(**{**given, "utterance": UTTERANCE, "seed": 0, **fields})  # pyright: ignore[reportArgumentType]


def test_values_are_those_of_the_measures_alone() -> None:
    student, teacher = sides(0.7)
    found = measured(0.7)
    assert found["linear_cka"].value == pytest.approx(linear_cka(student, teacher))
    assert found["rsa"].value == pytest.approx(rsa(student, teacher))
    assert found["procrustes_residual"].value == pytest.approx(procrustes_residual(student, teacher))
    assert found["mutual_knn"].value == pytest.approx(mutual_knn(centred(student), centred(teacher)))
    assert found["geodesic_angle"].value == pytest.approx(mean_geodesic_angle(student, teacher))


def test_rsa_is_spearmans_correlation_of_cosine_distances() -> None:
    student, teacher = sides(0.7)
    expected = stats.spearmanr(pdist(centred(student), "cosine"), pdist(centred(teacher), "cosine"))[0]
    assert rsa(student, teacher) == pytest.approx(expected)


def test_equal_distances_share_a_rank() -> None:
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=float)
    other = square + np.array([[0.3, 0.1], [0, 0], [0, 0.2], [0.1, 0]])
    expected = stats.spearmanr(pdist(square, "cosine").round(9), pdist(centred(other), "cosine"))[0]
    assert rsa(square, other) == pytest.approx(expected)


def test_the_procrustes_residual_is_scipys_disparity() -> None:
    student, teacher = sides(0.7)
    assert procrustes_residual(student, teacher) == pytest.approx(procrustes(teacher, student)[2])


def test_a_side_that_does_not_vary_is_unlike_everything() -> None:
    _, teacher = sides(0)
    still = np.ones_like(teacher)
    assert procrustes_residual(still, teacher) == 1
    assert rsa(still, teacher) == 0


def test_the_unbiased_estimate_of_hsic_is_that_over_tuples_of_distinct_points_that_are_kept() -> None:
    """Of Song et al. 2012, equation 4: by enumerating pairs, triples and quadruples of the points that are kept."""
    random = np.random.default_rng(5)
    k, n = (each + each.T for each in random.normal(size=(2, 7, 7)))
    for each in (k, n):
        np.fill_diagonal(each, 0)
    kept = np.array([1.0, 1, 0, 1, 1, 1, 1])

    def mean(count: int, term: Callable[..., float]) -> float:
        chosen = itertools.permutations(np.flatnonzero(kept).tolist(), count)
        return float(np.mean([term(*each) for each in chosen]))

    expected = (
        mean(2, lambda i, j: k[i, j] * n[i, j])
        + mean(4, lambda i, j, q, r: k[i, j] * n[q, r])
        - 2 * mean(3, lambda i, j, q: k[i, j] * n[i, q])
    )
    assert comparison._hsic(k, n, kept[None])[0] == pytest.approx(expected)


@pytest.mark.parametrize("left_out", [0, 3, 23])
def test_without_an_utterance_each_measure_is_that_of_the_others(left_out: int) -> None:
    student, teacher = (centred(each) for each in sides(0.7))
    others = np.not_equal(UTTERANCE, left_out)
    kept = others[None].astype(float)
    mine, theirs = comparison._gram(student), comparison._gram(teacher)
    assert comparison._cka(mine, theirs, kept)[0] == pytest.approx(linear_cka(student[others], teacher[others]))
    near = [nearest_first(each, 20) for each in (student, teacher)]
    # Neighbours are those by direction from the mean of all.
    expected = mutual_knn(student[others], teacher[others], neighbours=10)
    assert comparison._shared_neighbours(near[0], near[1], others, 10) == pytest.approx(expected)


def smooth(
    lengths: Sequence[int], width: int, random: np.random.Generator, *, keep: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return states that change slowly within each utterance, with nothing in common between utterances, and whose."""
    states = []
    for length in lengths:
        state = random.standard_normal(width)
        for _ in range(length):
            state = keep * state + np.sqrt(1 - keep**2) * random.standard_normal(width)
            states.append(state)
    return np.array(states), np.repeat(np.arange(len(lengths)), lengths)


def of_smooth(lengths: Sequence[int], *, width: int = 48, seed: int = 0, shared: float = 0.0) -> dict[str, Measured]:
    random = np.random.default_rng(seed)
    (student, utterance), (teacher, _) = (smooth(lengths, width, random) for _ in range(2))
    student = student + shared * teacher
    fields = {"student": student, "teacher": teacher, "aligned_student": student, "aligned_teacher": teacher}
    return compared(**fields, utterance=utterance, seed=seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("lengths", [[40] * 12, [10, 60, 25, 33, 5, 48, 12, 30, 21, 44], [70, 50, 90], [20, 30] * 15])
def test_unrelated_sides_that_are_smooth_in_time_are_where_exchanged_utterances_are(
    lengths: list[int], seed: int
) -> None:
    for name, each in of_smooth(lengths, seed=seed).items():
        spread = each.floor_high - each.floor_low
        assert each.floor_low - spread <= each.value <= each.floor_high + spread, name
        assert each.floor_low <= each.floor <= each.floor_high, name


def test_related_sides_that_are_smooth_in_time_are_far_from_exchanged_utterances() -> None:
    for name, each in of_smooth([40] * 12, shared=1.0).items():
        assert not each.floor_low <= each.value <= each.floor_high, name
        assert not each.low <= each.floor <= each.high, name


@pytest.mark.parametrize("shared", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("lengths", [[40] * 12, [10, 60, 25, 33, 5, 48], [30, 40], [3, 4, 2, 3, 5, 4, 3, 2]])
def test_every_value_lies_inside_its_own_interval(lengths: list[int], shared: float) -> None:
    for name, each in of_smooth(lengths, shared=shared).items():
        assert each.low <= each.value <= each.high, name
        assert each.low >= (0 if name in ("mutual_knn", "procrustes_residual", "geodesic_angle") else -1), name


def test_one_utterance_alone_has_no_interval_but_a_floor_of_itself_shifted_in_time() -> None:
    found = of_smooth([120])
    for name, each in found.items():
        assert math.isnan(each.low), name
        assert math.isnan(each.high), name
        assert math.isfinite(each.floor), name
    assert found["mutual_knn"].floor > 0.4 < found["mutual_knn"].value


def test_utterances_are_exchanged_whole_and_none_stays_beside_itself() -> None:
    random = np.random.default_rng(0)
    utterance = np.array([2, 2, 2, 0, 0, 1, 1, 1, 1, 3, 4, 4])
    for _ in range(20):
        mine, theirs = comparison._exchanged(utterance, random)
        assert len(set(mine.tolist())) == len(mine) == len(set(theirs.tolist())) == len(theirs)
        assert (utterance[mine] != utterance[theirs]).all()
        partners = {(a, b) for a, b in zip(utterance[mine].tolist(), utterance[theirs].tolist(), strict=True)}
        assert len(partners) == 5
        for a, b in partners:
            own, beside = mine[utterance[mine] == a], theirs[utterance[theirs] == b]
            shorter = min(np.count_nonzero(utterance == a), np.count_nonzero(utterance == b))
            assert own.tolist() == np.flatnonzero(utterance == a)[:shorter].tolist()
            assert beside.tolist() == np.flatnonzero(utterance == b)[:shorter].tolist()


def test_of_many_utterances_groups_are_left_out_and_each_point_once() -> None:
    left_out = 1 - comparison._left_out(np.repeat(np.arange(130), 3), np.random.default_rng(0))
    assert len(left_out) == comparison.MOST_LEFT_OUT
    assert left_out.sum(axis=0).tolist() == [1] * 390
    assert set(left_out.sum(axis=1).tolist()) == {6, 9}


def test_the_teacher_beside_itself_is_the_ceiling_and_reaches_it() -> None:
    for name, each in measured(0.0).items():
        best = 0.0 if name in ("procrustes_residual", "geodesic_angle") else 1.0
        assert each.value == pytest.approx(best, abs=1e-6), name
        assert each.ceiling == pytest.approx(best, abs=1e-6), name


def test_unrelated_sides_are_at_the_floor_and_related_ones_far_from_it() -> None:
    random = np.random.default_rng(1)
    student = random.normal(size=(POINTS, WIDTH))
    for name, each in measured(0.0, student=student, aligned_student=student).items():
        assert each.low - 0.1 < each.floor < each.high + 0.1, name
    for name, each in measured(0.3).items():
        # Up or down, the floor lies outside the interval and the ceiling on its other side.
        assert not each.low <= each.floor <= each.high, name
        assert (each.value - each.floor) * (each.ceiling - each.floor) > 0, name


def test_without_debiasing_wide_states_would_look_alike_and_here_they_do_not() -> None:
    random = np.random.default_rng(2)
    student, teacher = random.normal(size=(2, 30, 300))
    fields = {"student": student, "teacher": teacher, "aligned_student": student, "aligned_teacher": teacher}
    found = measured(0.0, **fields, utterance=np.repeat(np.arange(10), 3))
    assert abs(found["linear_cka"].value) < 0.15
    assert found["linear_cka"].low < 0.05
    assert found["linear_cka"].high < 0.3


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_intervals_hold_the_mean_over_other_speech_about_as_often_as_they_say(shared: float) -> None:
    """Forty samples of twelve utterances of their own each; 95 % intervals may miss the mean of all a few times."""
    lengths = [9, 14, 6, 11, 20, 8] * 2
    found = [of_smooth(lengths, width=16, seed=seed, shared=shared) for seed in range(40)]
    for name in found[0]:
        mean = np.mean([each[name].value for each in found])
        held = sum(each[name].low <= mean <= each[name].high for each in found)
        # Of 40 at 95 %, fewer than 34 are held once in 100.
        assert held >= 34, name
    # Wide enough to hold everything would be no interval: they are about as wide as the values scatter.
    for name in ("linear_cka", "rsa", "mutual_knn", "geodesic_angle"):
        scatter = np.std([each[name].value for each in found])
        half = np.mean([(each[name].high - each[name].low) / 2 for each in found])
        assert half < 4.5 * scatter, name


def test_an_utterance_is_left_out_as_a_whole() -> None:
    student, teacher = sides(0.7)
    # Within an utterance all angles are the same, so five points are worth one.
    repeated = [np.repeat(each[::5], 5, axis=0) for each in (student, teacher)]
    whole = measured(0, aligned_student=repeated[0], aligned_teacher=repeated[1])["geodesic_angle"]
    apart = measured(0, aligned_student=repeated[0], aligned_teacher=repeated[1], utterance=np.arange(POINTS))[
        "geodesic_angle"
    ]
    assert whole.high - whole.low > 1.7 * (apart.high - apart.low)


def test_the_same_seed_gives_the_same_interval_and_too_few_points_are_refused() -> None:
    assert measured(0.7) == measured(0.7)
    assert measured(0.7) != measured(0.7, seed=1)  # other exchanges
    student, teacher = sides(0.7)
    with pytest.raises(ShapeError, match="at least 5"):
        compared(
            student=student[:4],
            teacher=teacher[:4],
            aligned_student=student[:4],
            aligned_teacher=teacher[:4],
            utterance=UTTERANCE[:4],
            seed=0,
        )
    with pytest.raises(ShapeError, match="pair up"):
        measured(0.7, utterance=UTTERANCE[:-1])


def test_the_grid_has_students_as_rows_and_teachers_as_columns() -> None:
    student, teacher = sides(0.7)
    grid = cka_grid([student, teacher], [teacher, student, student[:, :3]])
    assert np.shape(grid) == (2, 3)
    assert [grid[0][1], grid[1][0]] == pytest.approx([1, 1])
    assert grid[0][0] == pytest.approx(linear_cka(student, teacher))
