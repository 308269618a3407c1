"""The null: an alignment that aligns nothing."""

from jaxtyping import Float
from torch import Tensor

from core.config import ProjectionOnly
from core.geometry import geodesic_angle, on_sphere, paired
from core.signals import States
from core.sums import Sum


def formula(settings: ProjectionOnly, student: States, teacher: States) -> Sum:
    """Return the angles of the paired states, of which the student's have no gradient."""
    return projection_only_loss(student.points, teacher.points)


def projection_only_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Sum:
    """Return the angle, in radians, between paired points whose student states gave their gradient away.

    The geodesic term after the objective has cut the student's states from the graph, so that only the projection
    learns and is then thrown away. A row with this term must equal the row without it.

    Args:
        student: Mapped student states; only the mapping may have a gradient.
        teacher: Mapped teacher states of the same points; no gradient flows into them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = paired(student, teacher)
    return Sum.of(geodesic_angle(on_sphere(student), on_sphere(teacher)))
