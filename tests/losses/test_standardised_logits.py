"""The divergence of standard scores beside the standard library's own deviation, token by token."""

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from core.losses import standardised_logits
from tests.losses.checked import mean_of

standardised_logits_loss = mean_of(standardised_logits.standardised_logits_loss)


def logits(seed: int, *, tokens: int = 6, vocabulary: int = 12, size: float = 3) -> Tensor:
    return size * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def softened(row: list[float], temperature: float) -> list[float]:
    mean, deviation = statistics.fmean(row), statistics.stdev(row)
    exponents = [math.exp((value - mean) / deviation / temperature) for value in row]
    return [value / sum(exponents) for value in exponents]


def by_hand(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Return the loss from lists of Python's floats."""
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = softened(s, temperature), softened(t, temperature)
        total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [0.01, 3, 100])
def test_it_is_the_divergence_of_standard_scores_times_the_squared_temperature(temperature: float, size: float) -> None:
    student, teacher = logits(0, size=size), logits(1)
    found = standardised_logits_loss(student, teacher, temperature=temperature)
    assert float(found) == pytest.approx(by_hand(student, teacher, temperature), rel=5e-5)


def test_the_deviation_divides_by_the_vocabulary_less_one() -> None:
    # Two tokens: scores are +-1/sqrt(2) so, and would be +-1 if the deviation divided by two.
    student, teacher = torch.tensor([[0.0, 5.0]]), torch.tensor([[9.0, 1.0]])
    p = 1 / (1 + math.exp(math.sqrt(2)))
    expected = (1 - p) * math.log((1 - p) / p) + p * math.log(p / (1 - p))
    assert float(standardised_logits_loss(student, teacher, temperature=1.0)) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 20), st.floats(0.05, 20), st.floats(-20, 20))
def test_neither_sides_scale_nor_offset_changes_it(seed: int, mine: float, theirs: float, shift: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    expected = float(standardised_logits_loss(student, teacher, temperature=2.0))
    # Each token has a scale of its own.
    scales = torch.linspace(0.5, 2, len(student))[:, None]
    found = standardised_logits_loss(
        mine * scales * student + shift, theirs / scales * teacher - shift, temperature=2.0
    )
    assert float(found) == pytest.approx(expected, rel=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-9, 0))
def test_it_is_never_negative(seed: int, size: float) -> None:
    student = logits(seed)
    assert float(standardised_logits_loss(student, student + 10**size * logits(seed + 1), temperature=2.0)) >= 0


def test_equal_sides_cost_exactly_nothing_and_the_other_order_of_tokens_costs_something() -> None:
    student = logits(0)
    assert float(standardised_logits_loss(student, student.clone(), temperature=2.0)) == 0
    assert float(standardised_logits_loss(student, -student, temperature=2.0)) > 0.5


def test_its_gradient_keeps_offset_and_scale_and_is_the_students_alone() -> None:
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    standardised_logits_loss(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    gradient, rows = student.grad, student.detach()
    assert bool((gradient.norm(dim=-1) > 1e-3).all())
    assert gradient.sum(dim=-1).tolist() == pytest.approx([0] * len(rows), abs=1e-6)
    assert (gradient * rows).sum(dim=-1).tolist() == pytest.approx([0] * len(rows), abs=1e-6)


def test_logits_that_are_all_equal_have_a_finite_gradient() -> None:
    student = torch.full((2, 12), 4.0, requires_grad=True)
    value = standardised_logits_loss(student, logits(1, tokens=2), temperature=2.0)
    value.backward()
    assert student.grad is not None
    assert bool(torch.isfinite(value.detach()))
    assert bool(torch.isfinite(student.grad).all())


def test_half_precision_is_widened() -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = standardised_logits_loss(student, teacher, temperature=2.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(by_hand(student, teacher, 2), rel=1e-5)


def test_tables_of_two_vocabularies_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        standardised_logits_loss(logits(0, vocabulary=12), logits(0, vocabulary=13), temperature=1.0)
