"""The distance along the simplex beside arccos in double precision, and beside the metric that it integrates."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from core.errors import ShapeError
from core.losses import fisher_rao
from tests.losses.checked import mean_of

fisher_rao_loss = mean_of(fisher_rao.fisher_rao_loss)


def logits(seed: int, *, tokens: int = 6, vocabulary: int = 12, size: float = 3) -> Tensor:
    return size * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def by_arccos(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the distance of each token in double precision, by the textbook's formula."""
    p, q = ((side.double() / temperature).softmax(-1) for side in (student, teacher))
    return 2 * torch.arccos((p * q).sqrt().sum(-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("size", [0.1, 3, 30])
def test_it_is_the_mean_of_twice_the_angle_of_the_roots(temperature: float, size: float) -> None:
    student, teacher = logits(0, size=size), logits(1, size=size)
    expected = by_arccos(student, teacher, temperature).mean()
    assert float(fisher_rao_loss(student, teacher, temperature=temperature)) == pytest.approx(float(expected), rel=1e-5)


def test_two_outcomes_are_twice_as_far_apart_as_their_angles_in_the_quarter_circle() -> None:
    # Probabilities sin^2 and cos^2 of an angle.
    angles = torch.tensor([0.3, 1.2], dtype=torch.float64)
    student, teacher = torch.stack([angles.sin() ** 2, angles.cos() ** 2], dim=-1).log()[:, None]
    assert float(fisher_rao_loss(student, teacher, temperature=1.0)) == pytest.approx(1.8, rel=1e-6)


def test_distributions_that_share_no_token_are_pi_apart() -> None:
    # So far apart, the other tokens' probabilities are 0 in float32.
    student, teacher = torch.tensor([[300.0, 0.0, 0.0]]), torch.tensor([[0.0, 300.0, 0.0]])
    student.requires_grad_()
    value = fisher_rao_loss(student, teacher, temperature=1.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(math.pi)
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_a_small_step_is_as_long_as_the_fisher_metric_says(size: float) -> None:
    student = logits(0, tokens=1, size=1)
    teacher = student.double() + size * logits(1, tokens=1, size=1).double()
    p, q = student.double().softmax(-1), teacher.softmax(-1)
    expected = ((q - p) ** 2 / p).sum().sqrt()
    # The metric is exact to first order; the logits are read in float32.
    found = fisher_rao_loss(student, teacher, temperature=1.0)
    assert float(found) == pytest.approx(float(expected), rel=size + 1e-3 * 1e-4 / size)


def test_equal_sides_cost_exactly_nothing_and_have_a_gradient_of_zero() -> None:
    student = logits(0).requires_grad_()
    value = fisher_rao_loss(student, logits(0), temperature=1.0)
    value.backward()
    assert float(value.detach()) == 0
    assert student.grad is not None
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize("size", [1e-3, 0.1, 3.0])
def test_its_gradient_is_that_of_double_precision_and_the_students_alone(size: float) -> None:
    student = logits(0).requires_grad_()
    teacher = (student.detach() + size * logits(1)).requires_grad_()
    fisher_rao_loss(student, teacher, temperature=1.0).backward()
    precise = student.detach().double().requires_grad_()
    by_arccos(precise, teacher.detach(), 1).mean().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert precise.grad is not None
    assert torch.allclose(student.grad.double(), precise.grad, atol=1e-4)


@pytest.mark.parametrize("size", [1e-20, 1e-7, 1e-6])
def test_its_gradient_is_finite_and_bounded_next_to_the_teacher(size: float) -> None:
    student = torch.zeros(1, 4, requires_grad=True)
    teacher = torch.tensor([[size, 0.0, 0.0, -size]])
    fisher_rao_loss(student, teacher, temperature=1.0).backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    # Logits move a distribution by at most this much per unit of their length: sqrt(p) projected, p = 1/4.
    assert float(student.grad.norm()) <= 0.5 + 1e-3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-20, 20), st.floats(-6, 1))
def test_it_is_a_distance_and_blind_to_a_number_added_to_all_logits(seed: int, shift: float, size: float) -> None:
    student = logits(seed)
    teacher = student + 10**size * logits(seed + 1)
    third = logits(seed + 2)

    def distance(one: Tensor, other: Tensor) -> float:
        return float(fisher_rao_loss(one, other, temperature=2.0))

    found = distance(student, teacher)
    assert 0 <= found <= math.pi + 1e-5
    assert distance(teacher, student) == pytest.approx(found, rel=1e-5)
    assert distance(student, third) <= found + distance(teacher, third) + 1e-5
    assert distance(student + shift, teacher - shift) == pytest.approx(found, rel=1e-3, abs=2e-5)


def test_half_precision_is_widened() -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = fisher_rao_loss(student, teacher, temperature=1.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(by_arccos(student, teacher, 1).mean()), rel=1e-5)


def test_tables_of_two_vocabularies_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        fisher_rao_loss(logits(0, vocabulary=12), logits(0, vocabulary=13), temperature=1.0)


def test_no_tokens_at_all_are_refused() -> None:
    with pytest.raises(ShapeError, match="padding"):
        fisher_rao_loss(torch.ones(0, 4), torch.ones(0, 4), temperature=1.0)
