"""What a model hands to a loss: the states and logits of valid points, never of padding.

Points are in one order on both sides: utterance by utterance, in time. A *frame* is one encoder state (50 per second of
audio); a *token* is one position of the decoder that predicts a reference token or the end of the text. The prompt's
other positions, padded tokens and the frames of padded audio are left out before any loss sees them, so padding cannot
change a loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """One side of a loss.

    Attributes:
        encoder: Layer number (from 0) to states, [frames, width].
        decoder: Layer number (from 0) to states, [tokens, width].
        targets: Reference token of each token point, [tokens]; only on the student's side.
        head: Maps the last decoder layer's states to logits, [tokens, vocabulary].
        vocabulary: The head's matrix, [vocabulary, width], where it is frozen and all that the head is: then losses may
            come from `core.fused_head`, and the logits are never written out.
        frame_counts: Frames of each utterance, in order; only on the student's side.
        token_counts: Tokens of each utterance, in order; only on the student's side.
    """

    encoder: dict[int, Float[Tensor, "frames width"]] = field(default_factory=dict)
    decoder: dict[int, Float[Tensor, "tokens width"]] = field(default_factory=dict)
    targets: Int[Tensor, " tokens"] | None = None
    head: Callable[[Tensor], Tensor] | None = None
    vocabulary: Float[Tensor, "vocabulary width"] | None = None
    frame_counts: Sequence[int] = ()
    token_counts: Sequence[int] = ()

    def lengths(self, side: str) -> Sequence[int]:
        """Return how many points of a side each utterance has; the points stand utterance by utterance, in time."""
        return self.frame_counts if side == "encoder" else self.token_counts

    @property
    def labels(self) -> Int[Tensor, " tokens"]:
        """The targets, of signals that have some."""
        if self.targets is None:
            raise ValueError("these signals were made without a transcript")
        return self.targets

    @cached_property
    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        """Raw logits (no token suppressed) in float32, computed once."""
        if self.head is None:
            raise ValueError("these signals were made without a decoder pass")
        return self.head(self.last_states).float()

    @property
    def last_states(self) -> Float[Tensor, "tokens width"]:
        """What the head reads: states of the last decoder layer."""
        if not self.decoder:
            raise ValueError("these signals were made without a decoder pass")
        return self.decoder[max(self.decoder)]


@dataclass(frozen=True)
class States:
    """One side's states of a layer pair in the common space.

    Attributes:
        points: Utterance by utterance, in time.
        lengths: Points of each utterance.
    """

    points: Float[Tensor, "points width"]
    lengths: Sequence[int]


def places_of(mask: Bool[Tensor, "batch time"], device: torch.device) -> Int[Tensor, " points"]:
    """Return where a mask is true, as numbers of rows, utterance by utterance.

    A mask on a GPU would have it wait, each time, until the program knows how many there are; one on the CPU does not.
    """
    return mask.flatten().nonzero().squeeze(1).to(device)


def valid_points(
    states: Float[Tensor, "batch time width"], places: Int[Tensor, " points"]
) -> Float[Tensor, "points width"]:
    """Return the states at some places, see `places_of`."""
    return states.flatten(0, 1).index_select(0, places)
