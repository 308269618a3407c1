"""Activity over time beside a loop in double precision, and beside the code of the paper's authors."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from core.errors import ShapeError
from core.losses import attention_transfer
from tests.losses.checked import mean_of

attention_transfer_loss = mean_of(attention_transfer.attention_transfer_loss)


def sides(points: int, width: int = 5) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, points, width, generator=torch.Generator().manual_seed(0))
    return student, teacher


def by_loop(student: Tensor, teacher: Tensor, lengths: Sequence[int]) -> float:
    first, apart = 0, []
    for length in lengths:
        maps = []
        for side in (student, teacher):
            activity = np.array([float(row @ row) for row in side[first : first + length].double()])
            maps.append(activity / np.sqrt(np.sum(activity**2)))
        apart.append(np.sum((maps[0] - maps[1]) ** 2))
        first += length
    return float(np.mean(apart))


@pytest.mark.parametrize("lengths", [[12], [5, 7], [1, 2, 9], [1] * 12])
def test_it_is_the_mean_over_utterances_of_what_lies_between_their_activities(lengths: list[int]) -> None:
    student, teacher = sides(12)
    expected = by_loop(student, teacher, lengths)
    assert float(attention_transfer_loss(student, teacher, lengths)) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_with_utterances_of_one_length_it_is_the_authors_loss_times_their_moments() -> None:
    student, teacher = sides(12)

    def activity(states: Tensor) -> Tensor:
        # Their maps are [batch, channels, height, width], the mean of squares over channels, normalised.
        maps = states.view(3, 4, 1, 5).permute(0, 3, 1, 2)
        return functional.normalize(maps.pow(2).mean(1).view(3, -1))

    theirs = (activity(student) - activity(teacher)).pow(2).mean()
    assert float(attention_transfer_loss(student, teacher, [4, 4, 4])) == pytest.approx(4 * float(theirs), rel=1e-5)


def test_only_the_activities_count_and_not_what_is_active() -> None:
    student, teacher = sides(12)
    assert float(attention_transfer_loss(-3 * teacher, teacher, [12])) == pytest.approx(0, abs=1e-6)
    assert float(attention_transfer_loss(student, teacher, [12])) == pytest.approx(
        float(attention_transfer_loss(student.roll(1, dims=1), teacher, [12])), rel=1e-5
    )


def test_silence_leaves_a_finite_gradient() -> None:
    _, teacher = sides(6)
    student = torch.zeros_like(teacher).requires_grad_()
    attention_transfer_loss(student, teacher, [6]).backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


def test_lengths_that_do_not_make_up_the_points_are_refused() -> None:
    with pytest.raises(ShapeError, match="do not make up 12 states"):
        attention_transfer_loss(*sides(12), [5, 6])
    with pytest.raises(ShapeError, match="no points"):
        attention_transfer_loss(*sides(12), [])
