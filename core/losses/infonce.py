"""Contrast: each student state picks its own teacher state out of the batch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from core.config import InfoNce
from core.geometry import on_sphere, paired, thinned, wide_product
from core.signals import States
from core.sums import Sum


def formula(settings: InfoNce, student: States, teacher: States) -> Sum:
    """Return the cross-entropy of telling teacher states apart."""
    value = infonce_loss(student.points, teacher.points, temperature=settings.temperature, points=settings.points)
    return Sum.single(value)


def infonce_loss(
    student: Float[Tensor, "points width"],
    teacher: Float[Tensor, "points width"],
    *,
    temperature: float,
    points: int,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of telling each point's teacher state from the batch's others, in nats, 0 or more.

    InfoNCE (van den Oord et al. 2018, arXiv 1807.03748, equation 4): the student's state is the context, the teacher's
    states are the one positive and the negatives, the score is the cosine over the temperature. One-sided, as there;
    student states are no negatives. Guessing gives log of the number of points, a student that equals its teacher does
    not give 0: neighbours in time are alike.

    Args:
        student: Mapped student states, normalised here.
        teacher: Mapped teacher states of the same points; no gradient flows into them.
        temperature: Divides the cosines.
        points: How many are compared at most, evenly taken from the batch.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    u, v = (on_sphere(thinned(side, points)) for side in paired(student, teacher))
    scores = wide_product(u, v.T) / temperature
    return functional.cross_entropy(scores, torch.arange(len(u), device=u.device))
