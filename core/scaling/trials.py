"""Which short passes, steps and transcriptions of models of some shapes are measured, and which are held out.

Wide models get few layers: what a layer takes is found as well from two as from thirty-two.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from core.config import RunConfig, parse_run
from core.scaling.shapes import RELEASED, Shape
from core.scaling.work import (
    TOKENS_BESIDES_SPEECH,
    TOKENS_PER_SECOND,
    Clips,
    Work,
    listening_work,
    step_work,
    transcription_work,
)

MODEL = "openai/whisper-tiny.en"
"""Whose tokens and features all trials have."""

MANY_STEPS = 100_000
TEXT = "the quick brown fox jumps over the lazy dog and finds the cat asleep beside the warm stove"

ENCODER = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
QUERIES_VALUES = ("q_proj", "v_proj")
TOKENS = [{"kind": "cross_entropy"}, {"kind": "soft_labels"}]
STATES = [*TOKENS, {"kind": "geodesic", "weight": 8, "decoder": False}]


@dataclass(frozen=True)
class Trial:
    """A configuration that is measured.

    Attributes:
        part: Of a job.
        shape: Of the teacher: width, encoder layers, decoder layers.
        kept: Encoder and decoder layers of the student.
        batch: Utterances.
        seconds: Of audio in each.
        context: That the encoder sees, in seconds.
        frozen: Encoder layers of the student that are computed once.
        encoder: Which modules of the encoder are adapted.
        decoder: And of the decoder.
        rank: Of the adapters.
        losses: Terms of a step.
        students: Side by side.
        compared: Whether a transcribing student is compared with its teacher, too.
        held_out: Whether it is predicted, not fitted.
    """

    part: str
    shape: tuple[int, int, int]
    kept: tuple[int, int]
    batch: int
    seconds: float
    context: float
    frozen: int = 0
    encoder: tuple[str, ...] = ()
    decoder: tuple[str, ...] = ()
    rank: int = 8
    losses: Sequence[Mapping[str, object]] = ()
    students: int = 1
    compared: bool = False
    held_out: bool = False

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        width, encoder, decoder = self.shape
        said = f"width {width}, {encoder}+{decoder} layers, {self.batch} of {self.seconds:g} s in {self.context:g} s"
        if self.part == "listening":
            return said
        said = f"width {width}, {self.kept[0]}+{self.kept[1]} layers, {said.split(', ', 2)[2]}"
        if self.part == "transcription":
            return said
        where = " and ".join(name for name in ("encoder", "decoder") if getattr(self, name))
        many = f", {self.students} students" if self.students > 1 else ""
        return f"{said}, {self.frozen} frozen, rank {self.rank} in the {where}{many}"

    def clips(self, tokens: int) -> Clips:
        """Return what goes through it, with texts of so many tokens."""
        return Clips(self.batch, self.seconds, self.context, tokens)

    @property
    def text(self) -> str:
        """What is said in each utterance, at the usual number of words."""
        return " ".join(islice(cycle(TEXT.split()), max(1, round(TOKENS_PER_SECOND * self.seconds))))

    def shapes(self) -> tuple[Shape, Shape]:
        """Return the teacher's shape and the student's; both have the tokens of Whisper tiny.en."""
        width, encoder, decoder = self.shape
        whole = Shape(width, encoder, decoder, vocabulary=RELEASED[MODEL].vocabulary)
        return whole, dataclasses.replace(whole, encoder_layers=self.kept[0], decoder_layers=self.kept[1])

    def work(self, tokens: int) -> Work:
        """Return how much it is, with texts of so many tokens."""
        clips, config, (teacher, student) = self.clips(tokens), self.config(), self.shapes()
        if self.part == "listening":
            return listening_work([teacher], student, clips, freeze_below=self.frozen, shares_start=True)
        if self.part == "step":
            return step_work(config, [teacher], student, clips, students=self.students)
        cap = TOKENS_BESIDES_SPEECH + int(config.evaluation.tokens_per_second * self.seconds)
        compared = [teacher] if self.compared else []
        return transcription_work([student], clips, steps=cap, first=self.frozen, compared=compared)

    def config(self) -> RunConfig:
        """Return the run that it is a part of."""
        return parse_run(
            {
                "student": {
                    "kind": "pruned",
                    "encoder_layers": _evenly(self.kept[0], self.shape[1], self.frozen),
                    "decoder_layers": _evenly(self.kept[1], self.shape[2], 0),
                },
                "freeze_below": self.frozen,
                "lora": {
                    "rank": self.rank,
                    "alpha": self.rank,
                    "encoder_targets": self.encoder,
                    "decoder_targets": self.decoder or (() if self.encoder else QUERIES_VALUES),
                },
                "method": {"losses": self.losses or TOKENS, "mapping": {"encoder_layers": "spaced"}},
                "training": {
                    "steps": MANY_STEPS,
                    "batch_size": self.batch,
                    "audio_context": self.context,
                    "learning_rate": 1e-5,
                },
                "evaluation": {"batch_size": self.batch, "audio_context": self.context},
            }
        )


def _evenly(kept: int, of: int, frozen: int) -> tuple[int, ...]:
    """Return which layers of a teacher a student keeps: its first ones, which are frozen, and its last ones."""
    return (*range(min(frozen, kept)), *range(of - (kept - min(frozen, kept)), of))


TINY, BASE, WIDE = (384, 4, 4), (512, 6, 6), (1024, 2, 2)
_STEPS = (
    Trial("step", TINY, (3, 4), 2, 3, 15, frozen=2, encoder=ENCODER, rank=32, losses=STATES),
    Trial("step", TINY, (3, 4), 8, 4, 5, frozen=2, encoder=ENCODER, rank=16, losses=TOKENS),
    Trial("step", TINY, (4, 4), 2, 8, 30, encoder=QUERIES_VALUES, decoder=QUERIES_VALUES),
    Trial("step", TINY, (4, 4), 1, 2, 2, frozen=4, decoder=QUERIES_VALUES),
    Trial("step", TINY, (4, 2), 4, 8, 10, frozen=4, decoder=QUERIES_VALUES, students=8),
    Trial("step", TINY, (4, 4), 8, 10, 10, frozen=4, decoder=("q_proj",)),
    Trial("step", BASE, (6, 4), 2, 5, 5, encoder=QUERIES_VALUES, decoder=QUERIES_VALUES, losses=STATES),
    Trial("step", BASE, (5, 4), 2, 10, 15, frozen=3, encoder=ENCODER, rank=32, losses=STATES),
    Trial("step", BASE, (6, 4), 2, 8, 10, frozen=6, decoder=QUERIES_VALUES, students=4),
    Trial("step", BASE, (6, 6), 6, 4, 5, frozen=6, decoder=ENCODER),
    Trial("step", WIDE, (2, 2), 1, 5, 10, frozen=1, encoder=ENCODER, losses=STATES),
    Trial("step", WIDE, (2, 2), 1, 10, 15, frozen=2, decoder=QUERIES_VALUES, students=2),
    Trial("step", TINY, (4, 4), 4, 6, 15, frozen=2, encoder=ENCODER, rank=16, losses=STATES, held_out=True),
    Trial("step", TINY, (3, 4), 3, 9, 20, frozen=1, encoder=ENCODER, rank=8, losses=TOKENS, held_out=True),
    Trial("step", TINY, (4, 3), 6, 5, 8, frozen=4, decoder=QUERIES_VALUES, students=3, held_out=True),
    Trial("step", BASE, (4, 3), 4, 7, 10, frozen=2, encoder=ENCODER, rank=16, losses=STATES, held_out=True),
    Trial("step", BASE, (6, 4), 4, 9, 10, frozen=6, decoder=QUERIES_VALUES, rank=16, students=6, held_out=True),
    Trial("step", BASE, (6, 6), 3, 12, 15, encoder=QUERIES_VALUES, decoder=QUERIES_VALUES, rank=4, held_out=True),
    Trial("step", (768, 4, 3), (4, 3), 2, 8, 10, frozen=2, encoder=ENCODER, rank=32, losses=STATES, held_out=True),
)
_LISTENING = (
    Trial("listening", TINY, (4, 4), 1, 2, 2),
    Trial("listening", TINY, (4, 4), 8, 4, 5),
    Trial("listening", TINY, (4, 4), 4, 10, 15),
    Trial("listening", TINY, (4, 4), 2, 20, 30),
    Trial("listening", BASE, (6, 6), 4, 5, 5),
    Trial("listening", BASE, (6, 6), 2, 12, 15),
    Trial("listening", BASE, (6, 6), 1, 25, 30),
    Trial("listening", WIDE, (2, 2), 2, 5, 5),
    Trial("listening", WIDE, (2, 2), 2, 12, 15),
    Trial("listening", TINY, (4, 4), 8, 8, 10, held_out=True),
    Trial("listening", BASE, (6, 6), 6, 8, 10, held_out=True),
    Trial("listening", BASE, (6, 6), 2, 16, 20, held_out=True),
    Trial("listening", (768, 4, 4), (4, 4), 3, 8, 10, held_out=True),
    Trial("listening", (1280, 3, 3), (3, 3), 2, 10, 15, held_out=True),
)
_TRANSCRIPTION = (
    Trial("transcription", TINY, (4, 4), 1, 2, 5, frozen=1),
    Trial("transcription", TINY, (3, 4), 16, 3, 15, frozen=2, compared=True),
    Trial("transcription", TINY, (4, 2), 4, 4, 30, frozen=1),
    Trial("transcription", TINY, (4, 4), 2, 8, 10, frozen=4),
    Trial("transcription", BASE, (6, 6), 4, 3, 5, frozen=1),
    Trial("transcription", BASE, (6, 4), 8, 2, 15, frozen=3, compared=True),
    Trial("transcription", BASE, (6, 6), 1, 5, 30, frozen=6, compared=True),
    Trial("transcription", WIDE, (2, 2), 4, 3, 10, frozen=1, compared=True),
    Trial("transcription", TINY, (3, 4), 8, 4, 15, frozen=2, compared=True, held_out=True),
    Trial("transcription", BASE, (6, 6), 4, 4, 15, frozen=2, held_out=True),
    Trial("transcription", BASE, (5, 3), 12, 2, 10, frozen=5, compared=True, held_out=True),
    Trial("transcription", (768, 4, 3), (4, 3), 4, 3, 15, frozen=2, held_out=True),
)
TRIALS = (*_STEPS, *_LISTENING, *_TRANSCRIPTION)
