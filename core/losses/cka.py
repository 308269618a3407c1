"""Centred kernel alignment of the two sets of points."""

from jaxtyping import Float
from torch import Tensor

from core.geometry import SMALLEST_NORM, centred, gram_distance_squared, paired, row_length, wide_product


def cka_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Float[Tensor, ""]:
    """Return one minus the linear centred kernel alignment, 0 to 1.

    Kornblith et al. 2019, arXiv 1905.00414, equation 5: 1 - |G^T H|_F^2 / (|H^T H|_F |G^T G|_F), both sides centred
    within the batch. A rotation or a scaling of a side changes nothing, so 0 does not mean that the states are the
    teacher's. This is the usual, biased estimate: with fewer points than the states are wide it is near 0 for any
    two sides. Where one side does not vary it is 1/2.

    It is computed as half the squared distance between the kernels scaled to length one, which keeps the digits where
    the sides are nearly equal.

    Args:
        student: Mapped student states.
        teacher: Mapped teacher states of the same points; no gradient flows into them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = (_of_unit_kernel(centred(side)) for side in paired(student, teacher))
    return gram_distance_squared(student, teacher) / 2


def _of_unit_kernel(states: Tensor) -> Tensor:
    """Return the states scaled so that their inner products, as one vector, have length one."""
    norm = row_length(wide_product(states.T, states).flatten())
    return states / norm.clamp_min(SMALLEST_NORM).sqrt()
