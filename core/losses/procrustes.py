"""Procrustes distance: what no rotation takes away."""

import torch
from jaxtyping import Float
from torch import Tensor

from core.config import Procrustes
from core.geometry import SMALLEST_NORM, centred, paired, wide_product
from core.signals import States
from core.sums import Sum


def formula(settings: Procrustes, student: States, teacher: States) -> Sum:
    """Return what is left between the two sides after the best rotation."""
    return Sum.single(procrustes_loss(student.points, teacher.points))


def procrustes_loss(
    student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]
) -> Float[Tensor, ""]:
    """Return the squared distance between the point sets after the best rotation, as a share of the teacher's spread.

    (|H|_F^2 + |G|_F^2 - 2 |H^T G|_*) / |G|_F^2 with both sides centred within the batch; rotations and reflections
    are free, scale counts; 0 or more. Schoenemann 1966; as a distillation loss in Bhattarai et al. 2025, arXiv
    2509.25253, there with states of unequal width padded with zeros and not divided by the teacher's spread.

    It is computed as |H R - G|_F^2 with R the best rotation. R minimises that, so its own change adds nothing to the
    gradient and none is taken through the singular vectors, which would be unstable where singular values meet.

    Args:
        student: Mapped student states.
        teacher: Mapped teacher states of the same points; no gradient flows into them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = (centred(side) for side in paired(student, teacher))
    rotated = wide_product(student, _best_rotation(student.detach(), teacher))
    return (rotated - teacher).square().sum() / teacher.square().sum().clamp_min(SMALLEST_NORM**2)


def _best_rotation(student: Tensor, teacher: Tensor) -> Tensor:
    # States that are not finite make the loss so; the decomposition would raise before anybody is told.
    left, _, right = torch.linalg.svd(torch.nan_to_num(wide_product(student.T, teacher)), full_matrices=False)
    return wide_product(left, right)
