"""Relational distillation: distances of pairs and angles of triplets, not the points themselves."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from core.config import Rkd
from core.geometry import SMALLEST_NORM, on_sphere, paired, thinned, wide_product
from core.signals import States
from core.sums import Sum


def formula(settings: Rkd, student: States, teacher: States) -> Sum:
    """Return how far apart the two sides' distances and angles are."""
    value = rkd_loss(
        student.points, teacher.points, distance=settings.distance, angle=settings.angle, points=settings.points
    )
    return Sum.single(value)


def rkd_loss(
    student: Float[Tensor, "points width"],
    teacher: Float[Tensor, "points width"],
    *,
    distance: float,
    angle: float,
    points: int,
) -> Float[Tensor, ""]:
    """Return how far apart the two sides' distances and angles between points are, 0 or more.

    Park et al. 2019, arXiv 1904.05068, as its authors' code has it: the mean, over all pairs (i, j), of the Huber
    distance (threshold 1) between d_ij divided by the mean of the side's distances above zero; and the mean, over all
    triplets (i, j, k), of the Huber distance between the cosines of the angle at i. Pairs and triplets that name a
    point twice are in those means, as zeros.

    Args:
        student: Mapped student states; any scale.
        teacher: Mapped teacher states of the same points; no gradient flows into them.
        distance: Factor of the distances' part.
        angle: Factor of the angles' part.
        points: How many are compared at most, evenly taken from the batch; the cost is cubic in it.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = (thinned(side, points) for side in paired(student, teacher))
    parts = []
    if distance:
        parts.append(distance * functional.smooth_l1_loss(_distances(student), _distances(teacher)))
    if angle:
        parts.append(angle * functional.smooth_l1_loss(_cosines(student), _cosines(teacher)))
    return torch.stack(parts).sum()


def _distances(states: Tensor) -> Tensor:
    """Return the distance of each pair in units of the mean distance, [points, points]."""
    # Distances by way of inner products would lose the small ones.
    distances = torch.cdist(states, states, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp_min(1)
    return distances / mean.clamp_min(SMALLEST_NORM)


def _cosines(states: Tensor) -> Tensor:
    """Return the cosine of the angle at point i between points j and k, [i, j, k]; 0 where j or k is i."""
    count = len(states)
    ways = on_sphere((states[None] - states[:, None]).flatten(0, 1)).unflatten(0, (count, count))
    return wide_product(ways, ways.transpose(1, 2))
