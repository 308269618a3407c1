"""Settings of a method: a weighted list of losses, and the mapping that its alignment terms share."""

from typing import Literal

from pydantic import Field, model_validator

from core.config.base import Settings
from core.config.losses import AlignmentSettings, Loss


class Mapping(Settings):
    """Which student layer meets which teacher layer, and through which projection."""

    layers: Literal["spaced", "last"] = Field(
        default="spaced",
        description=(
            "spaced: student layer l meets teacher layer round(l * teacher layers / student layers), counted from 1; "
            "last: only the last layer of each side. Layers that are frozen in the student take no part."
        ),
    )
    projection: Literal["shared", "none"] = Field(
        default="shared",
        description=(
            "shared: one trainable linear map, student width to teacher width, for all layer pairs, discarded at "
            "export; none: compare the states as they are (equal widths only)."
        ),
    )
    states: Literal["centred", "raw"] = Field(
        default="centred",
        description="centred: subtract the teacher's mean state of each layer before normalising; raw: do not.",
    )


class Method(Settings):
    """How the student learns."""

    name: str = Field(
        default="manifold",
        min_length=1,
        max_length=60,
        description="Label of the method in tables, for example 'manifold'.",
    )
    losses: tuple[Loss, ...] = Field(
        min_length=1, description="Terms of the objective; their weighted sum is minimised."
    )
    mapping: Mapping = Field(default=Mapping(), description="Shared by all alignment terms; ignored without one.")

    @model_validator(mode="after")
    def _each_loss_once(self) -> "Method":
        kinds = [loss.kind for loss in self.losses]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"each kind of loss may appear once; remove the second {', '.join(twice)}")
        for loss in self.losses:
            if isinstance(loss, AlignmentSettings) and not (loss.encoder or loss.decoder):
                raise ValueError(f"the {loss.kind} term aligns nothing: set encoder or decoder to true")
        return self

    @property
    def aligns(self) -> bool:
        """Whether any term compares hidden states."""
        return any(loss.needs_states for loss in self.losses)

    @property
    def needs_decoder(self) -> bool:
        """Whether training runs the decoder at all (alignment of encoder states alone does not)."""
        return any(not isinstance(loss, AlignmentSettings) or loss.decoder for loss in self.losses)
