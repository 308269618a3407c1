"""What the teacher says about each utterance, computed once and read by every run of a job.

One pass over the audio makes the student's frozen lower states and, from the same states where teacher and student
share their first layers, the teacher's. Kept per utterance are the valid points only: the teacher's states of the
layers that some run compares, and the last decoder state, from which logits are made when a loss asks (384 numbers a
token instead of 51,864). This is the seam where a cache on disk goes: losses see `Signals` and never know where they
came from.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from core.audio import read_audio
from core.families.whisper import Whisper, frame_count, shares_start
from core.mapping import LayerPair, StateStatistics, state_statistics
from core.signals import Signals
from core.sources import Utterance

Part = Literal["encoder", "decoder"]


@dataclass(frozen=True)
class Prepared:
    """An utterance as training and evaluation read it.

    Attributes:
        utterance: Its audio, text and speaker.
        tokens: Text tokens without prompt and end.
        start: Student states below `freeze_below` at the audio context, [frames, width].
        teacher: Teacher states by (side, layer), valid points only.
        teacher_encoder: The teacher's last encoder states at the context; only where they were asked for.
    """

    utterance: Utterance
    tokens: list[int]
    start: Tensor
    teacher: dict[tuple[str, int], Tensor]
    teacher_encoder: Tensor | None


def teacher_encoder_of(item: Prepared) -> Tensor:
    """Return the teacher's last encoder states of an utterance that was prepared with them, [frames, width]."""
    if item.teacher_encoder is None:
        raise ValueError("this set was prepared without the teacher's encoder output")
    return item.teacher_encoder


def without_teacher_encoder(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Return utterances without the teacher's whole encoder output: it is large, and only transcribing needs it."""
    return [replace(item, teacher_encoder=None) for item in prepared]


@torch.inference_mode()
def prepare_utterances(
    utterances: Sequence[Utterance],
    *,
    teacher: Whisper,
    student: Whisper,
    freeze_below: int,
    pairs: Sequence[LayerPair],
    audio_context: float,
    keep_teacher_encoder: bool,
    batch_size: int,
    advance: Callable[[int], None],
) -> list[Prepared]:
    """Run the teacher and the student's frozen layers over some utterances.

    Args:
        utterances: Which.
        teacher: Frozen.
        student: Its first `freeze_below` encoder layers are run.
        freeze_below: See RunConfig.
        pairs: Teacher layers that are kept.
        audio_context: Seconds that the encoders see.
        keep_teacher_encoder: Keep what transcribing with the teacher needs.
        batch_size: Utterances per pass.
        advance: Called with the number of utterances done since the last call; may raise to stop.
    """
    shared = shares_start(student, teacher, freeze_below)
    # Models up to large-v2 hear 80 mel bins, later ones 128.
    same_mels = student.mel_bins == teacher.mel_bins
    prepared: list[Prepared] = []
    for batch in _batches(utterances, batch_size):
        audio = [read_audio(item.audio_path) for item in batch]
        mel = student.mel(audio, audio_context).to(student.device)
        start = student.encode_start(mel, freeze_below)
        if not same_mels:
            mel = teacher.mel(audio, audio_context).to(teacher.device)
        teacher_start = start if shared else teacher.encode_start(mel, 0)
        encoder = teacher.encode_rest(teacher_start, freeze_below if shared else 0)
        tokens = [student.tokens(item.text) for item in batch]
        collated = teacher.collate(tokens, [item.duration for item in batch], audio_context)
        decoder = teacher.decode(encoder[teacher.encoder_layers - 1], collated.inputs.to(teacher.device))
        for row, item in enumerate(batch):
            frames = frame_count(item.duration)
            mask = collated.token_mask[row]
            kept = {("decoder", teacher.decoder_layers - 1): decoder[teacher.decoder_layers - 1][row][mask].clone()}
            for pair in pairs:
                if pair.side == "encoder":
                    kept["encoder", pair.teacher] = encoder[pair.teacher][row, :frames].clone()
                else:
                    kept["decoder", pair.teacher] = decoder[pair.teacher][row][mask].clone()
            whole = encoder[teacher.encoder_layers - 1][row].clone() if keep_teacher_encoder else None
            prepared.append(Prepared(item, tokens[row], start[row].clone(), kept, whole))
        advance(len(batch))
    return prepared


def teacher_signals(prepared: Sequence[Prepared], teacher: Whisper) -> Signals:
    """Return the teacher's signals of some utterances, points in the order of `Signals`."""
    keys = prepared[0].teacher.keys()
    joined = {key: torch.cat([item.teacher[key] for item in prepared]) for key in keys}
    return Signals(
        encoder={layer: states for (side, layer), states in joined.items() if side == "encoder"},
        decoder={layer: states for (side, layer), states in joined.items() if side == "decoder"},
        head=teacher.head,
        vocabulary=teacher.vocabulary,
    )


def student_signals(
    prepared: Sequence[Prepared],
    student: Whisper,
    *,
    freeze_below: int,
    audio_context: float,
    with_decoder: bool,
) -> Signals:
    """Run the student's trained part over some utterances and return its valid points, with gradient."""
    batch = student.collate(
        [item.tokens for item in prepared], [item.utterance.duration for item in prepared], audio_context
    )
    start = torch.stack([item.start for item in prepared])
    frame_mask, token_mask = batch.frame_mask.to(start.device), batch.token_mask.to(start.device)
    encoder = student.encode_rest(start, freeze_below)
    decoder = {}
    if with_decoder:
        decoder = student.decode(encoder[student.encoder_layers - 1], batch.inputs.to(start.device))
    return Signals(
        encoder={layer: states[frame_mask] for layer, states in encoder.items()},
        decoder={layer: states[token_mask] for layer, states in decoder.items()},
        targets=batch.labels.to(start.device)[token_mask],
        head=student.head,
        vocabulary=student.vocabulary,
        frame_counts=batch.frame_mask.sum(dim=1).tolist(),
        token_counts=batch.token_mask.sum(dim=1).tolist(),
    )


def teacher_statistics(
    prepared: Sequence[Prepared], *, read: Sequence[Prepared] = ()
) -> dict[tuple[str, int], StateStatistics]:
    """Return mean and covariance of the teacher's states by (side, layer) over all valid points.

    Args:
        prepared: All audio.
        read: Utterances with a transcript that decoder states come from; empty takes `prepared`.
    """
    sets = {"encoder": prepared, "decoder": read or prepared}
    keys = prepared[0].teacher
    return {(side, layer): state_statistics([item.teacher[side, layer] for item in sets[side]]) for side, layer in keys}


def _batches(utterances: Sequence[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    for first in range(0, len(utterances), size):
        yield utterances[first : first + size]
