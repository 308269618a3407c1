"""How well a model transcribes: hypotheses, error counts, time, and held-out divergence from the teacher."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from core.config import Evaluation
from core.families.whisper import Whisper
from core.losses.soft_labels import soft_labels_loss
from core.teacher_outputs import Prepared, teacher_signals
from core.wer import WordErrors, total, word_errors

TOKENS_BESIDES_SPEECH = 10
"""Tokens that any clip may have, however short."""


@dataclass(frozen=True)
class Transcription:
    """A model's hypotheses for a test set.

    Attributes:
        hypotheses: Text of each utterance, as decoded.
        errors: Counts of each utterance that has a reference, after normalising.
        seconds: Wall-clock time of the encoder's trained part and the decoder.
        heldout_kl: KL(teacher || model) at temperature 1, nats per valid reference token; None when not asked for.
    """

    hypotheses: list[str]
    errors: list[WordErrors]
    seconds: float
    heldout_kl: float | None

    @property
    def total(self) -> WordErrors:
        """Errors and words summed over the set."""
        return total(self.errors)


def decoding_description(settings: Evaluation) -> str:
    """Return what makes two evaluations comparable as far as decoding goes."""
    return f"greedy, at most {TOKENS_BESIDES_SPEECH} + {settings.tokens_per_second:g} tokens per second"


@torch.inference_mode()
def transcribe_set(
    prepared: Sequence[Prepared],
    *,
    model: Whisper,
    start: int,
    settings: Evaluation,
    teacher: Whisper | None,
    audio_context: float,
    encoder_states: Callable[[Prepared], Tensor] | None = None,
    advance: Callable[[int], None],
) -> Transcription:
    """Transcribe utterances in batches of similar length.

    Args:
        prepared: The set.
        model: Student or teacher.
        start: First encoder layer that is run on `Prepared.start`.
        settings: Batch size and token cap.
        teacher: Its last decoder states give the held-out divergence; None skips it.
        audio_context: Of the prepared states, in seconds.
        encoder_states: Gives the last encoder states where they are known already (the teacher's).
        advance: Called with the number of utterances done since the last call; may raise to stop.
    """
    order = sorted(range(len(prepared)), key=lambda index: prepared[index].utterance.duration)
    hypotheses = [""] * len(prepared)
    divergence, tokens, seconds = 0.0, 0, 0.0
    model.model.eval()
    for first in range(0, len(order), settings.batch_size):
        chosen = order[first : first + settings.batch_size]
        batch = [prepared[index] for index in chosen]
        began = time.perf_counter()
        if encoder_states is None:
            states = model.encode_rest(torch.stack([item.start for item in batch]), start)[model.encoder_layers - 1]
        else:
            states = torch.stack([encoder_states(item) for item in batch])
        caps = [TOKENS_BESIDES_SPEECH + int(settings.tokens_per_second * item.utterance.duration) for item in batch]
        for index, text in zip(chosen, model.transcribe(states, token_caps=caps), strict=True):
            hypotheses[index] = text
        seconds += time.perf_counter() - began
        if teacher is not None:
            value, count = _divergence(batch, states, model=model, teacher=teacher, audio_context=audio_context)
            divergence, tokens = divergence + value * count, tokens + count
        advance(len(batch))
    references = [item.utterance.text for item in prepared]
    errors = [word_errors(reference, text) for reference, text in zip(references, hypotheses, strict=True) if reference]
    return Transcription(hypotheses, errors, seconds, divergence / tokens if tokens else None)


def _divergence(
    batch: Sequence[Prepared],
    encoder_states: Float[Tensor, "batch frames width"],
    *,
    model: Whisper,
    teacher: Whisper,
    audio_context: float,
) -> tuple[float, int]:
    """Return the mean divergence over the batch's valid tokens, and how many there are."""
    collated = model.collate(
        [item.tokens for item in batch], [item.utterance.duration for item in batch], audio_context
    )
    states = model.decode(encoder_states, collated.inputs.to(encoder_states.device))[model.decoder_layers - 1]
    valid = states[collated.token_mask.to(states.device)]
    value = soft_labels_loss(model.head(valid), teacher_signals(batch, teacher).logits, temperature=1.0)
    return float(value), len(valid)
