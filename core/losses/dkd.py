"""Decoupled distillation: what the teacher gives the right token, and how it spreads the rest, weighed apart."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from core.config import Dkd
from core.ensemble import Teaching
from core.signals import Signals
from core.sums import Sum


def formula(settings: Dkd, student: Signals, teacher: Teaching) -> Sum:
    """Return the two divergences, weighed."""
    return dkd_loss(
        student.logits,
        teacher.logits_at(settings.temperature),
        student.labels,
        target_weight=settings.target_weight,
        other_weight=settings.other_weight,
        temperature=settings.temperature,
    )


def dkd_loss(
    student: Float[Tensor, "tokens vocabulary"],
    teacher: Float[Tensor, "tokens vocabulary"],
    targets: Int[Tensor, " tokens"],
    *,
    target_weight: float,
    other_weight: float,
    temperature: float,
) -> Sum:
    """Return temperature^2 times a weighted sum of two divergences, in nats, of the valid tokens.

    The first compares what either side gives the target against all that it leaves to the others (TCKD); the second
    compares how that rest is spread (NCKD). With weights 1 and 1 - p, p the teacher's probability of the target, the
    sum is the divergence of soft labels: Zhao et al. 2022, arXiv 2203.08679; the factor is that of the authors' code.
    The log-odds of the target are its logit minus the logsumexp of the others, so that 1 - p keeps its digits where p
    is nearly 1.

    Args:
        student: Raw logits of valid token points.
        teacher: Raw logits of the same points; no gradient flows into them.
        targets: Reference token of each point.
        target_weight: Factor of the first part (the paper's alpha).
        other_weight: Factor of the second part (the paper's beta).
        temperature: Divides both logits; 1 leaves them.
    """
    student_odds, student_rest = _decoupled(student.float() / temperature, targets)
    teacher_odds, teacher_rest = _decoupled(teacher.detach().float() / temperature, targets)
    about_target = _divergence_of_odds(student=student_odds, teacher=teacher_odds)
    about_others = functional.kl_div(student_rest, teacher_rest, reduction="none", log_target=True).sum(dim=-1)
    apart = Sum.of(target_weight * about_target + other_weight * about_others)
    # Where the sides are equal to the last digit, rounding may leave a little less than nothing.
    return Sum(temperature**2 * apart.total.clamp_min(0), apart.count)


def _decoupled(
    logits: Float[Tensor, "tokens vocabulary"], targets: Int[Tensor, " tokens"]
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, "tokens others"]]:
    """Return the log-odds of the target, and the log-probabilities of the other tokens among themselves."""
    tokens, vocabulary = logits.shape
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, targets[:, None], False)
    rest = logits[others].view(tokens, vocabulary - 1)
    odds = logits.gather(1, targets[:, None]).squeeze(1) - rest.logsumexp(dim=-1)
    return odds, rest.log_softmax(dim=-1)


def _divergence_of_odds(*, student: Float[Tensor, " tokens"], teacher: Float[Tensor, " tokens"]) -> Tensor:
    """Return KL(teacher || student) of yes or no, from the log-odds of yes."""
    yes = teacher.sigmoid() * (functional.logsigmoid(teacher) - functional.logsigmoid(student))
    no = (-teacher).sigmoid() * (functional.logsigmoid(-teacher) - functional.logsigmoid(-student))
    return yes + no
