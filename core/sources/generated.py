"""English sentences that the project brings, spoken by hibari-tts at varied rate and pitch, with noise.

It is generated speech, and its manifests say so. It is made once per settings, below a folder named by their hash:

    FOLDER/HASH/train.jsonl, development.jsonl, test.jsonl, audio/train-000.flac ...

Everything random about a clip comes from the seed and the clip's own name, so a larger set leaves the others' audio
as it is.
"""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soxr

from core.audio import SAMPLE_RATE
from core.config.sources import GeneratedSpeech
from core.errors import DataError, Problem
from core.sources.made import LEVEL, PEAK, SETS, Clip, is_written, read_sets, write_sets
from core.sources.noise import noise_of
from core.sources.utterance import Splits

if TYPE_CHECKING:
    from hibari import Hibari

RECIPE = 1
"""Counted up when the code below changes what a clip sounds like."""

PITCH = (0.92, 1.12)
"""Lowest and highest factor of the voice's pitch (and formants): about a tone down, two up."""

SPEAKER = "hibari heart"


def generated_splits(source: GeneratedSpeech, folder: Path, progress: Callable[[int, int], None]) -> Splits:
    """Return the three sets of generated speech, making the audio when it is not there yet.

    Raises:
        DataError: If a domain has fewer sentences than are asked for.
        StoreError: If the disk refuses; nothing half made is left.
    """
    sentences = chosen_sentences(source)
    home = folder.absolute() / _identity(source, sentences)
    clips = {name: [Clip(key, text, SPEAKER) for key, text in named.items()] for name, named in sentences.items()}
    total = sum(map(len, clips.values()))
    if not is_written(home):
        from hibari import Hibari  # late: its models are large, and the audio is usually there

        tts = Hibari()
        write_sets(home, clips, lambda clip: speak(tts, clip.text, clip.id, source), progress)
    progress(total, total)
    return read_sets(home)


def is_made(source: GeneratedSpeech, folder: Path) -> bool:
    """Return whether `generated_splits` would find its audio."""
    return is_written(folder.absolute() / _identity(source, chosen_sentences(source)))


def read_sentences(name: str) -> tuple[str, ...]:
    """Return the project's sentences for a set: train, development or test."""
    text = (resources.files("core.sources") / "sentences" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def chosen_sentences(source: GeneratedSpeech) -> dict[str, dict[str, str]]:
    """Return the sentences of each set by the names of their clips, which a domain leaves as they are.

    Raises:
        DataError: If a domain has fewer sentences than are asked for.
    """
    chosen: dict[str, dict[str, str]] = {}
    problems: list[Problem] = []
    for name in SETS:
        named = {f"{name}-{number:03d}": text for number, text in enumerate(read_sentences(name))}
        if source.domain != "all":
            named = {key: text for key, text in named.items() if domain_of(text) == source.domain}
        wanted = getattr(source, name)
        if wanted > len(named):
            message = f"asks for {wanted} sentences, but {len(named)} are {source.domain}: ask for fewer"
            problems.append(Problem(f"source.{name}", message))
        chosen[name] = dict(list(named.items())[:wanted])
    if problems:
        raise DataError("There are not enough sentences:", problems)
    return chosen


def domain_of(sentence: str) -> Literal["outdoors", "indoors"]:
    """Return what a sentence is about, by its words."""
    outdoors = (resources.files("core.sources") / "sentences" / "outdoors.txt").read_text(encoding="utf-8").split()
    return "indoors" if set(re.findall(r"[a-z]+", sentence.lower())).isdisjoint(outdoors) else "outdoors"


def speak(tts: "Hibari", text: str, name: str, source: GeneratedSpeech) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a clip at 16 kHz and what was drawn for it.

    Args:
        tts: The voice.
        text: A sentence.
        name: The clip's name, from which with the seed all that is random follows.
        source: Seed, rates, kinds of noise and signal-to-noise ratio.
    """
    seed = int.from_bytes(hashlib.sha256(f"{source.seed}:{name}".encode()).digest()[:4], "big") >> 1
    draw = np.random.default_rng(seed)
    rate, pitch, level = draw.uniform(source.slowest, source.fastest), draw.uniform(*PITCH), draw.uniform(*LEVEL)
    # Played faster, speech is higher and shorter: speak more slowly by as much, then resample.
    speech = tts(text, speed=float(rate / pitch), seed=seed)
    speech = soxr.resample(speech, tts.sample_rate * pitch, SAMPLE_RATE).astype(np.float64)
    speech *= level / np.sqrt(np.mean(speech**2))
    kind = source.noises[0] if len(source.noises) == 1 else str(draw.choice(source.noises))
    noise = noise_of(kind, speech, draw)
    noise *= level * 10 ** (-source.signal_to_noise / 20)
    mixed = speech + noise
    mixed *= min(1.0, PEAK / np.abs(mixed).max())
    note = {"generated": True, "noise": kind, "rate": round(rate, 4), "pitch": round(pitch, 4), "seed": seed}
    return mixed.astype(np.float32), note


def _identity(source: GeneratedSpeech, sentences: Mapping[str, Mapping[str, str]]) -> str:
    """Return a name that differs when any clip would."""
    versions = {name: importlib.metadata.version(name) for name in ("hibari-tts", "soxr")}
    content = json.dumps([RECIPE, source.model_dump(mode="json"), sentences, versions], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
