"""Alignment in a flat space: direction and length count."""

from jaxtyping import Float
from torch import Tensor

from core.config import Mse
from core.geometry import SMALLEST_NORM, paired
from core.signals import States
from core.sums import Sum


def formula(settings: Mse, student: States, teacher: States) -> Sum:
    """Return the share of the teacher's energy that lies between the paired states."""
    return Sum.single(mse_loss(student.points, teacher.points))


def mse_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Float[Tensor, ""]:
    """Return the squared distance between paired points as a share of the teacher's mean square, 0 or more.

    Distil-Whisper's layer-mapped mean squared error (Gandhi et al. 2023, arXiv 2311.00430, app. D.2), divided by the
    teacher's energy in the batch so that one weight serves layers of every scale. A student at the origin has 1.

    Args:
        student: Mapped student states.
        teacher: Mapped teacher states of the same points; no gradient flows into them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = paired(student, teacher)
    energy = teacher.square().mean()
    return (student - teacher).square().mean() / energy.clamp_min(SMALLEST_NORM**2)
