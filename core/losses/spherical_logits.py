"""Logit distillation on a sphere: the direction of the logits without their length, which is confidence."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from core.config import SphericalLogits
from core.ensemble import Teaching
from core.geometry import on_sphere
from core.signals import Signals
from core.sums import Sum


def formula(settings: SphericalLogits, student: Signals, teacher: Teaching) -> Sum:
    """Return the divergence of the scaled logits; their length is that of the teacher's over the whole batch."""
    return spherical_logits_loss(
        student.logits,
        teacher.logits,
        temperature=settings.temperature,
        radius=teacher.batch_mean(lengths(teacher.logits)),
        targets=student.labels if settings.cross_entropy else None,
        cross_entropy=settings.cross_entropy,
    )


def spherical_logits_loss(
    student: Float[Tensor, "tokens vocabulary"],
    teacher: Float[Tensor, "tokens vocabulary"],
    *,
    temperature: float,
    radius: Float[Tensor, ""] | None = None,
    targets: Int[Tensor, " tokens"] | None = None,
    cross_entropy: float = 0.0,
) -> Sum:
    """Return temperature^2 times KL(teacher || student) of logits on one sphere, in nats, of the valid tokens.

    Each side's logits of a token are centred and scaled to the same length, the mean length of the teacher's: Guo et
    al. 2020, arXiv 2010.07485. The paper takes that mean over the data, this loss over the points that it compares.
    The authors' cross-entropy reads the scaled logits as well (their README says that it has to), at temperature 1: it
    is a part of this term where `cross_entropy` is above 0. The student is deployed with its raw logits, whose order
    is the same.

    Args:
        student: Raw logits of valid token points; their length does not count.
        teacher: Raw logits of the same points; no gradient flows into them. Their mean length is the radius.
        temperature: Divides both sides' scaled logits; 1 leaves them.
        radius: Where these are a part of a batch, the mean length over the whole of it.
        targets: Reference token of each point; only the cross-entropy reads them.
        cross_entropy: Factor of the cross-entropy of the student's scaled logits.
    """
    student_centred, teacher_centred = _centred(student.float()), _centred(teacher.detach().float())
    radius = lengths(teacher).mean() if radius is None else radius
    student_scaled = radius * on_sphere(student_centred)
    student_log = functional.log_softmax(student_scaled / temperature, dim=-1)
    teacher_log = functional.log_softmax(radius * on_sphere(teacher_centred) / temperature, dim=-1)
    divergence = functional.kl_div(student_log, teacher_log, reduction="sum", log_target=True)
    # Where the sides are equal to the last digit, rounding may leave a little less than nothing.
    total = temperature**2 * divergence.clamp_min(0)
    if cross_entropy:
        assert targets is not None
        total = total + cross_entropy * functional.cross_entropy(student_scaled, targets, reduction="sum")
    return Sum(total, len(student))


def lengths(teacher: Float[Tensor, "tokens vocabulary"]) -> Sum:
    """Return the lengths of centred logits, without gradient."""
    return Sum.of(_centred(teacher.detach().float()).norm(dim=-1))


def _centred(logits: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, "tokens vocabulary"]:
    return logits - logits.mean(dim=-1, keepdim=True)
