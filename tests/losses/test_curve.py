"""Curves on the sphere beside geoopt's maps in double precision, and beside circles whose curvature is known."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import Tensor

from core.errors import ShapeError
from core.losses import curve
from tests.geoopt_sphere import SPHERE, transported

curve_loss = jaxtyped(typechecker=beartype)(curve.curve_loss)
bends = jaxtyped(typechecker=beartype)(curve.bends)


def circle(radius: float, *, step: float, points: int, width: int = 6) -> Tensor:
    """Return points on a circle around the pole, `radius` radians from it, `step` radians of longitude apart."""
    longitude = step * np.arange(points)
    rows = np.zeros((points, width))
    rows[:, 0] = math.sin(radius) * np.cos(longitude)
    rows[:, 1] = math.sin(radius) * np.sin(longitude)
    rows[:, 2] = math.cos(radius)
    return torch.tensor(rows, dtype=torch.float32)


def walk(points: int, *, seed: int, stride: float = 0.7, width: int = 6) -> Tensor:
    """Return states of a random walk, of lengths other than one."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * (
        torch.randn(width, generator=generator) + stride * torch.randn(points, width, generator=generator).cumsum(0)
    )


def by_geoopt(student: Tensor, teacher: Tensor, lengths: Sequence[int], *, velocity: float, curvature: float) -> float:
    """Return the loss in double precision, utterance by utterance and point by point, with geoopt's maps."""
    angles, velocities, curvatures = [], [], []
    for mine, theirs in zip(torch.split(student, list(lengths)), torch.split(teacher, list(lengths)), strict=True):
        u, v = (SPHERE.projx(side.double()) for side in (mine, theirs))
        angles += [float(SPHERE.dist(a, b)) for a, b in zip(u, v, strict=True)]
        for t in range(len(u) - 1):
            carried = transported(u[t], v[t], SPHERE.logmap(u[t], u[t + 1]))
            velocities.append(float((carried - SPHERE.logmap(v[t], v[t + 1])).norm()))
        for t in range(1, len(u) - 1):
            curvatures.append(abs(turn(u[t - 1], u[t], u[t + 1]) - turn(v[t - 1], v[t], v[t + 1])))
    total = np.mean(angles)
    total += velocity * np.mean(velocities) if velocities else 0
    return float(total + (curvature * np.mean(curvatures) if curvatures else 0))


def turn(before: Tensor, here: Tensor, after: Tensor) -> float:
    """Return 2 sin of half the angle by which a path turns, from the interior angle between the two ways."""
    back, on = SPHERE.logmap(here, before), SPHERE.logmap(here, after)
    inner = math.acos(max(-1.0, min(1.0, float(back @ on / (back.norm() * on.norm())))))
    return 2 * math.sin((math.pi - inner) / 2)


@pytest.mark.parametrize("lengths", [[9], [4, 5], [1, 2, 3, 3], [1] * 9])
@pytest.mark.parametrize(("velocity", "curvature"), [(0.5, 0.1), (0.0, 1.0), (3.0, 0.0), (0.0, 0.0)])
def test_it_is_the_sum_over_points_velocities_and_bends(lengths: list[int], velocity: float, curvature: float) -> None:
    student, teacher = walk(9, seed=0), walk(9, seed=1)
    expected = by_geoopt(student, teacher, lengths, velocity=velocity, curvature=curvature)
    found = curve_loss(student, teacher, lengths, velocity=velocity, curvature=curvature)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_no_step_leads_from_one_utterance_to_the_next() -> None:
    student, teacher = walk(8, seed=0), walk(8, seed=1)
    swapped = [4, 5, 6, 7, 0, 1, 2, 3]
    factors = {"velocity": 1.0, "curvature": 1.0}
    expected = float(curve_loss(student, teacher, [4, 4], **factors))
    assert float(curve_loss(student[swapped], teacher[swapped], [4, 4], **factors)) == pytest.approx(expected, rel=1e-6)
    assert float(curve_loss(student, teacher, [8], **factors)) != pytest.approx(expected, rel=1e-3)


def test_order_in_time_matters() -> None:
    student, teacher = walk(8, seed=0), walk(8, seed=1)
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    one = curve_loss(student, teacher, [8], velocity=1.0, curvature=0.0)
    assert float(curve_loss(student[order], teacher[order], [8], velocity=1.0, curvature=0.0)) != pytest.approx(
        float(one), rel=0.01
    )


@pytest.mark.parametrize("step", [0.01, 0.1, 1.0, 2.5])
def test_a_great_circle_does_not_bend(step: float) -> None:
    points = circle(math.pi / 2, step=step, points=6)
    assert bends(points, torch.arange(1, 5)).tolist() == pytest.approx([0] * 4, abs=2e-5 / step)


@pytest.mark.parametrize("radius", [0.3, 0.8, 1.2])
def test_the_bend_of_a_small_circle_over_its_step_tends_to_the_geodesic_curvature(radius: float) -> None:
    points = circle(radius, step=0.02, points=5)
    step = 0.02 * math.sin(radius)
    curvatures = bends(points, torch.arange(1, 4)) / step
    assert curvatures.tolist() == pytest.approx([1 / math.tan(radius)] * 3, rel=0.01)


@pytest.mark.parametrize("radius", [0.3, 0.8, 1.2])
@pytest.mark.parametrize("step", [0.2, 1.0, 2.0])
def test_the_bend_of_a_small_circle_is_that_of_spherical_trigonometry(radius: float, step: float) -> None:
    # Pole and two neighbours make an isosceles triangle; each base angle is half of the angle inside the path.
    base = math.atan2(1, math.cos(radius) * math.tan(step / 2))
    expected = 2 * math.sin((math.pi - 2 * base) / 2)
    assert bends(circle(radius, step=step, points=5), torch.arange(1, 4)).tolist() == pytest.approx(
        [expected] * 3, rel=1e-4
    )


def test_a_path_that_goes_back_bends_by_two() -> None:
    there = circle(math.pi / 2, step=0.5, points=2)
    assert bends(torch.stack([there[0], there[1], there[0]]), torch.tensor([1])).tolist() == pytest.approx([2])


def test_velocities_are_compared_after_they_were_carried() -> None:
    # Both go along the equator by the same step, a quarter turn ahead of each other: at rest, but for the place.
    student = circle(math.pi / 2, step=0.3, points=5)
    teacher = student[:, [1, 0, 2, 3, 4, 5]] * torch.tensor([-1.0, 1, 1, 1, 1, 1])
    apart = curve_loss(student, teacher, [5], velocity=1.0, curvature=1.0)
    assert float(apart) == pytest.approx(math.pi / 2, abs=1e-5)


def finite_gradient(student: Tensor, teacher: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    curve_loss(student, teacher, [len(student)], velocity=1.0, curvature=1.0).backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    return student.grad


def test_equal_curves_are_at_the_minimum_and_pull_with_a_bounded_gradient() -> None:
    teacher = walk(8, seed=1)
    assert float(curve_loss(teacher, teacher, [8], velocity=1.0, curvature=1.0)) == pytest.approx(0, abs=1e-6)
    # A norm has a kink at zero; what rounding leaves there has a direction, but no more than the length of one.
    assert float(finite_gradient(teacher, teacher).norm()) < 1


def test_gradients_stay_finite_and_bounded_where_points_rest_or_are_opposite() -> None:
    teacher = walk(6, seed=1)
    opposite, nearly = teacher.clone(), teacher.clone()
    opposite[3] = -opposite[2]
    nearly[3] = -nearly[2] + 1e-4
    places = [teacher, teacher[[0, 0, 0, 1, 2, 3]], -teacher, opposite, nearly, teacher + 1e-6]
    for student, other in itertools.product(places, places):
        assert float(finite_gradient(student, other).abs().max()) < 1e4


def test_states_without_length_have_a_finite_gradient() -> None:
    teacher = walk(6, seed=1)
    finite_gradient(torch.zeros_like(teacher), teacher)


def test_the_gradient_is_that_of_finite_differences() -> None:
    student, teacher = walk(5, seed=0).double(), walk(5, seed=1)
    direction = walk(5, seed=2).double()

    def value(step: float) -> float:
        return by_geoopt(student + step * direction, teacher.double(), [5], velocity=0.5, curvature=0.1)

    expected = (value(1e-5) - value(-1e-5)) / 2e-5
    leaf = student.float().requires_grad_()
    curve_loss(leaf, teacher, [5], velocity=0.5, curvature=0.1).backward()
    assert leaf.grad is not None
    assert float((leaf.grad * direction).sum()) == pytest.approx(expected, rel=1e-3)


def test_lengths_that_do_not_make_up_the_points_are_refused() -> None:
    with pytest.raises(ShapeError, match="do not make up 8 states"):
        curve_loss(walk(8, seed=0), walk(8, seed=1), [3, 4], velocity=1.0, curvature=1.0)
