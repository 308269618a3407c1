"""FitNets: regress the teacher's states."""

from jaxtyping import Float
from torch import Tensor

from core.config import Hint
from core.geometry import paired
from core.signals import States
from core.sums import Sum


def formula(settings: Hint, student: States, teacher: States) -> Sum:
    """Return half the squared distances of the paired states."""
    return hint_loss(student.points, teacher.points)


def hint_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Sum:
    """Return half the squared distance between paired points, per point and coordinate, 0 or more.

    The hint term of Romero et al. 2015, arXiv 1412.6550, equation 3: 1/2 |r(h) - g|^2, summed there over the width of
    the hint layer and averaged over examples. Here it is averaged over the width as well, so it is their value for one
    point divided by the width. The regressor r is the method's projection. The teacher's scale stays in: layers with
    large states count more, which is what `mse_loss` takes out.

    Args:
        student: Mapped student states.
        teacher: Mapped teacher states of the same points; no gradient flows into them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    student, teacher = paired(student, teacher)
    squared = Sum.of((student - teacher).square())
    return Sum(squared.total / 2, squared.count)
