"""Attention transfer: where in time the states are active."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from core.config import AttentionTransfer
from core.geometry import on_sphere, paired, require_lengths
from core.signals import States
from core.sums import Sum


def formula(settings: AttentionTransfer, student: States, teacher: States) -> Sum:
    """Return the squared distances of the two sides' activities."""
    return attention_transfer_loss(student.points, teacher.points, student.lengths)


def attention_transfer_loss(
    student: Float[Tensor, "points width"],
    teacher: Float[Tensor, "points width"],
    lengths: Sequence[int],
) -> Sum:
    """Return the squared distance between the two sides' activity over time of each utterance, 0 to 2.

    A moment's activity is the sum of squares of its state; an utterance's activities are scaled to length one. After
    Zagoruyko and Komodakis 2017, arXiv 1612.03928: activation-based maps with p = 2, over time instead of the plane. In
    the paper (equation 2) the distance is not squared; in its authors' code it is, and divided by the number of places
    as well, which is left out here so that utterances of every length count the same.

    Args:
        student: Mapped student states, utterance by utterance, in time.
        teacher: Mapped teacher states of the same points; no gradient flows into them.
        lengths: Points of each utterance.

    Raises:
        ShapeError: If the two sides do not pair up, or the lengths do not add up to the points.
    """
    student, teacher = paired(student, teacher)
    require_lengths(student, lengths)
    apart = [
        (on_sphere(mine[None]) - on_sphere(theirs[None])).square().sum()
        for mine, theirs in zip(_activities(student, lengths), _activities(teacher, lengths), strict=True)
    ]
    return Sum.of(torch.stack(apart))


def _activities(states: Tensor, lengths: Sequence[int]) -> tuple[Tensor, ...]:
    return torch.split(states.square().sum(dim=-1), list(lengths))
