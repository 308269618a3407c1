"""The two parts of decoupled distillation beside probabilities in double precision, token by token."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from pydantic import ValidationError
from torch import Tensor

from core.config import Dkd
from core.losses import dkd
from tests.losses.checked import mean_of

dkd_loss = mean_of(dkd.dkd_loss)

TARGETS = torch.tensor([0, 7, 3, 3, 19])


def logits(seed: int, *, vocabulary: int = 20, size: float = 3) -> Tensor:
    return size * torch.randn(len(TARGETS), vocabulary, generator=torch.Generator().manual_seed(seed))


def loss(
    student: Tensor, teacher: Tensor, targets: Tensor = TARGETS, *, a: float = 1, b: float = 1, temperature: float = 1
) -> Tensor:
    return dkd_loss(
        student, teacher, targets, target_weight=float(a), other_weight=float(b), temperature=float(temperature)
    )


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(q * math.log(q / p) for q, p in zip(teacher, student, strict=True) if q > 0)


def by_token(student: Tensor, teacher: Tensor, temperature: float) -> list[tuple[float, float, float, float]]:
    """Return TCKD, NCKD, the teacher's probability of the target, and KL(teacher || student) of each token."""
    rows = []
    for s, t, target in zip(student, teacher, TARGETS.tolist(), strict=True):
        p, q = ((side.double() / temperature).softmax(0).tolist() for side in (s, t))
        p_target, q_target = p[target], q[target]
        p_others = [value / (1 - p_target) for place, value in enumerate(p) if place != target]
        q_others = [value / (1 - q_target) for place, value in enumerate(q) if place != target]
        about_target = divergence([q_target, 1 - q_target], [p_target, 1 - p_target])
        rows.append((about_target, divergence(q_others, p_others), q_target, divergence(q, p)))
    return rows


@pytest.mark.parametrize("temperature", [0.5, 1, 4])
@pytest.mark.parametrize(("a", "b"), [(1, 0), (0, 1), (1, 8), (2.5, 0.5)])
def test_it_is_the_weighted_sum_of_both_parts_times_the_squared_temperature(
    a: float, b: float, temperature: float
) -> None:
    student, teacher = logits(0), logits(1)
    rows = by_token(student, teacher, temperature)
    expected = temperature**2 * sum(a * target + b * others for target, others, _, _ in rows) / len(rows)
    assert float(loss(student, teacher, a=a, b=b, temperature=temperature)) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("temperature", [1, 4])
def test_soft_labels_are_the_first_part_and_the_second_by_what_the_teacher_leaves_to_the_others(
    temperature: float,
) -> None:
    student, teacher = logits(2), logits(3)
    for place, (_, _, q_target, whole) in enumerate(by_token(student, teacher, temperature)):
        row = slice(place, place + 1)
        found = loss(student[row], teacher[row], TARGETS[row], b=1 - q_target, temperature=temperature)
        assert float(found) == pytest.approx(temperature**2 * whole, rel=1e-5)


@pytest.mark.parametrize("lead", [20.0, 40.0, 80.0])
def test_a_target_that_takes_nearly_everything_keeps_its_digits(lead: float) -> None:
    # In float32, 1 - p of the student is 0 from a lead of 17 on, and the logarithm of it is not finite.
    student, teacher = torch.zeros(1, 4), torch.zeros(1, 4)
    student[0, 1], teacher[0, 1] = lead, 2.0
    left = 3 / (math.exp(2.0) + 3)
    expected = (1 - left) * (math.log(1 - left) - math.log1p(-3 * math.exp(-lead)))
    expected += left * (math.log(left) - (math.log(3) - lead - math.log1p(3 * math.exp(-lead))))
    student.requires_grad_()
    found = loss(student, teacher, torch.tensor([1]), b=8)
    found.backward()
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    assert student.grad is not None
    # One more of the target's log-odds costs the student's share of it less the teacher's.
    assert student.grad[0].tolist() == pytest.approx([-left / 3, left, -left / 3, -left / 3], rel=1e-4)


def test_the_second_part_does_not_see_the_target() -> None:
    student, teacher = logits(0), logits(1)
    expected = float(loss(student, teacher, a=0))
    rows = torch.arange(len(TARGETS))
    student[rows, TARGETS], teacher[rows, TARGETS] = 50.0, -50.0
    assert float(loss(student, teacher, a=0)) == pytest.approx(expected, rel=1e-5)


def test_the_first_part_does_not_see_how_the_rest_is_spread() -> None:
    student, teacher = logits(0), logits(1)
    expected = float(loss(student, teacher, b=0))
    turned = teacher.clone()
    for place, target in enumerate(TARGETS.tolist()):
        others = [token for token in range(teacher.shape[1]) if token != target]
        turned[place, others] = teacher[place, others[::-1]]
    assert float(loss(student, turned, b=0)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(student, turned, a=0)) != pytest.approx(float(loss(student, teacher, a=0)), rel=0.01)


def test_its_gradient_is_that_of_double_precision_and_the_students_alone() -> None:
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    loss(student, teacher, b=8, temperature=4).backward()
    assert teacher.grad is None
    assert student.grad is not None
    precise = student.detach().double().requires_grad_()
    total = precise.new_zeros(())
    for s, t, target in zip(precise, teacher.detach().double(), TARGETS.tolist(), strict=True):
        p, q = (s / 4).softmax(0), (t / 4).softmax(0)
        others = torch.arange(len(p)) != target
        total = (
            total
            + q[target] * (q[target] / p[target]).log()
            + (1 - q[target]) * ((1 - q[target]) / (1 - p[target])).log()
        )
        p_rest, q_rest = p[others] / (1 - p[target]), q[others] / (1 - q[target])
        total = total + 8 * (q_rest * (q_rest / p_rest).log()).sum()
    (16 * total / len(TARGETS)).backward()
    assert precise.grad is not None
    assert torch.allclose(student.grad.double(), precise.grad, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-20, 20), st.floats(-9, 0))
def test_it_is_never_negative_and_blind_to_a_number_added_to_all_logits(seed: int, shift: float, size: float) -> None:
    student = logits(seed)
    teacher = student + 10**size * logits(seed + 1)
    found = loss(student, teacher, b=8, temperature=2)
    assert float(found) >= 0
    assert float(loss(student + shift, teacher - shift, b=8, temperature=2)) == pytest.approx(
        float(found), rel=1e-3, abs=2e-5
    )


def test_equal_sides_cost_exactly_nothing() -> None:
    assert float(loss(logits(0, size=30), logits(0, size=30), b=8, temperature=4)) == 0


def test_half_precision_is_widened() -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = loss(student, teacher, b=8)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(loss(student.float(), teacher.float(), b=8)), rel=1e-6)


def test_targets_of_another_number_of_tokens_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        loss(logits(0), logits(1), TARGETS[:-1])


def test_settings_without_either_part_are_refused() -> None:
    with pytest.raises(ValidationError, match="both 0"):
        Dkd(target_weight=0, other_weight=0)
    assert Dkd(target_weight=0).other_weight == 0.5
