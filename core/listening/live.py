"""What a job asks of its teachers, and the teachers that are run whenever they are asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from core.config import Evaluation, Training
from core.evaluation import Listener, Transcription, transcribe_set
from core.families.whisper import Whisper
from core.mapping import LayerPair
from core.precision import products_in
from core.probes import every_layer
from core.scaling.work import prepare_batch
from core.sources import Utterance
from core.teacher_outputs import Prepared, prepare_utterances

Advance = Callable[[int], None]
"""Called with the number of utterances done since the last call; may raise to stop."""


@dataclass(frozen=True)
class Models:
    """Who listens, and to what in particular.

    Attributes:
        teachers: Frozen.
        student: Its first `freeze_below` encoder layers are run.
        freeze_below: See RunConfig.
        pairs: Teacher layers that some run compares.
        decoding: How texts are written.
        precision: See `heard_in`.
    """

    teachers: tuple[Whisper, ...]
    student: Whisper
    freeze_below: int
    pairs: tuple[LayerPair, ...]
    decoding: Evaluation
    precision: torch.dtype = torch.float32

    def run(
        self,
        utterances: Sequence[Utterance],
        audio_context: float,
        *,
        advance: Advance,
        keep_teacher_encoder: bool = False,
        asked: Sequence[int] | None = None,
    ) -> list[Prepared]:
        """Run frozen layers and teachers; see `prepare_utterances`."""
        # Error rates are those of float32, on whatever device.
        precision = torch.float32 if keep_teacher_encoder else self.precision
        with products_in(precision, self.student.device):
            return prepare_utterances(
                utterances,
                teachers=self.teachers,
                student=self.student,
                freeze_below=self.freeze_below,
                pairs=self.pairs,
                audio_context=audio_context,
                keep_teacher_encoder=keep_teacher_encoder,
                batch_size=prepare_batch(self.student.device.type == "cuda"),
                advance=advance,
                asked=asked,
            )


class Listening(Protocol):
    """What a job asks of its teachers."""

    def listen(
        self, utterances: Sequence[Utterance], audio_context: float, *, to_transcribe: bool, advance: Advance
    ) -> list[Prepared]:
        """Return utterances as training and evaluation read them.

        Args:
            utterances: Which.
            audio_context: Seconds that the encoders see.
            to_transcribe: Whether `transcribe` will be asked about them.
            advance: See `Advance`.
        """
        ...

    def transcribe(
        self, prepared: Sequence[Prepared], listener: Listener, audio_context: float, *, advance: Advance
    ) -> Transcription:
        """Return the texts that teachers write.

        Args:
            prepared: From `listen`.
            listener: Which teachers, and how they come to one text.
            audio_context: As in `listen`.
            advance: See `Advance`.
        """
        ...

    def every_layer(
        self, utterances: Sequence[Utterance], audio_context: float, *, number: int
    ) -> list[dict[str, Tensor]]:
        """Return a teacher's states of every layer about some utterances; see `core.probes.every_layer`."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return what was found and kept so far."""
        ...


@dataclass(frozen=True)
class Live:
    """Teachers that are run.

    Attributes:
        models: Them and the student.
    """

    models: Models

    def listen(
        self, utterances: Sequence[Utterance], audio_context: float, *, to_transcribe: bool, advance: Advance
    ) -> list[Prepared]:
        """Run teachers and frozen layers; keep the teachers' whole encoder output where they are to transcribe."""
        return self.models.run(utterances, audio_context, advance=advance, keep_teacher_encoder=to_transcribe)

    def transcribe(
        self, prepared: Sequence[Prepared], listener: Listener, audio_context: float, *, advance: Advance
    ) -> Transcription:
        """Decode from the encoder output that was kept."""
        return transcribe_set(
            prepared, listener=listener, settings=self.models.decoding, audio_context=audio_context, advance=advance
        )

    def every_layer(
        self, utterances: Sequence[Utterance], audio_context: float, *, number: int
    ) -> list[dict[str, Tensor]]:
        """Run the teacher once more."""
        teacher = self.models.teachers[number]
        return [every_layer(item, teacher=teacher, audio_context=audio_context) for item in utterances]

    def metrics(self) -> Mapping[str, float]:
        """Return nothing: nothing is kept."""
        return {}


def by_context(
    utterances: Sequence[Utterance], settings: Training, listen: Callable[[Sequence[Utterance], float], list[Prepared]]
) -> list[Prepared]:
    """Return training utterances in their order, each heard at its own context.

    Args:
        utterances: Any.
        settings: Which say what a clip is padded to.
        listen: Prepares utterances at a context.
    """
    places: dict[float, list[int]] = {}
    for place, item in enumerate(utterances):
        places.setdefault(settings.context_of(item.duration), []).append(place)
    heard: dict[int, Prepared] = {}
    for context, chosen in sorted(places.items()):
        heard |= zip(chosen, listen([utterances[place] for place in chosen], context), strict=True)
    return [heard[place] for place in range(len(utterances))]
