"""What the settings of every loss share: a weight, how it changes over a run, what the loss reads and promises."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from core.config.base import Settings

Reads = Literal["states", "logits", "targets", "label_sequences"]
"""What a loss reads beside the student's own output.

states: hidden states of both sides, pair by pair in the common space; logits: the teachers' beside the student's;
targets: one reference token for each row of logits; label_sequences: the reference's tokens, aligned with no row (CTC).
"""

Promise = Literal["points", "set", "utterances"]
"""What may be done to both sides without changing a loss. points: put them in any order, each as often as the others;
set: put them in any order; utterances: put whole ones in any order, each as often as the others."""

Fused = Literal["cross_entropy", "soft_labels"]
"""The sums that `core.fused_head` makes without writing out a table of logits."""


class LossSettings(Settings):
    """A term of the training objective.

    Its weight may rise, fall, or belong to a stage of the run: it is `weight` times a rise from 0 to 1 (`warmup`) times
    a way from 1 to `final`, between `begins` and `ends`, and 0 elsewhere.
    """

    weight: float = Field(default=1.0, gt=0, le=1000, description="Factor of this term in the sum; no unit.")
    begins: float = Field(default=0.0, ge=0, lt=1, description="Share of the steps after which the term sets in.")
    ends: float = Field(default=1.0, gt=0, le=1, description="Share of the steps after which the term is left out.")
    warmup: float = Field(
        default=0.0, ge=0, le=1, description="Share of the steps in which the weight rises from 0, once it set in."
    )
    final: float = Field(
        default=1.0, ge=0, le=10, description="Factor of the weight at its end, reached linearly; 1 keeps the weight."
    )

    if TYPE_CHECKING:
        kind: Any = None  # each loss has its own name here, which is that of its formula's file

    reads: ClassVar[frozenset[Reads]]
    promise: ClassVar[Promise]
    unit: ClassVar[str]
    """Of its value, as it stands over its curve."""
    whole_batch: ClassVar[bool] = False
    """Whether it compares the points of a batch with each other. If not, it is a mean over points or utterances."""
    fused: ClassVar[Fused | None] = None
    """Which of the fused sums it is, if any."""
    turns_freely: ClassVar[bool] = False
    """Whether a rotation is fitted to the points of a batch: fewer points than the common space is wide are turned onto
    each other whatever they are."""
    reaches_student: ClassVar[bool] = True
    """Whether it moves a weight that is deployed; the null alone does not."""
    meaning: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @model_validator(mode="after")
    def _has_a_stage(self) -> "LossSettings":
        if self.begins >= self.ends:
            raise ValueError(f"begins ({self.begins:g}) must be below ends ({self.ends:g}), or the term never counts")
        return self

    def weight_at(self, progress: float) -> float:
        """Return the weight at a point of the run; 0 where the term is left out.

        Args:
            progress: Share of the steps, above 0 in the first and 1 in the last.
        """
        if not self.begins < progress <= self.ends:
            return 0.0
        since = progress - self.begins
        rise = min(1.0, since / self.warmup) if self.warmup else 1.0
        return self.weight * rise * (1 + (self.final - 1) * since / (self.ends - self.begins))

    def aligns(self, side: str) -> bool:
        """Return whether it compares the states of a side ("encoder", "decoder")."""
        return False

    @property
    def softening(self) -> float:
        """What it divides the logits of both sides by; 1 leaves them."""
        return getattr(self, "temperature", 1.0)


class TokenLossSettings(LossSettings):
    """A term that compares what the two sides say at each token of the transcript."""

    reads: ClassVar[frozenset[Reads]] = frozenset({"logits"})
    promise: ClassVar[Promise] = "points"


class AlignmentSettings(LossSettings):
    """A term that compares hidden states through the method's mapping."""

    encoder: bool = Field(default=True, description="Align encoder states (frames, 50 per second of audio).")
    decoder: bool = Field(default=True, description="Align decoder states (tokens); needs transcripts.")

    reads: ClassVar[frozenset[Reads]] = frozenset({"states"})

    def aligns(self, side: str) -> bool:
        """Return whether it compares the states of a side."""
        return self.encoder if side == "encoder" else self.decoder
