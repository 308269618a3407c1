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

from core.containers import mpeg_says_its_length, not_as_said, with_its_length
from core.errors import DataError, StoreError
from core.paths import no_file, resolved

SAMPLE_RATE = 16_000
"""Samples per second of all audio inside the program."""

RATES = (4_000, 400_000)
"""Sampling rates that are believed; others come from damaged headers."""

SILENCE = 1e-4
"""Clips whose loudest sample stays below this (of 1, -80 dB) hold no speech."""

SHORTEST_SECONDS = 0.025
"""One window of Whisper's spectrogram."""

LOUDEST = 16.0
"""Floating-point samples may go beyond full scale, 1; so far (24 dB) they are on another scale."""

CANCELLED = 0.1
"""Least power of the average of channels, of that which channels with nothing in common would have."""

SMALL_OFFSET = 0.02
"""Of full scale: sound cards have as much; more counts where it is louder than all that swings around it."""

BLOCK_SECONDS = 10

UNKNOWN_FRAMES = 2**62
"""Counts of frames from here on say that a header has none."""

AGAIN = "Fetch it or convert it again, or remove it."


def read_audio(path: Path, *, longest_seconds: float | None = None, may_be_silent: bool = False) -> np.ndarray:
    """Return a clip as float32 samples at 16 kHz, its channels averaged.

    This is the one place where audio is read: what is refused here is refused by a check, a run and an export alike.

    Args:
        path: Any format that libsndfile reads: FLAC, WAV, OGG, MP3.
        longest_seconds: Refuse longer clips.
        may_be_silent: Take a clip in which nothing is heard, as one of a test set may be where nothing is said.

    Raises:
        DataError: If the file is missing, unreadable, cut off, empty, silent, too short or too long, or its samples are
            not finite, not between -1 and 1 as they should be, off centre, or cancel out when channels are averaged.
    """
    with _opened(path, longest_seconds) as file:
        channels = _read(file, path, longest_seconds)
        rate, container, said = file.samplerate, file.format, file.frames
    if len(channels) < said < UNKNOWN_FRAMES and container != "MP3":
        raise DataError(
            f"{path} is cut off: its header says {said / rate:.1f} s, and {len(channels) / rate:.1f} s are "
            f"there. {AGAIN}"
        )
    if not len(channels):
        raise DataError(f"{path} is empty. Remove it, or record it again.")
    samples = channels.mean(axis=1)
    wrong = (
        _scale_problem(channels)
        or _length_problem(len(samples) / rate)
        or _channel_problem(channels, samples)
        or _level_problem(samples, may_be_silent=may_be_silent)
    )
    if wrong:
        raise DataError(f"{path} {wrong}")
    return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)


def _scale_problem(channels: np.ndarray) -> str | None:
    """Return what is wrong with numbers that should lie between -1 and 1, or somewhat beyond where it was loud."""
    if not np.isfinite(channels).all():
        return "holds samples that are not numbers. Convert it again."
    peak = np.abs(channels).max()
    if peak >= LOUDEST or (peak > 1 and (channels == np.round(channels)).all()):
        bits = next((bits for bits in (16, 24, 32) if peak <= 2 ** (bits - 1)), None)
        what = f", as {bits}-bit values written as floating point do" if bits else ""
        advice = f"Divide them by {2 ** (bits - 1):,}, or convert it again." if bits else "Convert it again."
        return f"has samples up to {peak:,.0f}, where 1 is full scale{what}. {advice}"
    return None


def _length_problem(seconds: float) -> str | None:
    if seconds >= SHORTEST_SECONDS:
        return None
    return (
        f"is too short: it lasts {1000 * seconds:.1f} ms, and {1000 * SHORTEST_SECONDS:g} are the least that can be "
        "heard. Remove it, or record it again."
    )


def _channel_problem(channels: np.ndarray, samples: np.ndarray) -> str | None:
    """Return whether the average of the channels has lost what they hold; beside each other they would add power."""
    if channels.shape[1] == 1:
        return None
    beside = channels.astype(np.float64).var(axis=0).sum() / channels.shape[1] ** 2
    if samples.astype(np.float64).var() < CANCELLED * beside and np.abs(channels).max() >= SILENCE:
        return "has channels that cancel out (one is the other turned over). Keep one of them."
    return None


def _level_problem(samples: np.ndarray, *, may_be_silent: bool) -> str | None:
    offset = samples.mean(dtype=np.float64)
    swing = samples - offset
    if np.abs(swing).max() < SILENCE and not may_be_silent:
        return "is silent. Remove it, or record it again."
    if abs(offset) > max(SMALL_OFFSET, swing.std(dtype=np.float64)):
        return (
            f"is off centre: its samples swing around {offset:.2f} of full scale, not around 0. Take the offset out, "
            "for example with a high-pass filter at 20 Hz."
        )
    return None


def audio_seconds(path: Path, *, longest_seconds: float | None = None) -> float:
    """Return how long a clip is, by its header where that says it; raises as `read_audio` does, but for its samples.

    Args:
        path: As there.
        longest_seconds: As there.
    """
    with _opened(path, longest_seconds) as file:
        frames = file.frames if _says_its_length(file, path) else len(_read(file, path, longest_seconds))
        return frames / file.samplerate


class _Stream(soundfile.SoundFile):
    """A file that is read to its end, block by block; to seek in it could fail where its header has no length."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(path: Path, longest_seconds: float | None) -> Iterator[soundfile.SoundFile]:
    nothing = no_file(path, "audio file")
    if nothing:
        raise DataError(f"{nothing}. Check the path.")
    try:
        wrong = not_as_said(path)
        if wrong:
            raise DataError(f"{path} {wrong}. {AGAIN}")
        with _Stream(with_its_length(path) or str(path)) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise DataError(f"{path} says it has {file.samplerate} samples a second. Convert it to 16,000.")
            if _says_its_length(file, path):
                _require_not_longer(path, file.frames / file.samplerate, longest_seconds)
            yield file
    except (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError) as error:
        raise DataError(f"{path} cannot be read as audio ({error}). Convert it to FLAC or WAV.") from error


def _read(file: soundfile.SoundFile, path: Path, longest_seconds: float | None) -> np.ndarray:
    """Return the samples by channel, as far as they are there."""
    blocks: list[np.ndarray] = []
    count = 0
    while not blocks or len(blocks[-1]) == BLOCK_SECONDS * file.samplerate:
        try:
            blocks.append(file.read(BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True))
        except soundfile.SoundFileError as error:
            raise DataError(f"{path} is cut off or damaged after {count / file.samplerate:.1f} s. {AGAIN}") from error
        count += len(blocks[-1])
        _require_not_longer(path, count / file.samplerate, longest_seconds)
    return np.concatenate(blocks)


def _says_its_length(file: soundfile.SoundFile, path: Path) -> bool:
    """Return whether a header has a length, which libraries guess for an MP3 without one."""
    return file.frames < UNKNOWN_FRAMES and (file.format != "MP3" or mpeg_says_its_length(path))


def _require_not_longer(path: Path, seconds: float, longest_seconds: float | None) -> None:
    if longest_seconds is not None and seconds > longest_seconds:
        raise DataError(f"{path} lasts {seconds:.1f} s; the longest allowed is {longest_seconds:g} s. Cut it.")


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
    soundfile.write(content, np.clip(read_audio(path, may_be_silent=True), -1.0, 1.0), SAMPLE_RATE, format="MP3")
    return content.getvalue()


def stored_path(path: Path, runs_folder: Path) -> str:
    """Return a path relative to the runs folder where it lies inside, so that the folder can be moved."""
    place, folder = resolved(path), resolved(runs_folder)
    return str(place.relative_to(folder) if place.is_relative_to(folder) else place)
