"""Logit distillation along the simplex: the geodesic distance of two distributions."""

from jaxtyping import Float
from torch import Tensor

from core.config import FisherRao
from core.ensemble import Teaching
from core.geometry import geodesic_angle
from core.signals import Signals
from core.sums import Sum


def formula(settings: FisherRao, student: Signals, teacher: Teaching) -> Sum:
    """Return the distances of the softened distributions."""
    theirs = teacher.logits_at(settings.temperature)
    return fisher_rao_loss(student.logits, theirs, temperature=settings.temperature)


def fisher_rao_loss(
    student: Float[Tensor, "tokens vocabulary"],
    teacher: Float[Tensor, "tokens vocabulary"],
    *,
    temperature: float,
) -> Sum:
    """Return the Fisher-Rao distance of the token distributions, 0 to pi, in radians.

    Square roots of probabilities are points of the unit sphere, and the distance is twice their angle,
    2 arccos(sum sqrt(P Q)): Rao 1945; twice, because the sphere's metric is a quarter of the Fisher information.
    A small step dP is as long as sqrt(sum dP^2 / P). The angle is taken without arccos, which has no gradient at 0.
    There is no squared temperature: the gradient has one size whatever the distance.

    Args:
        student: Raw logits of valid token points.
        teacher: Raw logits of the same points; no gradient flows into them.
        temperature: Divides both logits; 1 leaves them.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    return Sum.of(2 * geodesic_angle(_roots(student, temperature), _roots(teacher.detach(), temperature)))


def _roots(logits: Float[Tensor, "tokens vocabulary"], temperature: float) -> Float[Tensor, "tokens vocabulary"]:
    """Return the square root of each probability, by half its logarithm: at a 0 a root's gradient would be NaN."""
    return (logits.float() / temperature).log_softmax(dim=-1).div(2).exp()
