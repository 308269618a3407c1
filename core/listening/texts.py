"""What teachers write, kept with the seconds that it took: their error rates need no teacher a second time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.audio import read_audio
from core.cache import Shelf
from core.config import Evaluation
from core.errors import StoreError
from core.evaluation import Listener, Transcription, transcribe_set
from core.families.cross_attention import CrossAttention
from core.families.whisper import Whisper
from core.listening.live import Advance
from core.normalisers import normaliser_of
from core.teacher_outputs import Prepared
from core.wer import word_errors

AT_ONCE = 64
"""Utterances that are published together: at most so many are lost when a job is killed."""


def kept_transcription(
    prepared: Sequence[Prepared],
    listener: Listener,
    *,
    shelf: Shelf,
    keys: Sequence[str],
    settings: Evaluation,
    audio_context: float,
    advance: Advance,
) -> Transcription:
    """Return texts from a shelf; those that are missing are written from the audio, and kept.

    Args:
        prepared: The utterances.
        listener: Which teachers, and how they come to one text.
        shelf: Of what they write.
        keys: Of the utterances' audio.
        settings: Of decoding.
        audio_context: In seconds.
        advance: Called with the number of utterances done since the last call; may raise to stop.
    """
    missing = set(shelf.missing(keys))
    lacking = {key: item for key, item in zip(keys, prepared, strict=True) if key in missing}
    advance(len(prepared) - len(lacking))
    waiting = sorted(lacking, key=lambda key: lacking[key].utterance.duration)
    for first in range(0, len(waiting), AT_ONCE):
        chosen = waiting[first : first + AT_ONCE]
        batch = [lacking[key] for key in chosen]
        said = transcribe_set(
            batch,
            listener=FromAudio(listener, audio_context),
            settings=settings,
            audio_context=audio_context,
            advance=advance,
        )
        each = np.array([said.seconds / len(batch)])
        # A text may be empty; what is kept of it may not.
        texts = [np.frombuffer(f"{text}\n".encode(), dtype=np.uint8) for text in said.hypotheses]
        entries = {key: {"text": text, "seconds": each} for key, text in zip(chosen, texts, strict=True)}
        shelf.write(entries, audio_seconds=sum(item.utterance.duration for item in batch))
    shelf.touch()
    entries = [read(shelf, key) for key in keys]
    texts = [entry["text"].tobytes().decode()[:-1] for entry in entries]
    normaliser = normaliser_of(settings.normaliser, listener.models[0].language)
    errors = [word_errors(item.utterance.text, text, normaliser) for item, text in zip(prepared, texts, strict=True)]
    return Transcription(texts, errors, sum(float(entry["seconds"][0]) for entry in entries), None)


@dataclass(frozen=True)
class FromAudio:
    """Teachers that hear the audio itself, whatever was prepared.

    Attributes:
        listener: Writes what they heard.
        audio_context: In seconds.
    """

    listener: Listener
    audio_context: float

    @property
    def models(self) -> Sequence[Whisper]:
        """Those of the listener; they are woken."""
        return [model.wake() for model in self.listener.models]

    def hear(self, batch: Sequence[Prepared]) -> tuple[list[CrossAttention], float]:
        """Run each encoder. The time in which files are read is given back: no recogniser is charged with it."""
        began = time.perf_counter()
        audio = [read_audio(item.utterance.audio_path, may_be_silent=True) for item in batch]
        reading = time.perf_counter() - began
        heard = []
        for model in self.listener.models:
            mel = model.mel(audio, self.audio_context).to(model.device)
            states = model.encode_rest(model.encode_start(mel, 0), 0)[model.encoder_layers - 1]
            heard.append(model.cross_attention(states))
        return heard, -reading

    def write(self, heard: list[CrossAttention], token_caps: list[int]) -> list[str]:
        """As the listener does."""
        return self.listener.write(heard, token_caps)


def read(shelf: Shelf, key: str) -> dict[str, np.ndarray]:
    """Return an answer that was there a moment ago.

    Raises:
        StoreError: If it has gone since.
    """
    try:
        return shelf.read(key)
    except KeyError as error:
        raise StoreError(
            "What the teachers said was thrown away while a job read it. Start the job again: it is made anew."
        ) from error
