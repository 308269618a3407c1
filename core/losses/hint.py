"""FitNets: regress the teacher's states."""

from jaxtyping import Float
from torch import Tensor

from core.geometry import paired


def hint_loss(student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]) -> Float[Tensor, ""]:
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
    return (student - teacher).square().mean() / 2
