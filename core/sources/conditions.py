"""Recording conditions: clean speech as a room, a telephone, noise and another speed would have it. Arrays at 16 kHz.

They come in the order in which sound meets them: the speaker's speed, the room, noise at the microphone, the line.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import soxr

from core.audio import SAMPLE_RATE
from core.config.sources import Condition, Noise
from core.sources.made import LEVEL, PEAK
from core.sources.noise import noise_of

SPEED = (0.9, 1.12)
"""Lowest and highest factor of speed, and with it of pitch and formants."""

REVERBERATION_SECONDS = (0.15, 0.6)
"""Shortest and longest time in which a room's sound falls by 60 dB: from a furnished small room to an empty office."""

DIRECT_TO_REVERBERANT = (0.0, 12.0)
"""Lowest and highest energy of the direct sound over that of all reflections, in dB: from across a room to close by."""

FIRST_REFLECTION_SECONDS = 0.0025
"""Time between the direct sound and the first reflection: a detour of 0.86 m."""

TELEPHONE_RATE = 8_000
TELEPHONE_HERTZ = (300.0, 3_400.0)
"""Samples per second and band of a telephone line (ITU-T G.711, G.712)."""

LINE_LEVEL = 10 ** (-26 / 20)
"""Root mean square of speech on the line, of full scale: 26 dB below overload, as ITU-T P.830 has it."""

MU = 255
STEPS = 127
"""Constant of mu-law companding, and quantisation steps on each side of zero."""


@dataclass(frozen=True)
class Conditions:
    """What the clips of a set may be heard in.

    Attributes:
        kinds: Which may apply; without any, speech is clean.
        share: Probability with which each kind applies to a clip, independently of the others.
        signal_to_noise: Lowest and highest power of speech over that of noise, in dB.
        seed: Seed of all that is drawn.
    """

    kinds: tuple[Condition, ...]
    share: float
    signal_to_noise: tuple[float, float]
    seed: int


def heard_in(speech: np.ndarray, clip_id: str, conditions: Conditions) -> tuple[np.ndarray, dict[str, Any]]:
    """Return speech as it is heard in conditions that are drawn for a clip, and what was drawn, by kind.

    Each kind has a stream of random numbers of its own, which follows from the seed and the clip's id: other clips, or
    further kinds, leave what a clip's kinds are as they were, and a larger share only adds clips.

    Args:
        speech: Clean, float, not silent.
        clip_id: Name of the clip.
        conditions: What may be drawn.

    Returns:
        Float32 samples of a drawn level (see `LEVEL`) that do not clip; and the values drawn.
    """
    samples = speech.astype(np.float64)
    drawn: dict[str, Any] = {}
    for kind in ("speed", "room", "noise", "telephone"):
        draw = _stream(conditions.seed, clip_id, kind)
        if kind not in conditions.kinds or draw.random() >= conditions.share:
            continue
        match kind:
            case "speed":
                factor = draw.uniform(*SPEED)
                samples = at_speed(samples, factor)
                drawn[kind] = round(factor, 4)
            case "room":
                seconds, ratio = draw.uniform(*REVERBERATION_SECONDS), draw.uniform(*DIRECT_TO_REVERBERANT)
                samples = in_room(samples, room_response(seconds, ratio, draw))
                drawn[kind] = {"reverberation_seconds": round(seconds, 3), "direct_to_reverberant": round(ratio, 2)}
            case "noise":
                ratio, noise = draw.uniform(*conditions.signal_to_noise), str(draw.choice(get_args(Noise)))
                samples = with_noise(samples, noise_of(noise, samples, draw), ratio)
                drawn[kind] = {"noise": noise, "signal_to_noise": round(ratio, 2)}
            case "telephone":
                companded = bool(draw.random() < 0.5)
                samples = over_telephone(samples, companded=companded)
                drawn[kind] = "mu-law" if companded else "linear"
    samples *= _stream(conditions.seed, clip_id, "level").uniform(*LEVEL) / _root_mean_square(samples)
    return (samples * min(1.0, PEAK / np.abs(samples).max())).astype(np.float32), drawn


def at_speed(speech: np.ndarray, factor: float) -> np.ndarray:
    """Return speech played faster by a factor: shorter, and higher in pitch."""
    return soxr.resample(speech, SAMPLE_RATE * factor, SAMPLE_RATE)


def room_response(seconds: float, direct_to_reverberant: float, draw: np.random.Generator) -> np.ndarray:
    """Return a synthetic impulse response of a room: the direct sound of height 1, then noise that dies away.

    After Polack's model of late reverberation (1988): white noise whose amplitude falls exponentially. Real rooms have
    single early reflections, and lose high frequencies sooner; neither is modelled.

    Args:
        seconds: Reverberation time, RT60: the energy falls by 60 dB in it, and the response ends after it.
        direct_to_reverberant: Energy of the direct sound over that of all that follows, in dB.
        draw: Where the noise comes from.
    """
    count = round(seconds * SAMPLE_RATE)
    times = np.arange(count) / SAMPLE_RATE
    tail = draw.normal(size=count) * 10 ** (-3 * times / seconds)
    tail[: round(FIRST_REFLECTION_SECONDS * SAMPLE_RATE)] = 0
    tail *= np.sqrt(10 ** (-direct_to_reverberant / 10) / np.sum(tail**2))
    tail[0] = 1
    return tail


def in_room(speech: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return speech as a room with this impulse response has it; what still sounds at its end is cut off."""
    from scipy.signal import fftconvolve  # late: pages read settings without it

    return fftconvolve(speech, response)[: len(speech)]


def with_noise(speech: np.ndarray, noise: np.ndarray, signal_to_noise: float) -> np.ndarray:
    """Return speech with noise of root mean square 1 under it, at a ratio of mean powers in dB."""
    return speech + noise * _root_mean_square(speech) * 10 ** (-signal_to_noise / 20)


def over_telephone(speech: np.ndarray, *, companded: bool) -> np.ndarray:
    """Return speech that came over a telephone line: 8 kHz, 300 to 3,400 Hz, at the usual level of a line.

    Args:
        speech: As the microphone has it.
        companded: Whether the line has 8 bits a sample by mu-law, as in America and Japan, or is not quantised.
    """
    from scipy.signal import butter, sosfilt  # late, as above

    line = soxr.resample(speech, SAMPLE_RATE, TELEPHONE_RATE)
    line = np.asarray(sosfilt(butter(4, TELEPHONE_HERTZ, "bandpass", fs=TELEPHONE_RATE, output="sos"), line))
    line *= LINE_LEVEL / _root_mean_square(line)
    if companded:
        line = mu_law(line)
    heard = soxr.resample(line, TELEPHONE_RATE, SAMPLE_RATE)
    return np.pad(heard, (0, max(0, len(speech) - len(heard))))[: len(speech)]


def mu_law(samples: np.ndarray) -> np.ndarray:
    """Return samples after 8-bit companding: fine steps where it is quiet, coarse ones where it is loud.

    The curve is that of ITU-T G.711 before its approximation by straight pieces; beyond full scale it is cut off.
    """
    size = np.log1p(MU * np.minimum(np.abs(samples), 1)) / np.log1p(MU)
    return np.sign(samples) * np.expm1(np.round(size * STEPS) / STEPS * np.log1p(MU)) / MU


def _stream(seed: int, clip_id: str, kind: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{clip_id}:{kind}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _root_mean_square(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))
