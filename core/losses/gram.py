"""Feature Gram matrix: the inner products between the points of either side."""

from jaxtyping import Float
from torch import Tensor

from core.config import Gram
from core.geometry import SMALLEST_NORM, gram_distance_squared, paired, root, row_length, wide_product
from core.signals import States
from core.sums import Sum


def formula(settings: Gram, student: States, teacher: States) -> Sum:
    """Return how far apart the two sides' inner products are."""
    return Sum.single(gram_loss(student.points, teacher.points))


def gram_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Float[Tensor, ""]:
    """Return how far apart the inner products of all pairs of points are, as a share of the teacher's, 0 or more.

    |H H^T - G G^T|_F / |G G^T|_F: the feature Gram distance of Bhattarai et al. 2025, arXiv 2509.25253, there not
    divided by the teacher's. It is 0 exactly where a rotation takes one side to the other; scale counts. Not centred
    here: the mapping has taken the teacher's mean away already, unless states are raw.

    Args:
        student: Mapped student states.
        teacher: Mapped teacher states of the same points; no gradient flows into them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = paired(student, teacher)
    apart = root(gram_distance_squared(student, teacher))
    return apart / row_length(wide_product(teacher.T, teacher).flatten()).clamp_min(SMALLEST_NORM**2)
