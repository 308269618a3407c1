"""Settings of a method: a weighted list of losses, and the mapping that its alignment terms share."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.config.base import Name, Settings
from core.config.losses import Loss

LayerMap = Literal["spaced", "last", "next_input"]

LAYER_MAPS = (
    "spaced: student layer l meets teacher layer round(l * teacher layers / student layers), counted from 1; "
    "last: only the last layer of each side; next_input: a kept layer meets the teacher layer whose output the next "
    "kept layer was trained to read (pruned students only). Layers that are frozen in the student take no part."
)


class Mapping(Settings):
    """Which student layer meets which teacher layer, and through which map into the aligned space."""

    encoder_layers: LayerMap = Field(default="spaced", description=LAYER_MAPS)
    decoder_layers: LayerMap = Field(default="spaced", description="The same for the decoder.")
    encoder_list: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        max_length=256,
        description="Teacher layers from 0, one for each trained student encoder layer; none follows encoder_layers.",
    )
    decoder_list: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        max_length=256,
        description="Teacher layers from 0, one for each student decoder layer; none: decoder_layers.",
    )
    projection: Literal["linear", "hidden", "low_rank", "none"] = Field(
        default="linear",
        description=(
            "Trainable map, student width to common width, discarded at export. linear: one matrix; hidden: the "
            "identity and one hidden layer; low_rank: the identity and a matrix of low rank; none: equal widths only."
        ),
    )
    sharing: Literal["shared", "per_pair"] = Field(
        default="shared", description="shared: one projection for all layer pairs; per_pair: one each."
    )
    hidden_width: int = Field(default=256, ge=1, le=8192, description="Width of a hidden projection's hidden layer.")
    projection_rank: int = Field(default=16, ge=1, le=1024, description="Rank of a low-rank projection.")
    states: Literal["centred", "raw", "whitened"] = Field(
        default="centred",
        description=(
            "centred: subtract the teacher's mean state of each layer; raw: do not; whitened: centred, and the leading "
            "principal directions of the teacher's states scaled to variance one."
        ),
    )
    directions: int = Field(
        default=128, ge=2, le=8192, description="Leading principal directions that whitened states keep."
    )
    basis: Literal["identity", "orthogonal", "principal"] = Field(
        default="identity",
        description=(
            "The teacher's fixed way into the common space. identity: its own space; orthogonal: random orthonormal "
            "directions; principal: the leading principal directions of its states (PCA)."
        ),
    )
    common_width: int | None = Field(
        default=None, ge=2, le=8192, description="Width of the common space; none takes the teacher's."
    )

    @model_validator(mode="after")
    def _basis_for_another_width(self) -> "Mapping":
        if self.common_width is not None and self.basis == "identity":
            raise ValueError("common_width needs a basis: choose 'orthogonal' or 'principal'")
        return self


class Method(Settings):
    """How the student learns."""

    name: Name = Field(
        default="manifold",
        min_length=1,
        max_length=60,
        description="Label of the method in tables, for example 'manifold'.",
    )
    losses: tuple[Loss, ...] = Field(
        min_length=1, description="Terms of the objective; their weighted sum is minimised."
    )
    mapping: Mapping = Field(default=Mapping(), description="Shared by all alignment terms; ignored without one.")
    transcripts: Literal["reference", "teacher"] = Field(
        default="reference",
        description="What the decoder reads and learns: the source's transcripts, or the teacher's (pseudo-labels).",
    )
    largest_wer: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="Pseudo-labels with a larger WER (a fraction) against their reference are left out.",
    )

    @model_validator(mode="after")
    def _each_loss_once(self) -> "Method":
        kinds = [loss.kind for loss in self.losses]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"each kind of loss may appear once; remove the second {', '.join(twice)}")
        # A stretch without any term begins with the run, or where a term ends.
        ends = {loss.ends for loss in self.losses}
        for point in sorted({1e-9, 1.0} | ends | {end + 1e-9 for end in ends if end < 1}):
            if not any(loss.weight_at(point) > 0 for loss in self.losses):
                raise ValueError(f"no term counts at {point:.2g} of the run: let one begin earlier, or end later")
        for loss in self.losses:
            if "states" in loss.reads and not (loss.aligns("encoder") or loss.aligns("decoder")):
                raise ValueError(f"the {loss.kind} term aligns nothing: set encoder or decoder to true")
        return self

    @property
    def aligns(self) -> bool:
        """Whether any term compares hidden states."""
        return any("states" in loss.reads for loss in self.losses)

    @property
    def needs_decoder(self) -> bool:
        """Whether training runs the decoder at all (alignment of encoder states alone does not)."""
        return any("states" not in loss.reads or loss.aligns("decoder") for loss in self.losses)
