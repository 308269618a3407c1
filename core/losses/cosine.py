"""Alignment along the chord of the unit sphere."""

from jaxtyping import Float
from torch import Tensor

from core.config import Cosine
from core.geometry import chord_distance, on_sphere
from core.signals import States
from core.sums import Sum


def formula(settings: Cosine, student: States, teacher: States) -> Sum:
    """Return one minus the cosines of the paired states."""
    return cosine_loss(student.points, teacher.points)


def cosine_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Sum:
    """Return one minus the cosine between paired points, 0 to 2.

    The cosine term of DistilBERT (Sanh et al. 2019, arXiv 1910.01108). Its gradient shrinks with the angle.

    Args:
        student: Mapped student states, normalised here.
        teacher: Mapped teacher states of the same points.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    return Sum.of(chord_distance(on_sphere(student), on_sphere(teacher)))
