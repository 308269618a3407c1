"""Settings of every loss. The mathematics of kind ``x`` stands in ``core/losses/x.py``.

To add a loss: write its settings here and its file there, and name both in `Loss` below and in
``core.losses.TERMS``.
"""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from core.config.base import Settings


class LossSettings(Settings):
    """A term of the training objective."""

    weight: float = Field(default=1.0, gt=0, le=1000, description="Factor of this term in the sum; no unit.")

    needs_states: ClassVar[bool] = False
    needs_transcripts: ClassVar[bool] = True
    meaning: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    source: ClassVar[str] = ""


class CrossEntropy(LossSettings):
    """Cross-entropy against the reference transcript: no teacher."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    meaning: ClassVar[str] = "Learn the reference transcript; the teacher plays no part."
    formula: ClassVar[str] = "-mean_i log P(y_i | y_<i, x)"
    source: ClassVar[str] = "the control without a teacher"


class SoftLabels(LossSettings):
    """Kullback-Leibler divergence from the teacher's to the student's token distribution."""

    kind: Literal["soft_labels"] = "soft_labels"
    weight: float = Field(default=0.8, gt=0, le=1000, description="Factor of this term in the sum; no unit.")
    temperature: float = Field(
        default=2.0, gt=0, le=20, description="Softens both distributions; no unit, 1 leaves them."
    )

    meaning: ClassVar[str] = "Learn the teacher's distribution over the next token."
    formula: ClassVar[str] = "T^2 * mean_i KL(softmax(q_i / T) || softmax(p_i / T))"
    source: ClassVar[str] = "Hinton, Vinyals and Dean 2015, arXiv 1503.02531"


class AlignmentSettings(LossSettings):
    """A term that compares hidden states, point by point, through the method's mapping."""

    encoder: bool = Field(default=True, description="Align encoder states (frames, 50 per second of audio).")
    decoder: bool = Field(default=True, description="Align decoder states (tokens); needs transcripts.")

    needs_states: ClassVar[bool] = True


class Cosine(AlignmentSettings):
    """One minus the cosine between paired states: the chord, the control for the arc."""

    kind: Literal["cosine"] = "cosine"

    meaning: ClassVar[str] = "Turn each student state towards its teacher state, measured along the chord."
    formula: ClassVar[str] = "mean_i (1 - <u_i, v_i>), u and v centred and normalised"
    source: ClassVar[str] = "Sanh et al. 2019, arXiv 1910.01108 (DistilBERT's cosine term)"


class Geodesic(AlignmentSettings):
    """The angle between paired states on the unit sphere: the method's own term."""

    kind: Literal["geodesic"] = "geodesic"

    meaning: ClassVar[str] = "Turn each student state towards its teacher state, measured along the sphere."
    formula: ClassVar[str] = "mean_i 2 atan2(|u_i - v_i|, |u_i + v_i|), u and v centred and normalised"
    source: ClassVar[str] = "arXiv 2606.00771 (layer- and point-wise mapping; stable form ours)"


Loss = Annotated[CrossEntropy | SoftLabels | Cosine | Geodesic, Field(discriminator="kind")]

LOSSES: tuple[type[LossSettings], ...] = get_args(get_args(Loss)[0])
