"""How much there is to compute in each part of a job, in a few kinds of work, counted from shapes alone.

A kind is what takes the same time wherever it stands: matrix products, attention, passes over values, calls. How long a
unit of each takes on a machine is measured (core.calibration) and fitted (core.scaling.fit).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from core.config import RunConfig
from core.scaling.shapes import Shape

FRAMES_PER_SECOND = 50
TOKENS_PER_SECOND = 4
"""Decoder tokens that a second of audio is counted with: English is spoken at 150 words a minute or so, 2.5 a second,
and a word is 1.3 to 1.6 of Whisper's tokens. One pass reads them all, as in training; a decoder with a key-value cache
computes nearly the same, token after token."""

TOKENS_BESIDES_SPEECH = 10
"""Tokens that any transcript may have, however short the clip."""

PROMPT_TOKENS = 2
PREPARE_BATCH, PREPARE_BATCH_ON_A_GPU = 4, 16
"""Utterances in a pass of the teachers: on a CPU few, whose states between layers stay in its cache."""

PROBE_UTTERANCES = 60
"""Utterances of the development set whose states are stored."""

PROBE_POINTS = 5
"""At how many points of a run they are stored."""

FRAME_STRIDE = 4
"""Every fourth encoder frame is kept: 12.5 a second; neighbouring frames say nearly the same."""

MODULES = {
    "encoder": {"q_proj": 1, "k_proj": 1, "v_proj": 1, "out_proj": 1, "fc1": 1, "fc2": 1},
    "decoder": {"q_proj": 2, "k_proj": 2, "v_proj": 2, "out_proj": 2, "fc1": 1, "fc2": 1},
}
"""How many linear modules of a layer have a name."""


@dataclass(frozen=True)
class Work:
    """An amount of work, by kind.

    Attributes:
        products: FLOPs of matrix products and convolutions; a multiplication and an addition are two.
        attention: FLOPs of the products inside attention, which have their own kernel.
        head: FLOPs of the output layer.
        elements: Values that are read or written one by one (norms, activations, sums).
        logits: Logits that are read or written one by one.
        reads: Frozen weights that a step of decoding or of training reads anew, however little it computes with them;
            where products are in half precision, they are converted each time.
        calls: Passes through a layer, forward or backward.
        tensors: Adapters whose gradients are checked, clipped and applied.
        clips: Utterances that are read, turned into features, collated or compared.
        once: Batches.
    """

    products: float = 0.0
    attention: float = 0.0
    head: float = 0.0
    elements: float = 0.0
    logits: float = 0.0
    reads: float = 0.0
    calls: float = 0.0
    tensors: float = 0.0
    clips: float = 0.0
    once: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(*(getattr(self, name) + getattr(other, name) for name in KINDS))

    def __mul__(self, times: float) -> "Work":
        """Return the same several times."""
        return Work(*(getattr(self, name) * times for name in KINDS))

    def as_list(self) -> list[float]:
        """Return the amounts in the order of `KINDS`."""
        return [getattr(self, name) for name in KINDS]


KINDS = tuple(field.name for field in fields(Work))


@dataclass(frozen=True)
class Clips:
    """Utterances that go through a model together.

    Attributes:
        count: How many.
        seconds: Of audio in each.
        context: That the encoder sees of each, in seconds.
        tokens: Of each text, without prompt; by default `TOKENS_PER_SECOND`.
    """

    count: int
    seconds: float
    context: float
    tokens: float | None = None

    @property
    def frames(self) -> float:
        """Frames of the whole context."""
        return self.context * FRAMES_PER_SECOND

    @property
    def valid_frames(self) -> float:
        """Frames that hold audio."""
        return self.seconds * FRAMES_PER_SECOND

    @property
    def text(self) -> float:
        """Tokens that are learnt of each, the end among them."""
        return (self.seconds * TOKENS_PER_SECOND if self.tokens is None else self.tokens) + 1


def prepare_batch(on_a_gpu: bool) -> int:
    """Return how many utterances the teachers hear at once."""
    return PREPARE_BATCH_ON_A_GPU if on_a_gpu else PREPARE_BATCH


def encoder_work(shape: Shape, clips: Clips, *, first: int = 0, backward: bool = False) -> Work:
    """Return what the encoder computes from a layer on; from 0 with its convolutions.

    Args:
        shape: The model.
        clips: What it hears.
        first: Layer it begins at.
        backward: Whether gradients go back to its frozen weights' inputs: one more product for each, and five in
            attention for its two (Dao et al. 2022, arXiv 2205.14135).
    """
    layers, rows, width = shape.encoder_layers - first, clips.count * clips.frames, shape.width
    work = Work(
        products=2.0 * rows * layers * shape.encoder_layer * (2 if backward else 1),
        attention=4.0 * rows * clips.frames * width * layers * (3.5 if backward else 1),
        elements=20.0 * rows * width * layers * (2 if backward else 1),
        calls=layers * (2 if backward else 1),
    )
    if first:
        return work
    convolutions = 2.0 * rows * 3 * width * (2 * shape.mel_bins + width)
    return work + Work(products=convolutions, elements=6.0 * rows * width, calls=1)


def decoder_work(shape: Shape, clips: Clips, *, students: int = 1, backward: bool = False, to_encoder: bool = False):
    """Return what the decoder computes on given texts.

    Args:
        shape: The model.
        clips: What it reads.
        students: Side by side; keys and values of the encoder's output are computed once where it is one for all.
        backward: Whether gradients go back through it.
        to_encoder: Whether they go on into the encoder.
    """
    layers, width = shape.decoder_layers, shape.width
    length = PROMPT_TOKENS - 1 + clips.text
    rows, heard = students * clips.count * length, clips.count * clips.frames
    both = 2 if backward else 1
    return Work(
        products=layers * (2.0 * rows * shape.decoder_layer * both + 4.0 * heard * width**2 * (1 + to_encoder)),
        attention=4.0 * rows * width * (length + clips.frames) * layers * (3.5 if backward else 1),
        elements=layers * width * (28.0 * rows * both + 2.0 * heard * students * both),
        calls=1.5 * layers * both,
    )


def listening_work(
    teachers: Sequence[Shape], student: Shape, clips: Clips, *, freeze_below: int, shares_start: bool
) -> Work:
    """Return what a batch takes in the pass of teachers and frozen layers over the audio.

    Args:
        teachers: All of them.
        student: Its first layers are run, once for both where the first teacher shares them.
        clips: The batch.
        freeze_below: See RunConfig.
        shares_start: Whether it does.
    """
    work = Work(clips=clips.count, once=1)
    for number, teacher in enumerate(teachers):
        work += encoder_work(teacher, clips) + decoder_work(teacher, clips)
        if len(teachers) > 1:
            work += Work(
                head=2.0 * clips.count * clips.text * teacher.width * teacher.vocabulary,
                logits=4.0 * clips.count * clips.text * teacher.vocabulary,
            )
        if number == 0 and not shares_start:
            work += encoder_work(replace(student, encoder_layers=max(freeze_below, 1)), clips)
    return work


def adapter_modules(config: RunConfig, student: Shape) -> dict[str, int]:
    """Return how many modules are adapted, by side; a name that begins with a part's name is one of its two."""
    counts = {"encoder": 0, "decoder": 0}
    sides = (("encoder", config.lora.encoder_targets), ("decoder", config.lora.decoder_targets))
    for side, targets in sides:
        layers = student.encoder_layers - config.freeze_below if side == "encoder" else student.decoder_layers
        for target in targets:
            counts[side] += layers * (1 if "." in target else MODULES[side].get(target, 1))
    return counts


def trained_parameters(config: RunConfig, student: Shape, teachers: Sequence[Shape]) -> tuple[int, int]:
    """Return how many weights adapters and projections have, at the rank as it is written.

    A budget gives the largest rank that fits it, so it is counted whole.
    """
    width, wide = student.width, 5 * student.width
    names = {"fc1": wide, "fc2": wide}
    adapters = 0
    for side, targets in (("encoder", config.lora.encoder_targets), ("decoder", config.lora.decoder_targets)):
        layers = student.encoder_layers - config.freeze_below if side == "encoder" else student.decoder_layers
        for target in targets:
            modules = layers * (1 if "." in target else MODULES[side].get(target, 1))
            adapters += modules * config.lora.rank * names.get(target.split(".")[-1], 2 * width)
    projections = sum(width * teacher.width for teacher in teachers) if config.method.aligns else 0
    if config.method.mapping.projection == "none":
        projections = 0
    if config.lora.budget is not None:
        most = round(config.lora.budget * sum(teacher.parameters for teacher in teachers))
        adapters = max(most - projections, 0)
    return adapters, projections


def aligned_layers(config: RunConfig, student: Shape) -> tuple[int, int]:
    """Return how many encoder and decoder layers of the student meet a teacher's."""
    mapping = config.method.mapping
    counts = []
    for side, layers in (
        ("encoder", student.encoder_layers - config.freeze_below),
        ("decoder", student.decoder_layers),
    ):
        used = any(loss.aligns(side) for loss in config.method.losses)
        one = getattr(mapping, f"{side}_layers") == "last" and getattr(mapping, f"{side}_list") is None
        counts.append((min(1, layers) if one else layers) if used else 0)
    return counts[0], counts[1]


def step_work(config: RunConfig, teachers: Sequence[Shape], student: Shape, clips: Clips, *, students: int = 1) -> Work:
    """Return what a training step takes of some students side by side over one batch.

    Args:
        config: Of any of them: what is adapted, frozen and compared.
        teachers: Whose logits are made anew in every step, once for all students.
        student: Their shape.
        clips: The batch.
        students: How many.
    """
    in_encoder = bool(config.lora.encoder_targets) and config.freeze_below < student.encoder_layers
    modules = adapter_modules(config, student)
    adapters, projections = trained_parameters(config, student, teachers)
    copies = students if in_encoder else 1
    heard = replace(clips, count=clips.count * copies)
    length = PROMPT_TOKENS - 1 + clips.text
    of_encoder = modules["encoder"] and adapters * modules["encoder"] / sum(modules.values())
    rows = clips.count * (clips.frames * of_encoder + length * (adapters - of_encoder))
    low_rank = 2.0 * 3 * students * rows
    work = Work(
        products=low_rank,
        elements=8.0 * students * (adapters + projections),
        tensors=2.0 * students * sum(modules.values()),
        clips=students * clips.count,
        once=1,
    )
    if config.freeze_below < student.encoder_layers:
        work += encoder_work(student, heard, first=max(config.freeze_below, 1), backward=in_encoder)
        work += Work(reads=(student.encoder_layers - config.freeze_below) * student.encoder_layer)
    if config.method.needs_decoder:
        work += decoder_work(student, clips, students=students, backward=True, to_encoder=in_encoder)
        work += Work(reads=student.decoder_layers * student.decoder_layer)
    losses = [loss for loss in config.method.losses if "states" not in loss.reads]
    if losses:
        tokens = clips.count * clips.text
        work += Work(
            head=4.0 * students * tokens * student.width * student.vocabulary,
            logits=4.0 * students * tokens * student.vocabulary,
            reads=student.width * student.vocabulary,
        )
        if any("logits" in loss.reads for loss in losses):
            for teacher in teachers:
                work += Work(
                    head=2.0 * tokens * teacher.width * teacher.vocabulary,
                    logits=2.0 * tokens * teacher.vocabulary,
                    reads=teacher.width * teacher.vocabulary,
                )
    encoder_pairs, decoder_pairs = aligned_layers(config, student)
    points = clips.count * (encoder_pairs * clips.valid_frames + decoder_pairs * clips.text)
    for teacher in teachers if points else ():
        work += Work(
            products=6.0 * students * points * student.width * teacher.width,
            elements=12.0 * students * points * teacher.width,
            calls=students * (encoder_pairs + decoder_pairs),
        )
    return work


def transcription_work(
    models: Sequence[Shape], clips: Clips, *, steps: float, first: int | None, compared: Sequence[Shape] = ()
) -> Work:
    """Return what transcribing a batch takes.

    Args:
        models: That write one text together.
        clips: The batch.
        steps: Tokens that are written, prompts left out.
        first: Encoder layer that is begun at; None where the encoder's output is there.
        compared: Teachers that a student diverges from on the reference.
    """
    work = Work(clips=clips.count, once=1)
    for shape in models:
        layers, width, heard = shape.decoder_layers, shape.width, clips.count * clips.frames
        weights = layers * shape.decoder_layer + width * shape.vocabulary
        work += Work(
            products=2.0 * clips.count * steps * weights + 4.0 * heard * layers * width**2,
            attention=4.0 * clips.count * steps * width * (clips.frames + steps / 2) * layers,
            logits=clips.count * steps * shape.vocabulary,
            reads=steps * weights,
            calls=steps * layers,
        )
        if first is not None and first < shape.encoder_layers:
            work += encoder_work(shape, clips, first=max(first, 1))
    if compared:
        tokens = clips.count * clips.text
        for shape in models:
            work += decoder_work(shape, clips)
        for shape in (*models, *compared):
            work += Work(products=2.0 * tokens * shape.width * shape.vocabulary, logits=4.0 * tokens * shape.vocabulary)
    return work


def kept_values(config: RunConfig, student: Shape, clips: Clips, *, students: int = 1) -> dict[str, float]:
    """Return how many values a step keeps for its gradients, up to a factor for each entry that is measured."""
    in_encoder = bool(config.lora.encoder_targets) and config.freeze_below < student.encoder_layers
    layers = student.encoder_layers - config.freeze_below
    heard, length = clips.count * clips.frames, PROMPT_TOKENS - 1 + clips.text
    read = student.decoder_layers if config.method.needs_decoder else 0
    encoder_pairs, decoder_pairs = aligned_layers(config, student)
    points = clips.count * (encoder_pairs * clips.valid_frames + decoder_pairs * clips.text)
    return {
        "encoder": students * heard * student.width * layers if in_encoder else 0.0,
        "decoder": students * clips.count * length * student.width * read,
        "heard": students * heard * student.width * read,
        "points": students * points * student.width,
        "once": 1.0,
    }
