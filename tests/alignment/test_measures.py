"""Measures of alignment beside slower formulas of another form, and what must not change them."""

from collections.abc import Callable

import numpy as np
import pytest
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped
from scipy import linalg, stats
from sklearn.neighbors import NearestNeighbors

from core.alignment import measures
from core.errors import ShapeError

checked = jaxtyped(typechecker=beartype)
linear_cka = checked(measures.linear_cka)
mean_geodesic_angle = checked(measures.mean_geodesic_angle)
mutual_knn = checked(measures.mutual_knn)
procrustes = checked(measures.procrustes)
effective_rank = checked(measures.effective_rank)

SEEDS = st.integers(0, 2**32 - 1)


def states(seed: int, points: int = 40, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(points, width))


def rotation(seed: int, width: int = 6) -> np.ndarray:
    return stats.ortho_group.rvs(width, random_state=seed)


def pair(seed: int, *, points: int = 40, width: int = 6, other: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return two sides that have something in common."""
    student = states(seed, points, width)
    return student, student @ states(seed + 1, width, other) + 2 * states(seed + 2, points, other)


def cka_by_pairs(student: np.ndarray, teacher: np.ndarray) -> float:
    """Return CKA from U-centred Gram matrices (Szekely and Rizzo 2014, equation 2.2): all pairs, no moments."""

    def u_centred(rows: np.ndarray) -> np.ndarray:
        gram = rows @ rows.T
        np.fill_diagonal(gram, 0)
        count = len(gram)
        line = gram.sum(axis=1) / (count - 2)
        gram = gram - line[:, None] - line[None, :] + gram.sum() / ((count - 1) * (count - 2))
        np.fill_diagonal(gram, 0)
        return gram

    mine, theirs = u_centred(student), u_centred(teacher)
    return float((mine * theirs).sum() / np.sqrt((mine * mine).sum() * (theirs * theirs).sum()))


@pytest.mark.parametrize(("points", "width", "other"), [(40, 6, 6), (40, 6, 3), (12, 30, 20), (20, 4, 50), (4, 3, 3)])
def test_cka_is_that_of_u_centred_gram_matrices(points: int, width: int, other: int) -> None:
    student, teacher = pair(3, points=points, width=width, other=other)
    assert linear_cka(student, teacher) == pytest.approx(cka_by_pairs(student, teacher), abs=1e-10)


def test_cka_of_unrelated_states_is_about_zero_even_with_fewer_points_than_width() -> None:
    values = [linear_cka(states(seed, 30, 300), states(seed + 1000, 30, 300)) for seed in range(40)]
    assert abs(np.mean(values)) < 0.05
    gram_x, gram_y = (each @ each.T for each in (states(0, 30, 300), states(1000, 30, 300)))
    centre = np.eye(30) - 1 / 30
    biased = np.trace(gram_x @ centre @ gram_y @ centre) / (
        np.linalg.norm(centre @ gram_x @ centre) * np.linalg.norm(centre @ gram_y @ centre)
    )
    assert biased > 0.8


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.01, 100), st.floats(-50, 50))
def test_turning_moving_and_scaling_a_side_does_not_change_cka(seed: int, scale: float, shift: float) -> None:
    student, teacher = pair(seed % 1000)
    moved = scale * student @ rotation(seed) + shift
    assert linear_cka(moved, teacher) == pytest.approx(linear_cka(student, teacher), abs=1e-6)
    assert linear_cka(moved, student) == pytest.approx(1, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_the_order_of_points_and_of_sides_does_not_change_cka(seed: int) -> None:
    student, teacher = pair(seed % 1000, other=4)
    order = np.random.default_rng(seed).permutation(len(student))
    assert linear_cka(student[order], teacher[order]) == pytest.approx(linear_cka(student, teacher))
    assert linear_cka(teacher, student) == pytest.approx(linear_cka(student, teacher))


@settings(max_examples=25, deadline=None)
@given(st.floats(-100, 100), st.integers(4, 40))
def test_a_side_that_does_not_vary_has_no_cka(value: float, points: int) -> None:
    assert linear_cka(np.full((points, 5), value), states(0, points)) == 0
    assert linear_cka(np.full((points, 5), value), np.full((points, 6), value)) == 0


@settings(max_examples=25, deadline=None)
@given(st.floats(0, np.pi), SEEDS)
def test_an_angle_is_the_one_by_which_a_state_was_turned(angle: float, seed: int) -> None:
    student = np.zeros((3, 6))
    student[:, 0] = [1, 5, 0.01]
    teacher = np.zeros((3, 6))
    teacher[:, 0], teacher[:, 1] = np.cos(angle), np.sin(angle)
    turned = rotation(seed)
    centre = states(seed, 1)[0]
    found = mean_geodesic_angle(student @ turned + centre, teacher @ turned + centre, centre=centre)
    assert found == pytest.approx(angle, abs=1e-6)


def test_small_angles_keep_their_digits() -> None:
    student, teacher = np.array([[1.0, 0.0]]), np.array([[np.cos(1e-9), np.sin(1e-9)]])
    assert mean_geodesic_angle(student, teacher) == pytest.approx(1e-9, rel=1e-6)
    assert mean_geodesic_angle(student, -teacher) == pytest.approx(np.pi)


def test_a_mean_angle_is_the_mean_of_the_angles() -> None:
    student = np.array([[1.0, 0.0], [1.0, 0.0]])
    teacher = np.array([[0.0, 2.0], [3.0, 0.0]])
    assert measures.geodesic_angles(student, teacher) == pytest.approx([np.pi / 2, 0])
    assert mean_geodesic_angle(student, teacher) == pytest.approx(np.pi / 4)


@pytest.mark.parametrize("points", [40, 1100])
def test_shared_neighbours_are_those_of_another_search(points: int) -> None:
    # 1,100 points are more than one block of rows.
    student, teacher = pair(5, points=points, other=4)
    near = [
        NearestNeighbors(n_neighbors=7, metric="cosine").fit(side).kneighbors(return_distance=False)
        for side in (student, teacher)
    ]
    shared = np.mean([len(set(mine) & set(theirs)) / 7 for mine, theirs in zip(*near, strict=True)])
    assert mutual_knn(student, teacher, neighbours=7) == pytest.approx(shared, abs=0.001)


def test_a_side_shares_all_neighbours_with_itself_and_few_with_strangers() -> None:
    student = states(1, 300)
    assert mutual_knn(student, 3 * student @ rotation(2)) == 1
    assert mutual_knn(student, states(9, 300)) == pytest.approx(10 / 299, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_procrustes_finds_the_rotation_that_was_applied(seed: int) -> None:
    student, turned = states(seed % 1000), rotation(seed)
    assert procrustes(student, student @ turned) == pytest.approx(turned, abs=1e-8)


def test_procrustes_is_that_of_scipy_and_between_widths_still_orthogonal() -> None:
    student, teacher = pair(7)
    assert procrustes(student, teacher) == pytest.approx(linalg.orthogonal_procrustes(student, teacher)[0])
    wider = procrustes(student, pair(7, other=9)[1])
    assert wider.shape == (6, 9)
    assert wider @ wider.T == pytest.approx(np.eye(6), abs=1e-10)


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_effective_rank_counts_directions_of_equal_size(directions: int) -> None:
    # Columns of a Hadamard matrix are centred, orthogonal and of one length.
    rows = np.zeros((16, 8))
    rows[:, :directions] = linalg.hadamard(16)[:, 1 : 1 + directions]
    assert effective_rank(rows + 3) == pytest.approx(directions)


def test_states_that_do_not_vary_have_the_smallest_rank() -> None:
    assert effective_rank(np.ones((5, 3))) == 1


@pytest.mark.parametrize(
    "measure", [measures.linear_cka, measures.mutual_knn, measures.mean_geodesic_angle, measures.procrustes]
)
def test_sides_that_do_not_pair_up_are_refused(measure: Callable[[np.ndarray, np.ndarray], object]) -> None:
    with pytest.raises(ShapeError, match="do not pair up"):
        measure(states(0, 20), states(0, 21))
    with pytest.raises(ShapeError, match="points"):
        measure(states(0, 0), states(0, 0))


def test_too_few_points_and_unequal_widths_are_refused_with_what_is_needed() -> None:
    with pytest.raises(ShapeError, match="at least 4"):
        linear_cka(states(0, 3), states(1, 3))
    with pytest.raises(ShapeError, match="at least 11"):
        mutual_knn(states(0, 10), states(1, 10))
    with pytest.raises(ShapeError, match="project the student's first"):
        measures.mean_geodesic_angle(states(0, 5, 3), states(0, 5, 4))
    with pytest.raises(ShapeError, match="at least 2"):
        effective_rank(states(0, 1))
