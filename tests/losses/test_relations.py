"""Losses that compare how points lie to each other, each beside loops, NumPy or SciPy in double precision."""

import itertools
import math

import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped
from pydantic import ValidationError
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from core.alignment.measures import linear_cka
from core.config import Rkd
from core.losses import cka, gram, procrustes, rkd, similarity_preserving

checked = jaxtyped(typechecker=beartype)
cka_loss = checked(cka.cka_loss)
gram_loss = checked(gram.gram_loss)
procrustes_loss = checked(procrustes.procrustes_loss)
rkd_loss = checked(rkd.rkd_loss)
similarity_preserving_loss = checked(similarity_preserving.similarity_preserving_loss)

FEW_AND_MANY = pytest.mark.parametrize(("points", "width"), [(4, 9), (9, 9), (30, 5), (2, 7)])


def sides(points: int = 8, width: int = 5, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, points, width, generator=generator)
    # Away from the origin and stretched, as states are.
    return 2 * student + 0.5, teacher * torch.linspace(0.5, 3, width) - 0.3


def doubles(student: Tensor, teacher: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return student.double().numpy(), teacher.double().numpy()


def rotation(width: int, seed: int = 3) -> Tensor:
    return torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))[0]


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    loss.backward()
    assert leaf.grad is not None
    assert bool(torch.isfinite(leaf.grad).all())
    return leaf.grad


def huber(apart: float) -> float:
    return apart**2 / 2 if abs(apart) < 1 else abs(apart) - 0.5


def relations(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances in units of their mean over pairs of two points, and cosines of the angles at the first."""
    count = len(states)
    distances = np.array([[math.dist(a, b) for b in states] for a in states])
    distances /= sum(distances[i, j] for i, j in itertools.permutations(range(count), 2)) / (count * (count - 1))
    cosines = np.zeros((count, count, count))
    for i, j, k in itertools.product(range(count), repeat=3):
        if i not in (j, k):
            one, other = states[j] - states[i], states[k] - states[i]
            cosines[i, j, k] = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    return distances, cosines


@pytest.mark.parametrize(("distance", "angle"), [(1.0, 2.0), (1.0, 0.0), (0.0, 1.0), (25.0, 50.0)])
def test_relational_distillation_is_the_huber_distance_of_distances_and_angles(distance: float, angle: float) -> None:
    student, teacher = sides(points=6)
    mine, theirs = (relations(side) for side in doubles(student, teacher))
    parts = [
        np.mean([huber(a - b) for a, b in zip(one.flat, other.flat, strict=True)])
        for one, other in zip(mine, theirs, strict=True)
    ]
    found = rkd_loss(student, teacher, distance=distance, angle=angle, points=64)
    assert float(found) == pytest.approx(distance * parts[0] + angle * parts[1], rel=1e-5)


def test_relational_distillation_knows_no_place_rotation_or_scale() -> None:
    _, teacher = sides()
    moved = 7 * teacher @ rotation(5) + 4
    assert float(rkd_loss(moved, teacher, distance=1.0, angle=2.0, points=64)) == pytest.approx(0, abs=1e-8)


def test_relational_distillation_takes_at_most_so_many_points_evenly() -> None:
    student, teacher = sides(points=10)
    taken = [0, 2, 5, 7]  # 10/4 apart, rounded down
    expected = rkd_loss(student[taken], teacher[taken], distance=1.0, angle=2.0, points=64)
    assert torch.equal(rkd_loss(student, teacher, distance=1.0, angle=2.0, points=4), expected)


def test_points_that_coincide_leave_a_finite_gradient() -> None:
    _, teacher = sides()
    for student in (teacher[[0, 0, 1, 1, 2, 3, 3, 3]], torch.ones_like(teacher)):
        leaf = student.clone().requires_grad_()
        assert float(gradient(rkd_loss(leaf, teacher, distance=1.0, angle=2.0, points=64), leaf).abs().max()) < 1e9


def test_relational_distillation_that_compares_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="compares nothing"):
        Rkd(distance=0, angle=0)


@FEW_AND_MANY
def test_similarities_are_compared_row_by_row(points: int, width: int) -> None:
    student, teacher = sides(points, width)
    rows = []
    for states in doubles(student, teacher):
        similarities = np.array([[a @ b for b in states] for a in states])
        rows.append(np.array([row / math.sqrt(row @ row) for row in similarities]))
    expected = np.linalg.norm(rows[0] - rows[1], "fro") ** 2 / points**2
    assert float(similarity_preserving_loss(student, teacher, points=64)) == pytest.approx(expected, rel=1e-5)


def test_similarities_know_no_rotation_or_scale_but_the_origin() -> None:
    _, teacher = sides()
    assert float(similarity_preserving_loss(7 * teacher @ rotation(5), teacher, points=64)) == pytest.approx(
        0, abs=1e-9
    )
    assert float(similarity_preserving_loss(teacher + 5, teacher, points=64)) > 0.01


def test_similarities_take_at_most_so_many_points_evenly() -> None:
    student, teacher = sides(points=10)
    expected = similarity_preserving_loss(student[::5], teacher[::5], points=64)
    assert torch.equal(similarity_preserving_loss(student, teacher, points=2), expected)


def by_kernels(student: Tensor, teacher: Tensor) -> float:
    """Return one minus debiased CKA from kernels of points by points that are U-centred (Szekely and Rizzo 2014)."""

    def u_centred(states: np.ndarray) -> np.ndarray:
        points = len(states)
        kernel = states @ states.T
        np.fill_diagonal(kernel, 0)
        rows = kernel.sum(axis=1) / (points - 2)
        centred = kernel - rows[:, None] - rows[None] + kernel.sum() / ((points - 1) * (points - 2))
        np.fill_diagonal(centred, 0)
        return centred

    mine, theirs = (u_centred(side) for side in doubles(student, teacher))
    return float(1 - np.sum(mine * theirs) / math.sqrt(np.sum(mine**2) * np.sum(theirs**2)))


@pytest.mark.parametrize(("points", "width"), [(4, 9), (9, 9), (30, 5), (26, 384), (300, 64)])
def test_kernel_alignment_is_that_of_u_centred_kernels_and_the_measure_of_the_same_name(
    points: int, width: int
) -> None:
    student, teacher = sides(points, width)
    expected = by_kernels(student, teacher)
    assert float(cka_loss(student, teacher)) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert 1 - linear_cka(*doubles(student, teacher)) == pytest.approx(expected, rel=1e-9)


def test_kernel_alignment_tells_a_related_side_from_an_unrelated_one_where_points_are_few() -> None:
    """Twenty-six tokens of width 384: the usual estimate is above 0.9 for either."""
    generator = torch.Generator().manual_seed(0)
    teacher, other, noise = torch.randn(3, 26, 384, generator=generator)
    assert float(cka_loss(other, teacher)) == pytest.approx(1, abs=0.15)
    # Half of the related side's variance is the teacher's: 1 - 1 / sqrt(2) without the noise's own overlap.
    assert float(cka_loss(teacher + noise, teacher)) == pytest.approx(0.45, abs=0.1)


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-4])
def test_kernel_alignment_keeps_its_digits_near_the_teacher(size: float) -> None:
    teacher = sides(40, 5)[1]
    student = teacher + size * torch.randn(40, 5, generator=torch.Generator().manual_seed(9))
    assert float(cka_loss(student, teacher)) == pytest.approx(by_kernels(student, teacher), rel=2e-3)


def test_the_gradient_of_kernel_alignment_is_that_of_double_precision() -> None:
    student, teacher = sides(12, 30)
    leaf, precise = student.clone().requires_grad_(), student.double().requires_grad_()
    found = gradient(cka_loss(leaf, teacher), leaf)
    off = 1 - torch.eye(12, dtype=torch.float64)

    def u_centred(states: Tensor) -> Tensor:
        kernel = off * (states @ states.T)
        rows = kernel.sum(dim=1) / 10
        return off * (kernel - rows[:, None] - rows[None] + kernel.sum() / 110)

    mine, theirs = u_centred(precise), u_centred(teacher.double())
    expected = gradient(1 - (mine * theirs).sum() / (mine.norm() * theirs.norm()), precise)
    assert torch.allclose(found.double(), expected, atol=1e-6, rtol=1e-4)


def test_fewer_than_four_points_have_no_debiased_alignment_and_no_gradient() -> None:
    student, teacher = sides(3, 7)
    leaf = student.clone().requires_grad_()
    loss = cka_loss(leaf, teacher)
    assert float(loss.detach()) == 1
    assert not gradient(loss, leaf).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-3, 3))
def test_kernel_alignment_knows_no_place_rotation_or_scale(seed: int, scale: float, shift: float) -> None:
    student, teacher = sides(seed=seed)
    expected = float(cka_loss(student, teacher))
    moved = scale * student @ rotation(5, seed) + shift
    assert float(cka_loss(moved, teacher)) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert float(cka_loss(teacher @ rotation(5, seed), teacher)) == pytest.approx(0, abs=1e-6)


@FEW_AND_MANY
def test_procrustes_is_what_the_best_rotation_leaves(points: int, width: int) -> None:
    student, teacher = sides(points, width)
    h, g = (side - side.mean(axis=0) for side in doubles(student, teacher))
    best, nuclear = orthogonal_procrustes(h, g)
    left = np.linalg.norm(h @ best - g) ** 2 / np.linalg.norm(g) ** 2
    stated = (np.linalg.norm(h) ** 2 + np.linalg.norm(g) ** 2 - 2 * nuclear) / np.linalg.norm(g) ** 2
    assert float(procrustes_loss(student, teacher)) == pytest.approx(left, rel=1e-4)
    assert left == pytest.approx(stated, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_procrustes_knows_no_place_or_rotation_but_scale(seed: int, shift: float) -> None:
    _, teacher = sides(seed=seed)
    moved = teacher @ rotation(5, seed) + shift
    assert float(procrustes_loss(moved, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(procrustes_loss(3 * moved, teacher)) == pytest.approx(4, rel=1e-4)


def nuclear_gradient(student: Tensor, teacher: Tensor) -> np.ndarray:
    """Return the gradient of the stated formula by central differences in double precision."""
    h, g = doubles(student, teacher)

    def value(states: np.ndarray) -> float:
        mine, theirs = states - states.mean(axis=0), g - g.mean(axis=0)
        nuclear = np.linalg.svd(mine.T @ theirs, compute_uv=False).sum()
        return ((mine**2).sum() + (theirs**2).sum() - 2 * nuclear) / (theirs**2).sum()

    slopes = np.zeros_like(h)
    for place in np.ndindex(*h.shape):
        step = np.zeros_like(h)
        step[place] = 1e-5
        slopes[place] = (value(h + step) - value(h - step)) / 2e-5
    return slopes


@pytest.mark.parametrize(("points", "width"), [(4, 9), (20, 4)])
def test_the_gradient_of_procrustes_is_that_of_the_nuclear_norm(points: int, width: int) -> None:
    student, teacher = sides(points, width)
    leaf = student.clone().requires_grad_()
    found = gradient(procrustes_loss(leaf, teacher), leaf)
    assert found.numpy() == pytest.approx(nuclear_gradient(student, teacher), abs=1e-4)


@pytest.mark.parametrize("loss", [cka_loss, gram_loss, procrustes_loss])
def test_gradients_stay_finite_for_sides_of_low_rank(loss) -> None:
    _, teacher = sides(points=12, width=6)
    line = torch.outer(torch.arange(12.0), torch.ones(6))
    for student in (teacher, line, torch.zeros_like(teacher), teacher.mean(dim=0).expand(12, 6), teacher @ rotation(6)):
        for other in (teacher, line, torch.ones_like(teacher)):
            leaf = student.clone().requires_grad_()
            gradient(loss(leaf, other), leaf)


def test_procrustes_of_states_that_are_not_finite_is_not_finite_rather_than_an_error() -> None:
    student, teacher = sides()
    student[0, 0] = torch.nan
    assert math.isnan(float(procrustes_loss(student, teacher)))


@FEW_AND_MANY
def test_gram_is_how_far_apart_all_inner_products_are(points: int, width: int) -> None:
    student, teacher = sides(points, width)
    h, g = doubles(student, teacher)
    expected = np.linalg.norm(h @ h.T - g @ g.T) / np.linalg.norm(g @ g.T)
    assert float(gram_loss(student, teacher)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5])
def test_gram_keeps_its_digits_near_the_teacher(size: float) -> None:
    teacher = sides(40, 5)[1].double()
    student = (teacher + size * torch.randn(40, 5, generator=torch.Generator().manual_seed(9))).float()
    h, g = doubles(student, teacher.float())
    expected = np.linalg.norm(h @ h.T - g @ g.T) / np.linalg.norm(g @ g.T)
    assert float(gram_loss(student, teacher.float())) == pytest.approx(expected, rel=1e-2)


def test_gram_knows_no_rotation_but_scale() -> None:
    _, teacher = sides(30, 5)
    assert float(gram_loss(teacher @ rotation(5), teacher)) == pytest.approx(0, abs=1e-3)
    assert float(gram_loss(2 * teacher, teacher)) == pytest.approx(3, rel=1e-5)
    assert float(gram_loss(torch.zeros_like(teacher), teacher)) == pytest.approx(1, rel=1e-5)


def test_what_needs_the_width_only_makes_nothing_of_points_by_points() -> None:
    student, teacher = sides(60_000, 3)
    # 60,000 x 60,000 numbers would take 14 GB.
    for loss in (cka_loss, gram_loss, procrustes_loss):
        assert float(loss(student, teacher)) > 0.01


@pytest.mark.parametrize("loss", [cka.cka_loss, gram.gram_loss, procrustes.procrustes_loss])
def test_inner_products_are_in_float32_also_under_autocast(loss) -> None:
    student, teacher = sides(64, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(student, teacher)
    assert torch.equal(found, loss(student, teacher))


def test_a_zero_kernel_alignment_can_be_another_geometry_where_procrustes_and_gram_are_not() -> None:
    _, teacher = sides()
    assert float(cka_loss(5 * teacher, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(procrustes_loss(5 * teacher, teacher)) > 1
    assert float(gram_loss(5 * teacher, teacher)) > 1
