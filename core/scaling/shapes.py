"""The shapes of models, without their weights: what the cost of a job is counted from. No torch here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.config import PretrainedStudent, PrunedStudent, RunConfig
from core.errors import ConfigError, Problem
from core.paths import expanded

FLOAT_BYTES = 4
"""Weights and states are float32."""

AUDIO_POSITIONS, TEXT_POSITIONS = 1500, 448


@dataclass(frozen=True)
class Shape:
    """A Whisper model's sizes; its feed-forward layers are four times as wide as the model, as in every Whisper.

    Attributes:
        width: Of every hidden state.
        encoder_layers: Number of them.
        decoder_layers: Number of them.
        mel_bins: That the encoder hears.
        vocabulary: Entries of the token table.
    """

    width: int
    encoder_layers: int
    decoder_layers: int
    mel_bins: int = 80
    vocabulary: int = 51865

    @property
    def encoder_layer(self) -> int:
        """Weights of the matrices of an encoder layer: attention 4 d^2, feed-forward 8 d^2."""
        return 12 * self.width**2

    @property
    def decoder_layer(self) -> int:
        """The same of a decoder layer, but for keys and values of the encoder's output: (4 + 2 + 8) d^2."""
        return 14 * self.width**2

    @property
    def parameters(self) -> int:
        """Number of all weights, the token table once, which is the output layer, too."""
        width = self.width
        convolutions = 3 * width * (self.mel_bins + width) + 2 * width
        tables = (AUDIO_POSITIONS + TEXT_POSITIONS + self.vocabulary) * width
        # Biases: attention has three (none on keys), feed-forward 5 d, each norm 2 d.
        encoder = self.encoder_layers * (12 * width**2 + (3 + 5 + 4) * width)
        decoder = self.decoder_layers * (16 * width**2 + (6 + 5 + 6) * width)
        return convolutions + tables + encoder + decoder + 4 * width

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights, in bytes."""
        return FLOAT_BYTES * self.parameters


_ENGLISH = 51864
_RELEASED = {
    "tiny": Shape(384, 4, 4),
    "base": Shape(512, 6, 6),
    "small": Shape(768, 12, 12),
    "medium": Shape(1024, 24, 24),
    "large-v1": Shape(1280, 32, 32),
    "large": Shape(1280, 32, 32),
    "large-v2": Shape(1280, 32, 32),
    "large-v3": Shape(1280, 32, 32, mel_bins=128, vocabulary=51866),
    "large-v3-turbo": Shape(1280, 32, 4, mel_bins=128, vocabulary=51866),
}
RELEASED: Mapping[str, Shape] = {
    **{f"openai/whisper-{name}": shape for name, shape in _RELEASED.items()},
    **{
        f"openai/whisper-{name}.en": replace(_RELEASED[name], vocabulary=_ENGLISH)
        for name in ("tiny", "base", "small", "medium")
    },
    "distil-whisper/distil-small.en": Shape(768, 12, 4, vocabulary=_ENGLISH),
    "distil-whisper/distil-medium.en": Shape(1024, 24, 2, vocabulary=_ENGLISH),
    "distil-whisper/distil-large-v2": Shape(1280, 32, 2),
    "distil-whisper/distil-large-v3": Shape(1280, 32, 2, mel_bins=128, vocabulary=51866),
}
"""Whisper models on the Hub by their names, as their configurations say (Radford et al. 2022, arXiv 2212.04356,
table 1; Gandhi et al. 2023, arXiv 2311.00430)."""


def shape_of(model: str) -> Shape:
    """Return the shape of a model by the name of a release, or of a folder in the layout of transformers.

    Raises:
        ConfigError: If it is neither.
    """
    if model in RELEASED:
        return RELEASED[model]
    try:
        said = json.loads((expanded(model) / "config.json").read_text(encoding="utf-8"))
        return Shape(
            said["d_model"], said["encoder_layers"], said["decoder_layers"], said["num_mel_bins"], said["vocab_size"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            "The shape of a model is not known:",
            [
                Problem(
                    model,
                    "is no folder with a config.json of transformers and no released Whisper; name a folder, or one of "
                    f"{', '.join(RELEASED)}",
                )
            ],
        ) from None


def shapes_of(config: RunConfig, rows: Mapping[str, Shape] | None = None) -> tuple[tuple[Shape, ...], Shape]:
    """Return the shapes of a run's teachers and of its student.

    Args:
        config: The run.
        rows: The students of earlier rows by name, which later ones may learn from.

    Raises:
        ConfigError: With every model whose shape is not known, and every layer that does not exist.
    """
    problems: list[Problem] = []
    known = rows or {}

    def find(model: str) -> Shape:
        name = model.removeprefix("row:")
        if model.startswith("row:") and name in known:
            return known[name]
        try:
            return shape_of(model)
        except ConfigError as error:
            problems.extend(error.problems)
            return RELEASED["openai/whisper-tiny"]

    teachers = tuple(find(teacher.model) for teacher in config.teachers)
    student = config.student
    if isinstance(student, PretrainedStudent):
        own = find(student.model)
    else:
        own = _pruned(student, find(student.model) if student.model else teachers[0], problems)
    if problems:
        raise ConfigError("These runs cannot be planned:", list(dict.fromkeys(problems)))
    return teachers, own


def _pruned(student: PrunedStudent, whole: Shape, problems: list[Problem]) -> Shape:
    counts = {"encoder": whole.encoder_layers, "decoder": whole.decoder_layers}
    for side, kept in (("encoder", student.encoder_layers), ("decoder", student.decoder_layers)):
        if kept and kept[-1] >= counts[side]:
            problems.append(
                Problem(f"student.{side}_layers", f"the teacher has layers 0 to {counts[side] - 1}; remove {kept[-1]}")
            )
        counts[side] = len(kept) if kept else counts[side]
    return replace(whole, encoder_layers=counts["encoder"], decoder_layers=counts["decoder"])
