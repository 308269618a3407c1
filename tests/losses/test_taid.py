"""The moving target beside double precision, and its pace beside steps worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from core.config import Taid
from core.losses import taid
from core.losses.taid import TaidSchedule
from tests.losses.checked import mean_of

taid_loss = mean_of(taid.taid_loss)


def logits(seed: int, *, tokens: int = 6, vocabulary: int = 12, size: float = 3) -> Tensor:
    return size * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def by_hand(student: Tensor, teacher: Tensor, share: float) -> float:
    """Return the loss from lists of Python's floats."""
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(mine) for mine in s]
        q = [math.exp((1 - share) * mine + share * theirs) for mine, theirs in zip(s, t, strict=True)]
        total += sum(b / sum(q) * math.log(b / sum(q) / (a / sum(p))) for a, b in zip(p, q, strict=True))
    return total / len(student)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("size", [0.3, 3, 10])
def test_it_is_the_divergence_from_the_mixed_logits(share: float, size: float) -> None:
    student, teacher = logits(0, size=size), logits(1, size=size)
    expected = by_hand(student, teacher, share)
    assert float(taid_loss(student, teacher, share=share)) == pytest.approx(expected, rel=1e-4, abs=2e-7)


def test_logits_are_mixed_and_not_probabilities() -> None:
    # Probabilities mixed at a third would give the first token 0.661, and logits give it 0.791.
    student, teacher = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    target = 1 / (1 + math.exp(-(4 * 2 / 3 - 4 / 3)))
    p = 1 / (1 + math.exp(-4))
    expected = target * math.log(target / p) + (1 - target) * math.log((1 - target) / (1 - p))
    assert float(taid_loss(student, teacher, share=1 / 3)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_its_gradient_is_the_difference_from_a_target_that_stands_still(share: float) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    taid_loss(student, teacher, share=share).backward()
    assert teacher.grad is None
    assert student.grad is not None
    target = ((1 - share) * student.detach().double() + share * teacher.detach().double()).softmax(-1)
    expected = (student.detach().double().softmax(-1) - target) / len(student)
    assert torch.allclose(student.grad.double(), expected, atol=1e-7)


def test_without_a_share_the_student_is_its_own_target() -> None:
    student = logits(0).requires_grad_()
    value = taid_loss(student, logits(1), share=0.0)
    value.backward()
    assert float(value.detach()) == 0
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-7


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(-20, 20), st.floats(-9, 0))
def test_it_is_never_negative_and_blind_to_a_number_added_to_all_logits(
    seed: int, share: float, shift: float, size: float
) -> None:
    student = logits(seed)
    teacher = student + 10**size * logits(seed + 1)
    found = float(taid_loss(student, teacher, share=share))
    assert found >= 0
    assert float(taid_loss(student + shift, teacher - shift, share=share)) == pytest.approx(found, rel=1e-3, abs=2e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_the_farther_the_target_the_larger_it_is(seed: int, one: float, other: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    near, far = (float(taid_loss(student, teacher, share=share)) for share in sorted((one, other)))
    assert near <= far + 1e-6


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_equal_sides_cost_nothing(share: float) -> None:
    assert float(taid_loss(logits(0), logits(0), share=share)) == pytest.approx(0, abs=1e-7)


def test_half_precision_is_widened() -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = taid_loss(student, teacher, share=0.4)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(by_hand(student, teacher, 0.4), rel=1e-5)


def test_tables_of_two_vocabularies_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        taid_loss(logits(0, vocabulary=12), logits(0, vocabulary=13), share=0.5)


def test_the_share_moves_by_the_relative_fall_of_the_loss() -> None:
    pace = TaidSchedule(Taid(start=0.2, pace=0.5, momentum=0.5))
    assert pace.share == 0.2
    pace.advance(4.0, 0.1)
    assert pace.share == 0.2, "the first loss has none before it"
    # Fall 1/2, momentum 1/4, sigmoid 0.562177: 0.2 + 0.5 * 0.562177 * 0.8, above the line's 0.2 + 0.8 * 0.2.
    pace.advance(2.0, 0.2)
    assert pace.share == pytest.approx(0.4248706, abs=1e-6)
    # Rise 1/2, momentum 1/8 - 1/4, sigmoid 0.468791: 0.4248706 + 0.5 * 0.468791 * 0.5751294; the line is at 0.44.
    pace.advance(3.0, 0.3)
    assert pace.share == pytest.approx(0.5596783, abs=1e-6)
    # The line overtakes: 0.2 + 0.8 * 0.9.
    pace.advance(3.0, 0.9)
    assert pace.share == pytest.approx(0.92)
    pace.advance(3.0, 1.0)
    assert pace.share == 1


def test_a_loss_that_falls_moves_the_share_faster_than_one_that_rises() -> None:
    falling, rising = TaidSchedule(Taid(pace=0.1, momentum=0.0)), TaidSchedule(Taid(pace=0.1, momentum=0.0))
    for step in range(1, 5):
        falling.advance(1 / step, step / 1000)
        rising.advance(float(step), step / 1000)
    assert 0.4 < rising.share < falling.share < 1


def test_a_run_shorter_than_the_pace_follows_the_line() -> None:
    pace, steps = TaidSchedule(Taid()), 2_000
    for step in range(1, steps + 1):
        pace.advance(1 / step, step / steps)
        if step > 1:
            assert pace.share == pytest.approx(0.4 + 0.6 * step / steps, abs=1e-9)


def test_the_line_runs_through_the_terms_own_stage() -> None:
    pace = TaidSchedule(Taid(start=1e-9, pace=0.0, begins=0.2, ends=0.6))
    shares = []
    for progress in (0.3, 0.4, 0.5, 0.6):
        pace.advance(1.0, progress)
        shares.append(pace.share)
    assert shares == pytest.approx([0, 0.5, 0.75, 1], abs=1e-6)
    pace.advance(1.0, 0.7)
    assert pace.share == 1, "there is nothing beyond the teacher"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=30),
    st.floats(1e-6, 0.99),
    st.floats(0, 1),
    st.floats(0, 0.999),
)
def test_the_share_never_falls_nor_leaves_its_bounds(
    losses: list[float], start: float, pace: float, momentum: float
) -> None:
    it = TaidSchedule(Taid(start=start, pace=pace, momentum=momentum))
    before = it.share
    for step, loss in enumerate(losses, start=1):
        progress = step / len(losses)
        it.advance(loss, progress)
        assert before <= it.share <= 1
        if step > 1:
            assert it.share >= min(1, start + (1 - start) * progress) - 1e-9
        before = it.share
    assert it.share == pytest.approx(1)
