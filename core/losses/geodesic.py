"""Alignment along the unit sphere: the method's own term."""

from jaxtyping import Float
from torch import Tensor

from core.config import Geodesic
from core.geometry import geodesic_angle, on_sphere
from core.signals import States
from core.sums import Sum


def formula(settings: Geodesic, student: States, teacher: States) -> Sum:
    """Return the angles of the paired states."""
    return geodesic_loss(student.points, teacher.points)


def geodesic_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Sum:
    """Return the angle, in radians, between paired points on the unit sphere.

    Each row is one hidden state; order in time is ignored (the point-wise mapping of arXiv 2606.00771; the formula
    is a reconstruction). Its gradient has the same size at every angle.

    Args:
        student: Mapped student states, normalised here.
        teacher: Mapped teacher states of the same points.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    return Sum.of(geodesic_angle(on_sphere(student), on_sphere(teacher)))
