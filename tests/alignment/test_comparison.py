"""Intervals, floors and ceilings beside formulas of another form and what is known of them beforehand."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist

from core.alignment import comparison
from core.alignment.comparison import Measured, cka_grid, compared
from core.alignment.measures import centred, linear_cka, mean_geodesic_angle, mutual_knn, procrustes_residual, rsa
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


def test_weighed_sums_are_sums_over_distinct_points_drawn_as_often() -> None:
    """The estimate of HSIC for points that were drawn 0 to 2 times, by enumerating pairs, triples and quadruples."""
    random = np.random.default_rng(5)
    k, n = (each + each.T for each in random.normal(size=(2, 6, 6)))
    for each in (k, n):
        np.fill_diagonal(each, 0)
    w = np.array([1.0, 2, 0, 1, 2, 1])

    def mean(count: int, term: Callable[..., float]) -> float:
        chosen = list(itertools.permutations(range(6), count))
        weights = [np.prod(w[list(each)]) for each in chosen]
        return float(np.dot(weights, [term(*each) for each in chosen]) / np.sum(weights))

    expected = (
        mean(2, lambda i, j: k[i, j] * n[i, j])
        + mean(4, lambda i, j, q, r: k[i, j] * n[q, r])
        - 2 * mean(3, lambda i, j, q: k[i, j] * n[i, q])
    )
    assert comparison._hsic(k, n, w[None])[0] == pytest.approx(expected)


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
    # A point that is drawn twice must not count as a pair that agrees.
    assert found["linear_cka"].low < 0.05
    assert found["linear_cka"].high < 0.3


@pytest.mark.parametrize("name", ["linear_cka", "rsa", "geodesic_angle"])
def test_most_intervals_hold_the_value_of_many_more_points(name: str) -> None:
    student, teacher = sides(0.7, points=4000, seed=9)
    many = {
        "linear_cka": linear_cka,
        "rsa": lambda x, y: rsa(x[:1500], y[:1500]),
        "geodesic_angle": mean_geodesic_angle,
    }[name](student, teacher)
    held = 0
    for first in range(0, 2000, 100):
        x, y = student[first : first + 100], teacher[first : first + 100]
        utterance = np.repeat(np.arange(50), 2)
        found = compared(
            student=x, teacher=y, aligned_student=x, aligned_teacher=y, utterance=utterance, seed=0, draws=200
        )[name]
        held += found.low <= many <= found.high
    # Percentile intervals of so few utterances hold it somewhat less often than 95 %; of 20, 15 are expected by far.
    assert held >= 15


def test_an_utterance_is_drawn_as_a_whole() -> None:
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
    assert measured(0.7) != measured(0.7, seed=1)
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
