"""Logit distillation towards a target that moves, during the run, from the student's own distribution to the teacher's.

Shing et al. 2025, arXiv 2501.16937 (TAID: temporally adaptive interpolated distillation).
"""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from core.config import Taid
from core.ensemble import Teaching
from core.signals import Signals
from core.sums import Sum

SMALLEST_LOSS = 1e-15
"""Added to a loss before it divides, as the authors do."""


def formula(settings: Taid, student: Signals, teacher: Teaching) -> Sum:
    """Return the divergence from the target, whose share of the teacher is the settings' start; see `TaidSchedule`."""
    return taid_loss(student.logits, teacher.logits, share=settings.start)


def taid_loss(
    student: Float[Tensor, "tokens vocabulary"],
    teacher: Float[Tensor, "tokens vocabulary"],
    *,
    share: float,
) -> Sum:
    """Return KL(target || student), in nats, of the valid tokens.

    The target is the softmax of the logits mixed: the teacher's share of its own, the rest of the student's, through
    which no gradient flows. The authors' code leaves out the target's own entropy; the gradient is the same.

    Args:
        student: Raw logits of valid token points.
        teacher: Raw logits of the same points; no gradient flows into them.
        share: Of the teacher in the target, 0 (the student as it is) to 1 (the teacher).
    """
    student, teacher = student.float(), teacher.detach().float()
    target_log = functional.log_softmax((1 - share) * student.detach() + share * teacher, dim=-1)
    student_log = functional.log_softmax(student, dim=-1)
    divergence = functional.kl_div(student_log, target_log, reduction="sum", log_target=True)
    # Where the sides are equal to the last digit, rounding may leave a little less than nothing.
    return Sum(divergence.clamp_min(0), len(student))


class TaidSchedule:
    """The teacher's share in the target over a run: it never falls, and is 1 at the end of the term's stage.

    A straight line from `start` to 1 is its lower bound. Above it, each step adds
    `pace` * sigmoid(momentum of the relative fall of the loss) * (1 - share). At the authors' pace of 5e-4 the line
    is the steeper of the two in any run of fewer than 2,000 steps.
    """

    def __init__(self, settings: Taid) -> None:
        """Begin a run.

        Args:
            settings: Start, pace, momentum and stage of the term.
        """
        self.share = settings.start
        self._settings = settings
        self._last_loss: float | None = None
        self._change = 0.0

    @property
    def settings(self) -> Taid:
        """The settings of the next step: they start at its share."""
        return self._settings.model_copy(update={"start": self.share})

    def advance(self, loss: float, progress: float) -> None:
        """Set the share of the next step; the first call only remembers the loss.

        Args:
            loss: Value of the term at this step, without its weight.
            progress: Share of the run's steps that this one completes, 1 in the last.
        """
        settings, last = self._settings, self._last_loss
        self._last_loss = loss
        if last is None:
            return
        fall = (last - loss) / (last + SMALLEST_LOSS)
        self._change = settings.momentum * self._change + (1 - settings.momentum) * fall
        faster = self.share + settings.pace * _sigmoid(self._change) * (1 - self.share)
        since = (progress - settings.begins) / (settings.ends - settings.begins)
        line = settings.start + (1 - settings.start) * since
        self.share = min(1.0, max(line, faster))


def _sigmoid(value: float) -> float:
    """Return the logistic function, which `math.exp` would overflow far below 0."""
    return (1 + math.tanh(value / 2)) / 2
