"""Cross-entropy against the reference transcript."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def cross_entropy_loss(
    student: Float[Tensor, "tokens vocabulary"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood, in nats per token, of the reference tokens.

    Args:
        student: Raw logits of valid token points.
        targets: Reference token of each point.
    """
    return functional.cross_entropy(student.float(), targets)
