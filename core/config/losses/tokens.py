"""Settings of the losses that read logits."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from core.config.losses.base import Fused, Reads, TokenLossSettings


class CrossEntropy(TokenLossSettings):
    """Cross-entropy against the transcript: no teacher."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    reads: ClassVar[frozenset[Reads]] = frozenset({"targets"})
    fused: ClassVar[Fused | None] = "cross_entropy"
    unit: ClassVar[str] = "nats per token"
    meaning: ClassVar[str] = "Learn the transcript; the teacher plays no part."
    formula: ClassVar[str] = "-mean_i log P(y_i | y_<i, x)"
    source: ClassVar[str] = "the control without a teacher"


class SoftLabels(TokenLossSettings):
    """Kullback-Leibler divergence from the teacher's to the student's token distribution."""

    kind: Literal["soft_labels"] = "soft_labels"
    weight: float = Field(default=0.8, gt=0, le=1000, description="Factor of this term in the sum; no unit.")
    temperature: float = Field(
        default=2.0, gt=0, le=20, description="Softens both distributions; no unit, 1 leaves them."
    )

    fused: ClassVar[Fused | None] = "soft_labels"
    unit: ClassVar[str] = "nats per token, times T²"
    meaning: ClassVar[str] = "Learn the teacher's distribution over the next token."
    formula: ClassVar[str] = "T^2 * mean_i KL(softmax(q_i / T) || softmax(p_i / T))"
    source: ClassVar[str] = "Hinton, Vinyals and Dean 2015, arXiv 1503.02531"


class Dkd(TokenLossSettings):
    """Decoupled distillation: the transcript's token and the others, weighed apart."""

    kind: Literal["dkd"] = "dkd"
    target_weight: float = Field(
        default=1.0, ge=0, le=100, description="Factor of the part about the transcript's token; no unit."
    )
    other_weight: float = Field(
        default=0.5, ge=0, le=100, description="Factor of the part about all other tokens; no unit."
    )
    temperature: float = Field(
        default=1.0, gt=0, le=20, description="Softens both distributions; no unit, 1 leaves them."
    )

    reads: ClassVar[frozenset[Reads]] = frozenset({"logits", "targets"})
    unit: ClassVar[str] = "nats per token, times T²"
    meaning: ClassVar[str] = "Logit KD, with the teacher's distribution over the wrong tokens weighted separately."
    formula: ClassVar[str] = (
        "T^2 * mean_i (alpha KL(b_T || b_S) + beta KL(o_T || o_S)), b: target or not, o: the others among themselves"
    )
    source: ClassVar[str] = (
        "Zhao et al. 2022, arXiv 2203.08679; defaults: the authors' ImageNet setting (ResNet-34 to 18)"
    )

    @model_validator(mode="after")
    def _has_a_part(self) -> "Dkd":
        if not self.target_weight and not self.other_weight:
            raise ValueError("target_weight and other_weight are both 0, so the term has no part: raise one of them")
        return self


class StandardisedLogits(TokenLossSettings):
    """Soft labels from logits that were standardised on either side."""

    kind: Literal["standardised_logits"] = "standardised_logits"
    weight: float = Field(default=9.0, gt=0, le=1000, description="Factor of this term in the sum; no unit.")
    temperature: float = Field(
        default=0.5,
        gt=0,
        le=20,
        description=(
            "Base temperature, in standard deviations of a side's logits. The authors' is 2, for 100 or 1,000 classes; "
            "of Whisper's 51,864 tokens the likeliest then has 0.4 % of the probability, at 1 29 %, at 0.5 86 %."
        ),
    )

    unit: ClassVar[str] = "nats per token, times T²"
    meaning: ClassVar[str] = "Learn how the teacher ranks tokens, whatever the scale of its logits."
    formula: ClassVar[str] = "T^2 * mean_i KL(softmax(Z(q_i) / T) || softmax(Z(p_i) / T)), Z(x) = (x - mean) / std"
    source: ClassVar[str] = "Sun et al. 2024, arXiv 2403.01427; formula and weight 9 theirs, temperature ours"


class SphericalLogits(TokenLossSettings):
    """Soft labels from logits whose length was taken away."""

    kind: Literal["spherical_logits"] = "spherical_logits"
    temperature: float = Field(
        default=1.0, gt=0, le=20, description="Softens both distributions; no unit, 1 leaves them."
    )
    cross_entropy: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description=(
            "Factor of a cross-entropy of the scaled logits inside the term, as its authors have it; no unit. Leave "
            "out the cross_entropy term beside it."
        ),
    )

    reads: ClassVar[frozenset[Reads]] = frozenset({"logits", "targets"})
    unit: ClassVar[str] = "nats per token, times T²"
    meaning: ClassVar[str] = "Learn the direction of the teacher's logits; their length, its confidence, is left out."
    formula: ClassVar[str] = (
        "mean_i (T^2 KL(softmax(r u(q_i) / T) || softmax(r u(p_i) / T)) - c log softmax(r u(p_i))[y_i]), "
        "u: centred, length 1, r: mean length of the teacher's centred logits"
    )
    source: ClassVar[str] = "Guo et al. 2020, arXiv 2010.07485; temperature ours (theirs: 4, for 1,000 classes)"


class Taid(TokenLossSettings):
    """A target that moves from the student's own distribution to the teacher's."""

    kind: Literal["taid"] = "taid"
    start: float = Field(default=0.4, gt=0, lt=1, description="Share of the teacher in the target at first.")
    pace: float = Field(
        default=5e-4,
        ge=0,
        le=1,
        description=(
            "How fast the share grows beyond a straight line to 1, by the relative change of the loss; no unit. "
            "At 5e-4 the line alone counts in runs of fewer than 2,000 steps."
        ),
    )
    momentum: float = Field(default=0.99, ge=0, lt=1, description="Of the relative change of the loss; no unit.")

    unit: ClassVar[str] = "nats per token"
    meaning: ClassVar[str] = (
        "Learn from a target between student and teacher that moves towards the teacher during the run."
    )
    formula: ClassVar[str] = "mean_i KL(softmax((1 - t) sg(p_i) + t q_i) || softmax(p_i)), t from start to 1, adaptive"
    source: ClassVar[str] = "Shing et al. 2025, arXiv 2501.16937"


class FisherRao(TokenLossSettings):
    """The distance of the two distributions along the simplex."""

    kind: Literal["fisher_rao"] = "fisher_rao"
    temperature: float = Field(
        default=1.0, gt=0, le=20, description="Softens both distributions; no unit, 1 leaves them."
    )

    unit: ClassVar[str] = "radians, mean over the batch's tokens"
    meaning: ClassVar[str] = "Learn the teacher's distribution along the shortest path on the simplex of distributions."
    formula: ClassVar[str] = "mean_i 2 arccos(sum_v sqrt(P_iv Q_iv)), by atan2"
    source: ClassVar[str] = "Rao 1945; logits on a manifold, our reading of arXiv 2606.00771"
