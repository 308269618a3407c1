"""Several teachers as one: how much each counts, their common distribution, and what a loss reads of them.

Mean, weighted and best after Gao et al. 2020, arXiv 2005.09310 (distilling knowledge from ensembles for speech
recognition); the temperature of the weights, and how states are combined, are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from core.config import Ensemble
from core.fused_head import TopTeacher
from core.signals import Signals
from core.sums import Sum


def teacher_weights(settings: Ensemble, wers: Sequence[float]) -> tuple[float, ...]:
    """Return how much each teacher counts for every utterance; they sum to one.

    weighted: softmax of (100 - WER) / temperature, WER in percent. best: all alike, where nothing is known of an
    utterance; see `likeliest`.

    Args:
        settings: How they are combined.
        wers: Of each teacher on the development set, as fractions.
    """
    match settings.combine:
        case "weighted":
            scores = torch.tensor([100 - 100 * wer for wer in wers], dtype=torch.float64)
            return tuple((scores / settings.temperature).softmax(dim=0).tolist())
        case "single":
            return one_of(len(wers), min(range(len(wers)), key=lambda number: wers[number]))
        case _:
            return (1 / len(wers),) * len(wers)


def one_of(count: int, chosen: int) -> tuple[float, ...]:
    """Return the weights with which one teacher alone counts."""
    return tuple(float(number == chosen) for number in range(count))


def mixed_logits(
    logits: Sequence[Float[Tensor, "tokens vocabulary"]],
    weights: Float[Tensor, "tokens teachers"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "tokens vocabulary"]:
    """Return logits of which the softmax at a temperature is the weighted mean of the teachers' softmaxes there.

    They are the temperature times the logarithm of that mean. At another temperature they are nobody's: the mean of
    softened distributions is not the softened mean.

    Args:
        logits: Raw, of each teacher, over one token table.
        weights: Rows sum to one.
        temperature: That will divide them.
    """
    mixed = torch.full_like(logits[0], -torch.inf, dtype=torch.float32)
    for number, own in enumerate(logits):
        weight = weights[:, number : number + 1].to(own.device, torch.float32)
        mixed = torch.logaddexp(mixed, weight.log() + (own.float() / temperature).log_softmax(dim=-1))
    return temperature * mixed


@dataclass(frozen=True)
class Teaching:
    """What all teachers say about the same utterances.

    Attributes:
        speakers: Each teacher's signals.
        weights: How much each teacher counts for each utterance; rows sum to one.
        targets: What states are compared with, by the number that layer pairs bear: the teachers, or their mean alone.
        token_counts: Tokens of each utterance, in order.
        top: Returns a single teacher's most likely tokens at a temperature, where those are all that was kept of its
            logits; None where the logits themselves can be made.
        batch_mean: Returns the mean of a quantity over the whole batch, of which these utterances may be a part.
    """

    speakers: tuple[Signals, ...]
    weights: Float[Tensor, "utterances teachers"]
    targets: tuple[Signals, ...]
    token_counts: tuple[int, ...] = ()
    top: Callable[[float], TopTeacher] | None = None
    batch_mean: Callable[[Sum], Tensor] = Sum.mean

    @classmethod
    def alone(cls, teacher: Signals) -> "Teaching":
        """Return what a single teacher says."""
        return cls((teacher,), torch.ones(1, 1), (teacher,))

    @cached_property
    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        """Those of a single teacher, raw; of several, the logarithm of their mean probability."""
        return self.logits_at(1.0)

    def logits_at(self, temperature: float) -> Float[Tensor, "tokens vocabulary"]:
        """Return what a loss divides by a temperature: raw logits of a single teacher; of several, `mixed_logits`."""
        if len(self.speakers) == 1:
            return self.speakers[0].logits
        weights = self.weights.repeat_interleave(torch.tensor(self.token_counts), dim=0)
        return mixed_logits([each.logits for each in self.speakers], weights, temperature=temperature)
