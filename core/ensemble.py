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
    logits: Sequence[Float[Tensor, "tokens vocabulary"]], weights: Float[Tensor, "tokens teachers"]
) -> Float[Tensor, "tokens vocabulary"]:
    """Return the logarithm of the weighted mean of the teachers' probabilities.

    As raw logits it can be softened like any teacher's: the softmax of it is the mean of their softmaxes.

    Args:
        logits: Raw, of each teacher, over one token table.
        weights: Rows sum to one.
    """
    mixed = torch.full_like(logits[0], -torch.inf, dtype=torch.float32)
    for number, own in enumerate(logits):
        weight = weights[:, number : number + 1].to(own.device, torch.float32)
        mixed = torch.logaddexp(mixed, weight.log() + own.float().log_softmax(dim=-1))
    return mixed


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
    """

    speakers: tuple[Signals, ...]
    weights: Float[Tensor, "utterances teachers"]
    targets: tuple[Signals, ...]
    token_counts: tuple[int, ...] = ()
    top: Callable[[float], TopTeacher] | None = None

    @classmethod
    def alone(cls, teacher: Signals) -> "Teaching":
        """Return what a single teacher says."""
        return cls((teacher,), torch.ones(1, 1), (teacher,))

    @cached_property
    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        """Those of a single teacher, raw; of several, the logarithm of their mean probability."""
        if len(self.speakers) == 1:
            return self.speakers[0].logits
        counts = torch.tensor(self.token_counts)
        return mixed_logits([each.logits for each in self.speakers], self.weights.repeat_interleave(counts, dim=0))

    def target_weights(self, number: int, weights: Float[Tensor, "all teachers"]) -> Float[Tensor, " all"]:
        """Return how much a target counts for each utterance of a batch, whose teachers have these weights."""
        return weights[:, number] if len(self.targets) > 1 else torch.ones(len(weights))
