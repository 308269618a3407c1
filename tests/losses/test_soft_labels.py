"""The divergence of token distributions beside PyTorch's own, token by token in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from core.losses import soft_labels
from tests.losses.checked import mean_of

soft_labels_loss = mean_of(soft_labels.soft_labels_loss)


def logits(seed: int, *, tokens: int = 9, vocabulary: int = 50, size: float = 3) -> Tensor:
    return size * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def by_token(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(teacher || student) of each token in double precision."""
    kl = nn.KLDivLoss(reduction="none")
    values = [
        kl((s.double() / temperature).log_softmax(0), (t.double() / temperature).softmax(0)).sum()
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(values)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("size", [0.01, 3, 30])
def test_it_is_the_mean_over_tokens_times_the_squared_temperature(temperature: float, size: float) -> None:
    student, teacher = logits(0, size=size), logits(1, size=size)
    expected = temperature**2 * by_token(student, teacher, temperature).mean()
    found = soft_labels_loss(student, teacher, temperature=temperature)
    # Log-probabilities of about -4 have 2e-7 between neighbouring float32 numbers.
    assert float(found) == pytest.approx(float(expected), rel=1e-4, abs=2e-7 * temperature**2)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_its_gradient_is_the_difference_of_the_distributions(temperature: float) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    soft_labels_loss(student, teacher, temperature=temperature).backward()
    apart = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    assert student.grad is not None
    assert torch.allclose(student.grad, temperature * apart.detach() / len(student), atol=1e-6)
    assert teacher.grad is None


def test_the_teacher_comes_first() -> None:
    one, other = logits(0), logits(1)
    forward, backward = (float(soft_labels_loss(*sides, temperature=1.0)) for sides in ((one, other), (other, one)))
    assert forward == pytest.approx(float(by_token(one, other, 1).mean()), rel=1e-5)
    assert forward != pytest.approx(backward, rel=0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-30, 30))
def test_adding_a_number_to_all_logits_of_a_token_changes_nothing(seed: int, shift: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    expected = float(soft_labels_loss(student, teacher, temperature=2.0))
    assert float(soft_labels_loss(student + shift, teacher - shift, temperature=2.0)) == pytest.approx(
        expected, rel=1e-3
    )


def test_half_precision_is_widened_before_the_softmax() -> None:
    student, teacher = logits(0).half(), logits(1).half()
    found = soft_labels_loss(student, teacher, temperature=1.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(by_token(student, teacher, 1).mean()), rel=1e-5)


def test_tables_of_two_vocabularies_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        soft_labels_loss(logits(0, vocabulary=50), logits(0, vocabulary=51), temperature=1.0)
