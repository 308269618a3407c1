"""The divergence of logits on one sphere beside Python's own floats, token by token."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from core.losses import spherical_logits
from tests.losses.checked import mean_of

spherical_logits_loss = mean_of(spherical_logits.spherical_logits_loss)


def logits(seed: int, *, tokens: int = 6, vocabulary: int = 12, size: float = 3) -> Tensor:
    return size * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def centred(row: list[float]) -> list[float]:
    return [value - math.fsum(row) / len(row) for value in row]


def by_hand(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Return the loss from lists of Python's floats: the radius is the mean length of the teacher's rows."""
    sides = [[centred(row) for row in side.tolist()] for side in (student, teacher)]
    radius = math.fsum(math.hypot(*row) for row in sides[1]) / len(teacher)
    total = 0.0
    for s, t in zip(*sides, strict=True):
        p, q = ([math.exp(radius * value / math.hypot(*row) / temperature) for value in row] for row in (s, t))
        total += sum(b / sum(q) * math.log(b / sum(q) / (a / sum(p))) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("size", [0.01, 3, 100])
def test_it_is_the_divergence_at_the_teachers_mean_length_times_the_squared_temperature(
    temperature: float, size: float
) -> None:
    student, teacher = logits(0, size=size), logits(1)
    found = spherical_logits_loss(student, teacher, temperature=temperature)
    assert float(found) == pytest.approx(by_hand(student, teacher, temperature), rel=5e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 20), st.floats(-20, 20))
def test_the_students_scale_and_offset_change_nothing(seed: int, scale: float, shift: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    expected = float(spherical_logits_loss(student, teacher, temperature=2.0))
    # Each token has a scale of its own.
    scales = scale * torch.linspace(0.5, 2, len(student))[:, None]
    found = spherical_logits_loss(scales * student + shift, teacher - shift, temperature=2.0)
    assert float(found) == pytest.approx(expected, rel=2e-3)


def test_of_the_teachers_lengths_only_their_mean_counts() -> None:
    student, teacher = logits(0), logits(1)
    teacher = teacher - teacher.mean(dim=-1, keepdim=True)
    lengths = teacher.norm(dim=-1, keepdim=True)
    evened = teacher / lengths * lengths.mean()
    expected = float(spherical_logits_loss(student, teacher, temperature=2.0))
    assert float(spherical_logits_loss(student, evened, temperature=2.0)) == pytest.approx(expected, rel=1e-5)
    assert not torch.allclose(lengths, lengths.mean(), rtol=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 5))
def test_scaling_all_of_the_teacher_is_dividing_the_temperature(seed: int, scale: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    expected = scale**2 * float(spherical_logits_loss(student, teacher, temperature=2.0 / scale))
    assert float(spherical_logits_loss(student, scale * teacher, temperature=2.0)) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-9, 0))
def test_it_is_never_negative(seed: int, size: float) -> None:
    student = logits(seed)
    assert float(spherical_logits_loss(student, student + 10**size * logits(seed + 1), temperature=2.0)) >= 0


def test_equal_sides_cost_exactly_nothing_and_opposite_ones_something() -> None:
    student = logits(0)
    assert float(spherical_logits_loss(student, student.clone(), temperature=2.0)) == 0
    assert float(spherical_logits_loss(student, -student, temperature=2.0)) > 1


def test_its_gradient_turns_the_student_without_lengthening_it_and_spares_the_teacher() -> None:
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    spherical_logits_loss(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    gradient, rows = student.grad, student.detach()
    assert bool((gradient.norm(dim=-1) > 1e-3).all())
    assert gradient.sum(dim=-1).tolist() == pytest.approx([0] * len(rows), abs=1e-5)
    assert (gradient * rows).sum(dim=-1).tolist() == pytest.approx([0] * len(rows), abs=1e-5)


def test_logits_that_are_all_equal_have_a_finite_gradient() -> None:
    student = torch.full((2, 12), 4.0, requires_grad=True)
    value = spherical_logits_loss(student, logits(1, tokens=2), temperature=2.0)
    value.backward()
    assert student.grad is not None
    assert bool(torch.isfinite(value.detach()))
    assert bool(torch.isfinite(student.grad).all())


def test_half_precision_is_widened() -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = spherical_logits_loss(student, teacher, temperature=2.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(by_hand(student, teacher, 2), rel=1e-5)


def test_tables_of_two_vocabularies_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        spherical_logits_loss(logits(0, vocabulary=12), logits(0, vocabulary=13), temperature=1.0)


def test_the_cross_entropy_inside_reads_the_scaled_logits_at_temperature_1() -> None:
    student, teacher = logits(0), logits(1)
    targets = torch.tensor([0, 7, 3, 3, 11, 5])
    rows = [centred(row) for row in student.tolist()]
    radius = math.fsum(math.hypot(*centred(row)) for row in teacher.tolist()) / len(teacher)
    expected = 0.0
    for row, target in zip(rows, targets.tolist(), strict=True):
        scaled = [radius * value / math.hypot(*row) for value in row]
        expected += math.log(math.fsum(math.exp(value) for value in scaled)) - scaled[target]
    plain = float(spherical_logits_loss(student, teacher, temperature=4.0))
    found = float(spherical_logits_loss(student, teacher, temperature=4.0, targets=targets, cross_entropy=0.5))
    assert found - plain == pytest.approx(0.5 * expected / len(rows), rel=1e-4)


def test_it_is_what_the_authors_two_lines_make_of_layer_norm() -> None:
    """Their README: both sides through a layer norm times a multiplier, then KD; ours is the teacher's mean length."""
    student, teacher = logits(0, vocabulary=40), logits(1, vocabulary=40)
    multiplier = (teacher - teacher.mean(dim=-1, keepdim=True)).norm(dim=-1).mean() / 40**0.5
    s, t = (torch.nn.functional.layer_norm(side.double(), (40,), eps=1e-12) * multiplier for side in (student, teacher))
    p, q = ((side / 4).log_softmax(dim=-1) for side in (s, t))
    expected = 16 * torch.nn.functional.kl_div(p, q, reduction="batchmean", log_target=True)
    assert float(spherical_logits_loss(student, teacher, temperature=4.0)) == pytest.approx(float(expected), rel=1e-5)
