"""Angles on the sphere beside double precision, where float32 is at its worst: near 0 and near pi."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor

from core import geometry
from core.errors import ShapeError

checked = jaxtyped(typechecker=beartype)
chord_distance = checked(geometry.chord_distance)
geodesic_angle = checked(geometry.geodesic_angle)
on_sphere = checked(geometry.on_sphere)


def turned(angle: float, *, width: int = 16) -> tuple[Tensor, Tensor]:
    """Return a unit row and the same row turned by an angle, rounded to float32 from double precision."""
    student, teacher = np.zeros((1, width)), np.zeros((1, width))
    student[0, 0] = 1
    teacher[0, 0], teacher[0, 1] = math.cos(angle), math.sin(angle)
    return torch.tensor(student, dtype=torch.float32), torch.tensor(teacher, dtype=torch.float32)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-4, 0.01, 0.5, math.pi / 2, 3.0, math.pi - 1e-4, math.pi - 1e-6])
def test_the_angle_is_the_one_that_was_turned(angle: float) -> None:
    assert float(geodesic_angle(*turned(angle))) == pytest.approx(angle, rel=2e-6, abs=1e-9)


def test_opposite_points_are_pi_apart_and_equal_ones_exactly_zero() -> None:
    point = on_sphere(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
    assert geodesic_angle(point, point).tolist() == [0.0] * 5
    assert geodesic_angle(point, -point).tolist() == pytest.approx([math.pi] * 5)


def test_arccos_would_have_lost_small_angles() -> None:
    student, teacher = turned(1e-4)
    assert float(torch.arccos((student * teacher).sum())) != pytest.approx(1e-4, rel=0.1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40))
def test_angles_of_any_states_are_those_of_double_precision(seed: int, width: int) -> None:
    random = np.random.default_rng(seed)
    student, teacher = random.normal(size=(2, 6, width)).astype(np.float32)
    u, v = (np.float64(side) / np.linalg.norm(np.float64(side), axis=1, keepdims=True) for side in (student, teacher))
    cosines = (u * v).sum(axis=1)
    sphere = on_sphere(torch.tensor(student)), on_sphere(torch.tensor(teacher))
    assert geodesic_angle(*sphere).numpy() == pytest.approx(np.arccos(np.clip(cosines, -1, 1)), abs=1e-4)
    assert chord_distance(*sphere).numpy() == pytest.approx(1 - cosines, abs=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1e-20, 1e-7, 1.0, math.pi])
def test_the_gradient_is_finite_at_every_angle(angle: float) -> None:
    student, teacher = turned(angle)
    student.requires_grad_()
    geodesic_angle(on_sphere(student), teacher).sum().backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    assert float(student.grad.norm()) <= 1.001


@pytest.mark.parametrize("angle", [1e-3, 0.5, 2.0, 3.1])
def test_the_gradient_turns_along_the_sphere_with_one_size_at_every_angle(angle: float) -> None:
    student, teacher = turned(angle)
    student.requires_grad_()
    geodesic_angle(on_sphere(student), teacher).sum().backward()
    assert student.grad is not None
    # Away from the teacher, at right angles to the state: radians per unit of way on a sphere of radius one.
    assert student.grad[0, :2].tolist() == pytest.approx([0, -1], abs=1e-3)


def test_a_state_without_length_has_no_direction_and_a_finite_gradient() -> None:
    student = torch.zeros(1, 4, requires_grad=True)
    geodesic_angle(on_sphere(student), torch.eye(4)[:1]).sum().backward()
    assert on_sphere(student).tolist() == [[0, 0, 0, 0]]
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_sphere_is_in_float32_whatever_the_models_run_in(dtype: torch.dtype) -> None:
    sphere = on_sphere(torch.tensor([[300.0, 400.0]], dtype=dtype))
    assert sphere.dtype == torch.float32
    assert sphere.tolist() == [pytest.approx([0.6, 0.8])]


@pytest.mark.parametrize("distance", [geometry.geodesic_angle, geometry.chord_distance])
def test_sides_that_do_not_pair_up_are_refused(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    for student, teacher in ((torch.ones(3, 4), torch.ones(2, 4)), (torch.ones(3, 4), torch.ones(3, 5))):
        with pytest.raises(ShapeError, match="do not pair up"):
            distance(student, teacher)
    with pytest.raises(ShapeError, match=r"\[points, width\]"):
        distance(torch.ones(4), torch.ones(4))
    with pytest.raises(ShapeError, match="every frame or token is padding"):
        distance(torch.ones(0, 4), torch.ones(0, 4))


def test_shapes_are_types() -> None:
    with pytest.raises(TypeCheckError):
        geodesic_angle(torch.ones(3, 4), torch.ones(3, 5))
