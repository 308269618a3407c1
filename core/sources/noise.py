"""Noise to put under speech: arrays at 16 kHz whose root mean square is 1."""

import numpy as np
import soxr

from core.audio import SAMPLE_RATE

LOWEST_HERTZ = 60.0
"""Noise below this is left out: it would fill the ratio without being heard."""

VOICES = 6
VOICE_PITCH = (0.8, 1.25)
"""How many voices babble has, and lowest and highest factor of their pitch."""


def noise_of(kind: str, speech: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return noise as long as the speech, of root mean square 1."""
    match kind:
        case "white":
            noise = draw.normal(size=len(speech))
        case "babble":
            noise = babble(speech, draw)
        case _:
            return coloured_noise(len(speech), draw)
    return noise / np.sqrt(np.mean(noise**2))


def babble(speech: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return voices that say nothing: the speech backwards, several times over, each from a place and pitch of its own.

    Backwards, speech keeps its spectrum and its rhythm, as the noise of a crowd does, and loses its words.
    """
    voices = np.zeros(len(speech))
    for _ in range(VOICES):
        voice = soxr.resample(speech[::-1], SAMPLE_RATE * draw.uniform(*VOICE_PITCH), SAMPLE_RATE)
        voices += np.resize(np.roll(voice, draw.integers(len(voice))), len(speech))
    return voices


def coloured_noise(samples: int, draw: np.random.Generator) -> np.ndarray:
    """Return noise between pink and brown, at random, whose root mean square is 1."""
    exponent = draw.uniform(1.0, 2.0)  # of the power spectrum: 1 is pink, 2 is brown
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum = draw.normal(size=len(hertz)) + 1j * draw.normal(size=len(hertz))
    noise = np.fft.irfft(np.where(hertz < LOWEST_HERTZ, 0, spectrum * np.maximum(hertz, 1) ** (-exponent / 2)), samples)
    return noise / np.sqrt(np.mean(noise**2))
