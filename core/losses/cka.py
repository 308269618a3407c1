"""Centred kernel alignment of the two sets of points, debiased."""

from jaxtyping import Float
from torch import Tensor

from core.config import Cka
from core.geometry import SMALLEST_NORM, centred, gram_distance_squared, paired, root, wide_product
from core.signals import States
from core.sums import Sum

FEWEST_POINTS = 4
"""The unbiased estimate does not exist for fewer."""


def formula(settings: Cka, student: States, teacher: States) -> Sum:
    """Return one minus the debiased kernel alignment."""
    return Sum.single(cka_loss(student.points, teacher.points))


def cka_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Float[Tensor, ""]:
    """Return one minus the debiased linear centred kernel alignment, 0 to 2; unrelated sides are at about 1.

    CKA of Kornblith et al. 2019, arXiv 1905.00414, with the unbiased estimate of HSIC (Song et al. 2012, equation 5;
    in CKA by Nguyen et al. 2021, arXiv 2010.15327). The usual estimate counts each point as a pair with itself, and is
    near 1 for any two sides that have fewer points than they are wide, as the tokens of a batch are: a loss of it is
    blind there. A rotation or a scaling of a side changes nothing, so 0 does not mean that the states are the
    teacher's. Where one side does not vary it is 1/2, and 1 without a gradient where there are fewer than 4 points.

    The estimate is the inner product of the two kernels without their diagonals and U-centred, divided by their lengths
    (Szekely and Rizzo 2014), so that the loss is half the squared distance of those of length one. That keeps the
    digits where the sides are nearly equal, and needs no matrix of points by points.

    Args:
        student: Mapped student states.
        teacher: Mapped teacher states of the same points; no gradient flows into them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = paired(student, teacher)
    if len(student) < FEWEST_POINTS:
        return 1 + 0 * student.sum()
    student, teacher = _of_unit_kernel(centred(student)), _of_unit_kernel(centred(teacher))
    # The diagonals of both kernels, each less the other's: (a - b)(a + b), for the digits.
    diagonal = ((student - teacher) * (student + teacher)).sum(dim=-1)
    return _without_diagonal(gram_distance_squared(student, teacher), diagonal) / 2


def _of_unit_kernel(states: Tensor) -> Tensor:
    """Return centred states scaled so that their kernel without diagonal, U-centred, has length one."""
    squared = wide_product(states.T, states).square().sum()
    norm = root(_without_diagonal(squared, states.square().sum(dim=-1)))
    return states / norm.clamp_min(SMALLEST_NORM).sqrt()


def _without_diagonal(squared: Tensor, diagonal: Tensor) -> Tensor:
    """Return the squared length of a U-centred matrix from that of the matrix and its diagonal; rows sum to zero.

    Without its diagonal a, a matrix whose rows sum to zero has rows that sum to -a. U-centring then leaves
    |K|^2 - n / (n - 2) sum a_i^2 + (sum a_i)^2 / ((n - 1)(n - 2)).
    """
    points = len(diagonal)
    own = diagonal.square().sum() * points / (points - 2)
    return (squared - own + diagonal.sum().square() / ((points - 1) * (points - 2))).clamp_min(0)
