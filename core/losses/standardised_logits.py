"""Logit distillation from standard scores: the teacher's order of the tokens without the size of its logits."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from core.config import StandardisedLogits
from core.ensemble import Teaching
from core.signals import Signals
from core.sums import Sum

SMALLEST_DEVIATION = 1e-7
"""Added to every standard deviation, as the authors do, so that equal logits have a score of 0."""


def formula(settings: StandardisedLogits, student: Signals, teacher: Teaching) -> Sum:
    """Return the divergence of the standardised logits."""
    return standardised_logits_loss(student.logits, teacher.logits, temperature=settings.temperature)


def standardised_logits_loss(
    student: Float[Tensor, "tokens vocabulary"],
    teacher: Float[Tensor, "tokens vocabulary"],
    *,
    temperature: float,
) -> Sum:
    """Return temperature^2 times KL(teacher || student) of standardised logits, in nats, of the valid tokens.

    Each side's logits of a token become standard scores over the vocabulary, so neither their mean nor their size
    counts: Sun et al. 2024, arXiv 2403.01427. The deviation divides by the vocabulary less one, and the squared
    temperature is the factor, both as in the authors' code.

    Args:
        student: Raw logits of valid token points.
        teacher: Raw logits of the same points; no gradient flows into them.
        temperature: Divides both sides' scores; in standard deviations of the logits.
    """
    student_log = functional.log_softmax(_standard_scores(student.float()) / temperature, dim=-1)
    teacher_log = functional.log_softmax(_standard_scores(teacher.detach().float()) / temperature, dim=-1)
    divergence = functional.kl_div(student_log, teacher_log, reduction="sum", log_target=True)
    # Where the sides are equal to the last digit, rounding may leave a little less than nothing.
    return Sum(temperature**2 * divergence.clamp_min(0), len(student))


def _standard_scores(logits: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, "tokens vocabulary"]:
    deviation = logits.std(dim=-1, keepdim=True)
    return (logits - logits.mean(dim=-1, keepdim=True)) / (deviation + SMALLEST_DEVIATION)
