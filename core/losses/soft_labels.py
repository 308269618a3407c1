"""Logit distillation: the teacher's distribution over the next token as a soft label."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from core.config import SoftLabels
from core.ensemble import Teaching
from core.signals import Signals
from core.sums import Sum


def formula(settings: SoftLabels, student: Signals, teacher: Teaching) -> Sum:
    """Return the divergence of the softened distributions."""
    theirs = teacher.logits_at(settings.temperature)
    return soft_labels_loss(student.logits, theirs, temperature=settings.temperature)


def soft_labels_loss(
    student: Float[Tensor, "tokens vocabulary"],
    teacher: Float[Tensor, "tokens vocabulary"],
    *,
    temperature: float,
) -> Sum:
    """Return temperature^2 times KL(teacher || student), in nats, of the valid tokens.

    The squared temperature keeps the gradient's size when the distributions are softened (Hinton, Vinyals and Dean
    2015, arXiv 1503.02531, section 2.1). Logits are raw: a suppressed token's -inf would make NaN.

    Args:
        student: Raw logits of valid token points.
        teacher: Raw logits of the same points; no gradient flows into them.
        temperature: Divides both logits; 1 leaves them.
    """
    student_log = functional.log_softmax(student.float() / temperature, dim=-1)
    teacher_log = functional.log_softmax(teacher.detach().float() / temperature, dim=-1)
    divergence = functional.kl_div(student_log, teacher_log, reduction="sum", log_target=True)
    # Rounding may leave a sum just below zero where the sides are equal.
    return Sum(temperature**2 * divergence.clamp_min(0), len(student))
