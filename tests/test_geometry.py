"""The sphere beside double precision and geoopt, where float32 is at its worst: near 0 and near pi."""

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
from tests.geoopt_sphere import SPHERE, transported

checked = jaxtyped(typechecker=beartype)
chord_distance = checked(geometry.chord_distance)
geodesic_angle = checked(geometry.geodesic_angle)
gram_distance_squared = checked(geometry.gram_distance_squared)
log_map = checked(geometry.log_map)
on_sphere = checked(geometry.on_sphere)
parallel_transport = checked(geometry.parallel_transport)
thinned = checked(geometry.thinned)
way = checked(geometry.way)

FROM_NEAR_TO_OPPOSITE = pytest.mark.parametrize("angle", [1e-6, 1e-4, 0.0099, 0.0101, 0.5, 2.0, 3.0, math.pi - 0.01])


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


def points(seed: int, *, count: int = 6, width: int = 7) -> Tensor:
    return on_sphere(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


@FROM_NEAR_TO_OPPOSITE
def test_the_log_map_is_geoopts_in_double_precision(angle: float) -> None:
    start, end = turned(angle)
    found = log_map(start, end)
    expected = np.zeros(16)
    expected[1] = angle
    assert found[0].numpy() == pytest.approx(expected, rel=1e-5, abs=1e-7 + 3e-7 * angle)
    start, end = points(0).double(), points(1).double()
    assert log_map(start.float(), end.float()).numpy() == pytest.approx(SPHERE.logmap(start, end).numpy(), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 3))
def test_going_along_the_log_map_arrives(seed: int, angle: float) -> None:
    start = points(seed)
    direction = SPHERE.proju(start, points(seed + 1))
    end = SPHERE.expmap(start, angle * direction / direction.norm(dim=1, keepdim=True))
    vector = log_map(start, end)
    assert geodesic_angle(start, end).numpy() == pytest.approx(vector.norm(dim=1).numpy(), rel=1e-4)
    assert SPHERE.expmap(start, vector).numpy() == pytest.approx(end.numpy(), abs=1e-5)
    assert (vector * start).sum(dim=1).abs().max() < 1e-5


def test_a_short_step_from_anywhere_is_tangent_to_the_last_digit() -> None:
    start = points(0)
    direction = SPHERE.proju(start, points(1))
    found = log_map(start, on_sphere(start + 1e-4 * direction / direction.norm(dim=1, keepdim=True)))
    assert float(((found * start).sum(dim=1) / found.norm(dim=1)).abs().max()) < 1e-5


@FROM_NEAR_TO_OPPOSITE
def test_a_way_has_length_one_and_leads_along_the_log_map(angle: float) -> None:
    start, end = turned(angle)
    length = min(1.0, angle / geometry.SMALLEST_SINE)
    assert way(start, end)[0, :2].tolist() == pytest.approx([0, length], abs=1e-4)


def test_equal_and_opposite_points_have_no_way_between_them() -> None:
    start = points(0)
    for end in (start, -start):
        assert log_map(start, end).norm(dim=1).tolist() == pytest.approx([0] * 6, abs=1e-3)
        assert way(start, end).norm(dim=1).tolist() == pytest.approx([0] * 6, abs=1e-3)


@FROM_NEAR_TO_OPPOSITE
def test_a_transported_vector_keeps_its_length_and_is_tangent_at_the_end(angle: float) -> None:
    start, end = turned(angle)
    tangent = torch.randn(1, 16, generator=torch.Generator().manual_seed(4))
    tangent = tangent - (tangent * start).sum() * start
    found = parallel_transport(tangent, start=start, end=end)
    assert float(found.norm()) == pytest.approx(float(tangent.norm()), rel=1e-5)
    assert float((found * end).sum()) == pytest.approx(0, abs=1e-5)
    # The plane of the first two axes turns by the angle; all at right angles to it stays.
    expected = tangent[0].tolist()
    expected[:2] = [-math.sin(angle) * expected[1], math.cos(angle) * expected[1]]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_vector_along_the_way_stays_along_it_and_one_across_it_stays_as_it_is() -> None:
    start, end = points(0), points(1)
    there, back = log_map(start, end), log_map(end, start)
    assert parallel_transport(there, start=start, end=end).numpy() == pytest.approx(-back.numpy(), abs=1e-5)
    tangent = SPHERE.proju(start, points(2))
    expected = [transported(*rows).numpy() for rows in zip(start.double(), end.double(), tangent.double(), strict=True)]
    assert parallel_transport(tangent, start=start, end=end).numpy() == pytest.approx(np.stack(expected), abs=1e-5)
    pole, equator, across = torch.eye(7)[:1], torch.eye(7)[1:2], torch.eye(7)[2:3]
    assert parallel_transport(across, start=pole, end=equator).tolist() == across.tolist()


def test_between_opposite_points_a_vector_stays_as_it_is() -> None:
    start, tangent = torch.eye(7)[:1], torch.eye(7)[1:2]
    assert parallel_transport(tangent, start=start, end=-start).tolist() == tangent.tolist()


@pytest.mark.parametrize("angle", [0.0, 1e-20, 1e-7, 1e-3, 1.0, math.pi - 1e-3, math.pi - 1e-7, math.pi])
def test_the_gradients_of_ways_are_finite_and_bounded_at_every_angle(angle: float) -> None:
    start, end = (side.requires_grad_() for side in turned(angle))
    tangent = log_map(start, end)
    (parallel_transport(tangent, start=start, end=end) + way(start, end)).sum().backward()
    for side in (start, end):
        assert side.grad is not None
        assert bool(torch.isfinite(side.grad).all())
        assert float(side.grad.norm()) < 40 / geometry.SMALLEST_SINE


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.floats(1e-4, 10))
def test_grams_are_apart_as_they_are_in_double_precision(seed: int, count: int, width: int, size: float) -> None:
    random = np.random.default_rng(seed)
    teacher = random.normal(size=(count, width)).astype(np.float32)
    student = teacher + (size * random.normal(size=(count, width))).astype(np.float32)
    h, g = student.astype(np.float64), teacher.astype(np.float64)
    expected = np.linalg.norm(h @ h.T - g @ g.T) ** 2
    scale = float(np.linalg.norm(h + g) ** 2 * np.linalg.norm(h - g) ** 2)
    assert float(gram_distance_squared(torch.tensor(student), torch.tensor(teacher))) == pytest.approx(
        expected, rel=1e-4, abs=1e-5 * scale
    )


@pytest.mark.parametrize(
    ("count", "most", "taken"),
    [(3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (10, 5, [0, 2, 4, 6, 8]), (7, 3, [0, 2, 4]), (5, 4, [0, 1, 2, 3])],
)
def test_points_are_thinned_evenly_in_their_order(count: int, most: int, taken: list[int]) -> None:
    assert thinned(torch.arange(float(count))[:, None], most)[:, 0].tolist() == taken


def test_lengths_must_make_up_the_points() -> None:
    geometry.require_lengths(torch.ones(5, 2), [2, 0, 3])
    with pytest.raises(ShapeError, match="Utterances of 2, 2 points do not make up 5 states"):
        geometry.require_lengths(torch.ones(5, 2), [2, 2])
