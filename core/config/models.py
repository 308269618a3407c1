"""Settings of teachers, students and adapters."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from core.config.base import Settings
from core.names import cleaned, on_one_line

RUN, ROW = "run:", "row:"
"""What a teacher's name begins with when it is the student of a finished run, or of an earlier row."""


def _model_name(text: str) -> str:
    name = on_one_line(text)
    return cleaned(name) if name.startswith((RUN, ROW)) else name


ModelName = Annotated[str, AfterValidator(_model_name)]
"""Text on one line, in which everything is seen; of a folder, all spaces stay."""


class Teacher(Settings):
    """A frozen model to learn from."""

    model: ModelName = Field(
        default="openai/whisper-tiny.en",
        min_length=1,
        description=(
            "A local folder (transformers or CTranslate2), a Hub id, run:ID for the student of a finished run, or "
            "row:NAME for the student of an earlier row of the same ablation."
        ),
    )
    revision: str | None = Field(
        default=None, description="Hub revision (commit, tag or branch); none takes the newest."
    )

    @property
    def run(self) -> str | None:
        """Id of the run whose student it is, if it is one."""
        return self.model.removeprefix(RUN) if self.model.startswith(RUN) else None

    @property
    def row(self) -> str | None:
        """Name of the row whose student it is, if it is one."""
        return self.model.removeprefix(ROW) if self.model.startswith(ROW) else None

    @property
    def label(self) -> str:
        """What its results are called."""
        return self.row or self.model


class PretrainedStudent(Settings):
    """A student with weights of its own."""

    kind: Literal["pretrained"] = "pretrained"
    model: ModelName = Field(min_length=1, description="A local folder (transformers or CTranslate2), or a Hub id.")
    revision: str | None = Field(
        default=None, description="Hub revision (commit, tag or branch); none takes the newest."
    )


class PrunedStudent(Settings):
    """A teacher with fewer layers."""

    kind: Literal["pruned"] = "pruned"
    model: ModelName | None = Field(
        default=None,
        min_length=1,
        description="What it is cut from, named as a teacher is; none takes the first teacher.",
    )
    encoder_layers: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Teacher encoder layers that are kept, from 0, ascending; none keeps all.",
    )
    decoder_layers: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Teacher decoder layers that are kept, from 0, ascending; none keeps all.",
    )

    @field_validator("encoder_layers", "decoder_layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and (list(layers) != sorted(set(layers)) or layers[0] < 0):
            raise ValueError("must be ascending layer numbers from 0, each once")
        return layers


Student = Annotated[PretrainedStudent | PrunedStudent, Field(discriminator="kind")]


class Mixture(Settings):
    """Several low-rank experts in the place of each adapter, weighed anew for every frame and token by a router."""

    experts: int = Field(default=4, ge=2, le=64, description="Experts of each adapted module.")
    top_k: int | None = Field(
        default=None,
        ge=1,
        le=63,
        description="Experts that a frame or token goes to, those of largest weight; none: all, by their weight.",
    )
    gain: float = Field(
        default=1.0,
        gt=0,
        le=64,
        description=(
            "Factor on the gated sum of the experts. 1: their mean, as in MixLoRA; as many as there are experts: with "
            "even gates all of them together are one adapter."
        ),
    )
    balance: float = Field(
        default=0.01,
        ge=0,
        le=10,
        description=(
            "Weight of the load-balancing term, which is 1 at equal loads, or top_k where that is set; 0 leaves it out."
        ),
    )

    @model_validator(mode="after")
    def _some_are_left_out(self) -> "Mixture":
        if self.top_k is not None and self.top_k >= self.experts:
            raise ValueError(
                f"top_k is {self.top_k}, but there are {self.experts} experts: lower top_k, or leave it out to use all"
            )
        return self


class Lora(Settings):
    """Low-rank adapters: the only weights of the student that are trained."""

    rank: int = Field(
        default=32,
        ge=1,
        le=512,
        description="Rank of every adapter. A mixture has at most as many parameters as adapters of this rank.",
    )
    alpha: int = Field(default=64, ge=1, le=4096, description="The adapter's output is scaled by alpha / rank.")
    budget: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description=(
            "Largest share of the teacher's parameters that adapters and projections may have together; gives the "
            "largest rank that fits (alpha / rank stays), whatever rank says. none: rank as it is."
        ),
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapter's input, a probability.")
    encoder_targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
        description="Linear modules of encoder layers to adapt, by name or by the end of their path.",
    )
    decoder_targets: tuple[str, ...] = Field(
        default=(), description="The same for decoder layers, for example 'encoder_attn.q_proj'."
    )
    mixture: Mixture | None = Field(
        default=None, description="Experts and a router in the place of each adapter; none: one adapter for all points."
    )

    @model_validator(mode="after")
    def _adapts_something(self) -> "Lora":
        if not (self.encoder_targets or self.decoder_targets):
            raise ValueError("adapts nothing: name encoder_targets or decoder_targets")
        return self
