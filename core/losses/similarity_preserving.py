"""Similarity-preserving distillation: which points are alike."""

from jaxtyping import Float
from torch import Tensor

from core.config import SimilarityPreserving
from core.geometry import on_sphere, paired, thinned, wide_product
from core.signals import States
from core.sums import Sum


def formula(settings: SimilarityPreserving, student: States, teacher: States) -> Sum:
    """Return how far apart the two sides' similarities are."""
    return Sum.single(similarity_preserving_loss(student.points, teacher.points, points=settings.points))


def similarity_preserving_loss(
    student: Float[Tensor, "points width"],
    teacher: Float[Tensor, "points width"],
    *,
    points: int,
) -> Float[Tensor, ""]:
    """Return the mean squared difference between the two sides' similarities of points, 0 to 4 / points.

    Tung and Mori 2019, arXiv 1907.09682: the inner products of all pairs of points, each row of them scaled to length
    one, compared as |S - T|_F^2 / points^2. It is small by nature; the paper weighs it with 3000.

    Args:
        student: Mapped student states.
        teacher: Mapped teacher states of the same points; no gradient flows into them.
        points: How many are compared at most, evenly taken from the batch.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = (thinned(side, points) for side in paired(student, teacher))
    return (_similarities(student) - _similarities(teacher)).square().mean()


def _similarities(states: Tensor) -> Tensor:
    return on_sphere(wide_product(states, states.T))
