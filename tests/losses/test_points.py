"""Losses that compare paired points: mean squared error, hints, contrast and the null, each beside a loop."""

import math

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import Tensor

from core.config import Hint, LossSettings, Mse, ProjectionOnly
from core.errors import ShapeError
from core.losses import FORMULAS, hint, infonce, mse, projection_only
from core.signals import States
from tests.losses.checked import mean_of

checked = jaxtyped(typechecker=beartype)
hint_loss = mean_of(hint.hint_loss)
infonce_loss = checked(infonce.infonce_loss)
mse_loss = checked(mse.mse_loss)
projection_only_loss = mean_of(projection_only.projection_only_loss)


def sides(points: int = 9, width: int = 5, *, seed: int = 0, scale: float = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, points, width, generator=generator)
    return student, teacher


def doubles(student: Tensor, teacher: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return student.double().numpy(), teacher.double().numpy()


def test_mean_squared_error_is_the_distance_as_a_share_of_the_teachers_energy() -> None:
    student, teacher = sides()
    h, g = doubles(student, teacher)
    apart = sum(np.sum((mine - theirs) ** 2) for mine, theirs in zip(h, g, strict=True)) / len(h)
    energy = sum(np.sum(theirs**2) for theirs in g) / len(g)
    assert float(mse_loss(student, teacher)) == pytest.approx(apart / energy, rel=1e-5)


def test_a_student_at_the_origin_has_lost_all_of_the_teachers_energy() -> None:
    _, teacher = sides()
    assert float(mse_loss(torch.zeros_like(teacher), teacher)) == pytest.approx(1, rel=1e-6)
    assert float(mse_loss(-teacher, teacher)) == pytest.approx(4, rel=1e-6)


def test_mean_squared_error_knows_no_scale_and_hints_do() -> None:
    student, teacher = sides()
    assert float(mse_loss(10 * student, 10 * teacher)) == pytest.approx(float(mse_loss(student, teacher)), rel=1e-5)
    assert float(hint_loss(10 * student, 10 * teacher)) == pytest.approx(
        100 * float(hint_loss(student, teacher)), rel=1e-5
    )


def test_a_teacher_that_is_silent_leaves_a_finite_loss() -> None:
    student = torch.ones(2, 3, requires_grad=True)
    mse_loss(student, torch.zeros(2, 3)).backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


def test_a_hint_is_half_the_papers_sum_of_squares_spread_over_the_width() -> None:
    student, teacher = sides(width=7)
    of_each_example = [
        0.5 * math.dist(mine, theirs) ** 2 for mine, theirs in zip(*doubles(student, teacher), strict=True)
    ]
    assert float(hint_loss(student, teacher)) == pytest.approx(np.mean(of_each_example) / 7, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_contrast_is_the_surprise_at_ones_own_teacher_state(temperature: float) -> None:
    student, teacher = sides(points=6)
    h, g = doubles(student, teacher)
    surprises = []
    for i in range(6):
        cosines = [h[i] @ other / (np.linalg.norm(h[i]) * np.linalg.norm(other)) for other in g]
        weights = [math.exp(cosine / temperature) for cosine in cosines]
        surprises.append(-math.log(weights[i] / sum(weights)))
    found = infonce_loss(student, teacher, temperature=temperature, points=100)
    assert float(found) == pytest.approx(np.mean(surprises), rel=1e-5)


def test_contrast_of_states_that_all_look_alike_is_a_guess() -> None:
    teacher = torch.ones(8, 5)
    assert float(infonce_loss(teacher, teacher, temperature=0.1, points=100)) == pytest.approx(math.log(8), rel=1e-5)


def test_contrast_asks_the_student_for_its_teacher_and_not_the_reverse() -> None:
    student, teacher = sides()
    one = float(infonce_loss(student, teacher, temperature=0.1, points=100))
    assert one != pytest.approx(float(infonce_loss(teacher, student, temperature=0.1, points=100)), rel=0.01)


def test_contrast_takes_at_most_so_many_points_evenly() -> None:
    student, teacher = sides(points=9)
    taken = [0, 2, 4, 6]  # 9/4 apart, rounded down
    expected = infonce_loss(student[taken], teacher[taken], temperature=0.1, points=100)
    assert torch.equal(infonce_loss(student, teacher, temperature=0.1, points=4), expected)


def test_contrast_is_in_float32_also_under_autocast() -> None:
    student, teacher = sides(points=64, width=32)
    expected = infonce_loss(student, teacher, temperature=0.1, points=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = infonce_loss(student, teacher, temperature=0.1, points=64)
    assert torch.equal(found, expected)


def test_the_null_is_the_mean_angle() -> None:
    student, teacher = sides()
    h, g = doubles(student, teacher)
    angles = [
        math.acos(mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs)))
        for mine, theirs in zip(h, g, strict=True)
    ]
    assert float(projection_only_loss(student, teacher)) == pytest.approx(np.mean(angles), rel=1e-5)


@pytest.mark.parametrize("kind", [Mse, Hint, ProjectionOnly])
def test_no_gradient_flows_into_the_teacher(kind: type[LossSettings]) -> None:
    student, teacher = (side.requires_grad_() for side in sides())
    FORMULAS[kind](kind(), States(student, [len(student)]), States(teacher, [len(teacher)])).mean().backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("kind", [Mse, Hint, ProjectionOnly])
def test_sides_that_do_not_pair_up_are_refused(kind: type[LossSettings]) -> None:
    with pytest.raises(ShapeError, match="do not pair up"):
        FORMULAS[kind](kind(), States(torch.ones(3, 4), [3]), States(torch.ones(2, 4), [2]))
