"""Audio files in and out: 16 kHz, one channel, float32."""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from core.errors import DataError, StoreError

SAMPLE_RATE = 16_000
"""Samples per second of all audio inside the program."""

RATES = (4_000, 400_000)
"""Sampling rates that are believed; others come from damaged headers."""

SILENCE = 1e-4
"""Clips whose loudest sample stays below this (of 1, -80 dB) hold no speech."""


def read_audio(path: Path, *, longest_seconds: float | None = None) -> np.ndarray:
    """Return a clip as float32 samples at 16 kHz, its channels averaged.

    Args:
        path: Any format that libsndfile reads: FLAC, WAV, OGG, MP3.
        longest_seconds: Refuse longer clips, before they are decoded.

    Raises:
        DataError: If the file is missing, unreadable, empty, silent, not finite, or too long.
    """
    with _opened(path, longest_seconds) as file:
        samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
        rate = file.samplerate
    if not len(samples):
        raise DataError(f"{path} is empty. Remove it, or record it again.")
    if not np.isfinite(samples).all():
        raise DataError(f"{path} holds samples that are not numbers. Convert it again.")
    if np.abs(samples).max() < SILENCE:
        raise DataError(f"{path} is silent. Remove it, or record it again.")
    return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)


def audio_seconds(path: Path, *, longest_seconds: float | None = None) -> float:
    """Return how long a clip is by its header, in seconds; raises as `read_audio` does, but for what only samples tell.

    Args:
        path: As there.
        longest_seconds: As there.
    """
    with _opened(path, longest_seconds) as file:
        return file.frames / file.samplerate


@contextmanager
def _opened(path: Path, longest_seconds: float | None) -> Iterator[soundfile.SoundFile]:
    if not path.is_file():  # a pipe or a device could be read for ever
        raise DataError(f"There is no audio file {path}. Check the path.")
    try:
        with soundfile.SoundFile(str(path)) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise DataError(f"{path} says it has {file.samplerate} samples a second. Convert it to 16,000.")
            seconds = file.frames / file.samplerate
            if longest_seconds is not None and seconds > longest_seconds:
                raise DataError(f"{path} lasts {seconds:.1f} s; the longest allowed is {longest_seconds:g} s. Cut it.")
            yield file
    except (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError) as error:
        raise DataError(f"{path} cannot be read as audio ({error}). Convert it to FLAC or WAV.") from error


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Write samples in [-1, 1] as 16-bit FLAC at 16 kHz; the file appears whole or not at all.

    Raises:
        StoreError: If the disk refuses.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            soundfile.write(file, np.clip(samples, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        os.replace(temporary, path)
    except (soundfile.SoundFileError, OSError) as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written ({error}). Check the free space and the permissions.") from error


def as_mp3(path: Path) -> bytes:
    """Return a clip as MP3, about a fifth of a FLAC's size; what it loses is hardly heard.

    Raises:
        DataError: If the clip cannot be read.
    """
    content = io.BytesIO()
    soundfile.write(content, np.clip(read_audio(path), -1.0, 1.0), SAMPLE_RATE, format="MP3")
    return content.getvalue()


def stored_path(path: Path, runs_folder: Path) -> str:
    """Return a path relative to the runs folder where it lies inside, so that the folder can be moved."""
    resolved, folder = path.resolve(), runs_folder.resolve()
    return str(resolved.relative_to(folder) if resolved.is_relative_to(folder) else resolved)
