"""Cross-entropy against the reference transcript."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from core.config import CrossEntropy
from core.ensemble import Teaching
from core.signals import Signals
from core.sums import Sum


def formula(settings: CrossEntropy, student: Signals, teacher: Teaching) -> Sum:
    """Return the negative log-likelihood of the reference."""
    return cross_entropy_loss(student.logits, student.labels)


def cross_entropy_loss(student: Float[Tensor, "tokens vocabulary"], targets: Int[Tensor, " tokens"]) -> Sum:
    """Return the negative log-likelihood, in nats, of the reference tokens.

    Args:
        student: Raw logits of valid token points.
        targets: Reference token of each point.
    """
    return Sum(functional.cross_entropy(student.float(), targets, reduction="sum"), len(targets))
