"""How well a model transcribes: hypotheses, error counts, time, and held-out divergence from the teachers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from core.config import Ensemble, Evaluation, RunConfig
from core.ensemble import teacher_weights
from core.families.cross_attention import CrossAttention
from core.families.whisper import Whisper, transcribe_together
from core.fused_head import Wanted, head_terms
from core.losses.soft_labels import soft_labels_loss
from core.normalisers import Normaliser, normaliser_of
from core.scaling.work import TOKENS_BESIDES_SPEECH
from core.teacher_outputs import Prepared, Teachers, log_likelihood, teacher_encoder_of
from core.wer import WordErrors, total, word_errors


@dataclass(frozen=True)
class Transcription:
    """A model's hypotheses for a test set.

    Attributes:
        hypotheses: Text of each utterance, as decoded.
        errors: Counts of each utterance; where the reference is empty, all words are insertions.
        seconds: Wall-clock time of encoder and decoder; of encoder layers that were run before, theirs of then.
        heldout_kl: KL(teachers || model) at temperature 1, nats per valid reference token; None when not asked for.
        heldout_kl_tokens: Of so many of the teacher's likeliest tokens and one class for all others; None: of all.
    """

    hypotheses: list[str]
    errors: list[WordErrors]
    seconds: float
    heldout_kl: float | None
    heldout_kl_tokens: int | None = None

    @property
    def total(self) -> WordErrors:
        """Errors and words summed over the set."""
        return total(self.errors)


def normaliser_for(config: RunConfig) -> Normaliser:
    """Return what makes words of the texts of a run."""
    return normaliser_of(config.evaluation.normaliser, config.language)


def decoding_description(settings: Evaluation) -> str:
    """Return what makes two evaluations comparable as far as decoding goes."""
    return f"greedy, at most {TOKENS_BESIDES_SPEECH} + {settings.tokens_per_second:g} tokens per second"


def token_cap(settings: Evaluation, seconds: float) -> int:
    """Return the most text tokens that are decoded of a clip."""
    return TOKENS_BESIDES_SPEECH + int(settings.tokens_per_second * seconds)


class Listener(Protocol):
    """What transcribes utterances: a student, a teacher, or several teachers together."""

    @property
    def models(self) -> Sequence[Whisper]:
        """All that is needed for it."""
        ...

    def hear(self, batch: Sequence[Prepared]) -> tuple[list[CrossAttention], float]:
        """Return what each model's decoder reads, and the seconds of what was computed when they were prepared."""
        ...

    def write(self, heard: list[CrossAttention], token_caps: list[int]) -> list[str]:
        """Return a text for each utterance."""
        ...


@dataclass(frozen=True)
class Student:
    """A student, whose first encoder layers were run before.

    Attributes:
        model: With or without adapters.
        start: First encoder layer that is run on `Prepared.start`.
    """

    model: Whisper
    start: int

    @property
    def models(self) -> Sequence[Whisper]:
        """The student."""
        return (self.model,)

    def hear(self, batch: Sequence[Prepared]) -> tuple[list[CrossAttention], float]:
        """Run the rest of the encoder."""
        start = torch.stack([item.start for item in batch])
        states = self.model.encode_rest(start, self.start)[self.model.encoder_layers - 1]
        return [self.model.cross_attention(states)], sum(item.seconds for item in batch)

    def write(self, heard: list[CrossAttention], token_caps: list[int]) -> list[str]:
        """Decode greedily."""
        return self.model.transcribe(heard[0], token_caps=token_caps)


@dataclass(frozen=True)
class Together:
    """Teachers whose probabilities are averaged token by token; one alone, if it has all the weight.

    Attributes:
        models: Of one token table.
        numbers: Which of the teachers they are.
        weights: Of each model; they sum to one.
    """

    models: tuple[Whisper, ...]
    numbers: tuple[int, ...]
    weights: tuple[float, ...]

    def hear(self, batch: Sequence[Prepared]) -> tuple[list[CrossAttention], float]:
        """Take the encoder states that were prepared."""
        heard = [
            model.cross_attention(torch.stack([teacher_encoder_of(item, number) for item in batch]))
            for model, number in zip(self.models, self.numbers, strict=True)
        ]
        return heard, sum(item.teachers[number].seconds for item in batch for number in self.numbers)

    def write(self, heard: list[CrossAttention], token_caps: list[int]) -> list[str]:
        """Decode greedily, all reading one text."""
        return transcribe_together(self.models, heard, weights=self.weights, token_caps=token_caps)


@dataclass(frozen=True)
class MostConfident:
    """Teachers each of which writes its own text; that of which its teacher is surest counts.

    Where there is no transcript, this stands for the teacher that finds the transcript likeliest. Token tables may
    differ: a text's logarithm of probability is taken per token of its own teacher.

    Attributes:
        models: All teachers.
    """

    models: tuple[Whisper, ...]

    def hear(self, batch: Sequence[Prepared]) -> tuple[list[CrossAttention], float]:
        """Take the encoder states that were prepared."""
        return Together(self.models, tuple(range(len(self.models))), ()).hear(batch)

    def write(self, heard: list[CrossAttention], token_caps: list[int]) -> list[str]:
        """Decode greedily with each, and choose."""
        texts, scores = [], []
        for model, own in zip(self.models, heard, strict=True):
            texts.append(model.transcribe(own, token_caps=token_caps))
            scores.append(confidences(model, own, texts[-1]) if len(self.models) > 1 else [0.0] * len(token_caps))
        chosen = [max(range(len(texts)), key=lambda number: scores[number][row]) for row in range(len(token_caps))]
        return [texts[number][row] for row, number in enumerate(chosen)]


@torch.inference_mode()
def confidences(model: Whisper, heard: CrossAttention, texts: list[str]) -> list[float]:
    """Return the mean logarithm of the probability of each text's tokens, its end among them, in nats."""
    collated = model.collate([model.tokens(text) for text in texts], [1.0] * len(texts), 1.0)
    decoded = model.decode_again(heard, collated.inputs.to(model.device))[model.decoder_layers - 1]
    return [
        log_likelihood(model, states[mask], labels[mask]) / int(mask.sum())
        for states, mask, labels in zip(decoded, collated.token_mask, collated.labels, strict=True)
    ]


def listener_of(settings: Ensemble, models: tuple[Whisper, ...], wers: Sequence[float]) -> Listener:
    """Return what an ensemble's transcripts are written by.

    Args:
        settings: How the teachers are combined.
        models: All teachers.
        wers: Of each on the development set, as fractions.
    """
    if settings.combine == "best":
        return MostConfident(models)
    weights = teacher_weights(settings, wers)
    numbers = tuple(number for number, weight in enumerate(weights) if weight > 0)
    return Together(tuple(models[number] for number in numbers), numbers, tuple(weights[number] for number in numbers))


@torch.inference_mode()
def transcribe_set(
    prepared: Sequence[Prepared],
    *,
    listener: Listener,
    settings: Evaluation,
    teachers: Teachers | None = None,
    audio_context: float,
    advance: Callable[[int], None],
) -> Transcription:
    """Transcribe utterances in batches of similar length.

    Args:
        prepared: The set.
        listener: What transcribes.
        settings: Batch size, token cap and normaliser; the language is that of the models.
        teachers: Their last decoder states give a student's held-out divergence; None skips it.
        audio_context: Of the prepared states, in seconds.
        advance: Called with the number of utterances done since the last call; may raise to stop.
    """
    order = sorted(range(len(prepared)), key=lambda index: prepared[index].utterance.duration)
    hypotheses = [""] * len(prepared)
    divergence, tokens, seconds, kept = 0.0, 0, 0.0, None
    for model in listener.models:
        model.model.eval()
    for first in range(0, len(order), settings.batch_size):
        chosen = order[first : first + settings.batch_size]
        batch = [prepared[index] for index in chosen]
        began = time.perf_counter()
        heard, before = listener.hear(batch)
        caps = [token_cap(settings, item.utterance.duration) for item in batch]
        for index, text in zip(chosen, listener.write(heard, caps), strict=True):
            hypotheses[index] = text
        seconds += time.perf_counter() - began + before
        if teachers is not None:
            (model,) = listener.models
            value, count, kept = _divergence(
                batch, heard[0], model=model, teachers=teachers, audio_context=audio_context
            )
            divergence, tokens = divergence + value * count, tokens + count
        advance(len(batch))
    normaliser = normaliser_of(settings.normaliser, listener.models[0].language)
    errors = [
        word_errors(item.utterance.text, text, normaliser) for item, text in zip(prepared, hypotheses, strict=True)
    ]
    return Transcription(hypotheses, errors, seconds, divergence / tokens if tokens else None, kept)


def _divergence(
    batch: Sequence[Prepared],
    heard: CrossAttention,
    *,
    model: Whisper,
    teachers: Teachers,
    audio_context: float,
) -> tuple[float, int, int | None]:
    """Return the mean divergence over the batch's valid tokens, how many there are, and of how many likeliest it is.

    Where only top tokens are kept, it is that of those and their tail, at most the whole one; else of all (None).
    """
    collated = model.collate(
        [item.tokens for item in batch], [item.utterance.duration for item in batch], audio_context
    )
    states = model.decode_again(heard, collated.inputs.to(model.device))[model.decoder_layers - 1]
    valid = states[collated.token_mask.to(states.device)]
    teaching = teachers.teaching(batch)
    if teaching.top is None:
        divergence = soft_labels_loss(model.head(valid), teaching.logits, temperature=1.0)
        return float(divergence.mean()), len(valid), None
    asked = Wanted(soft_labels=1.0)
    top = teaching.top(asked.temperature)
    (terms,) = head_terms([valid], model.vocabulary.detach(), wanted=[asked], teacher=top)
    return float(terms.soft_labels.mean()), len(valid), top.tokens.shape[1]
