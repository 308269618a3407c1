"""English sentences that the project brings, spoken by hibari-tts at varied rate and pitch, with noise.

It is generated speech, and its manifests say so. It is made once per settings, below a folder named by their hash:

    FOLDER/HASH/train.jsonl, development.jsonl, test.jsonl, audio/train-000.flac ...

Everything random about a clip comes from the seed and the clip's own name, so a larger set leaves the others' audio
as it is.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soxr

from core.audio import SAMPLE_RATE, write_flac
from core.config.sources import GeneratedSpeech
from core.errors import DataError, Problem, StoreError
from core.paths import is_file
from core.sources.manifest import write_manifest
from core.sources.utterance import Splits, Utterance

if TYPE_CHECKING:
    from hibari import Hibari

RECIPE = 1
"""Counted up when the code below changes what a clip sounds like."""

SETS = ("train", "development", "test")
PITCH = (0.92, 1.12)
"""Lowest and highest factor of the voice's pitch (and formants): about a tone down, two up."""

LEVEL = (0.03, 0.12)
"""Softest and loudest speech, root mean square of full scale."""

LOWEST_HERTZ = 60.0
"""Noise below this is left out: it would fill the ratio without being heard."""

SPEAKER = "hibari heart"

VOICES = 6
VOICE_PITCH = (0.8, 1.25)
"""How many voices babble has, and lowest and highest factor of their pitch."""


def generated_splits(source: GeneratedSpeech, folder: Path, progress: Callable[[int, int], None]) -> Splits:
    """Return the three sets of generated speech, making the audio when it is not there yet.

    Raises:
        DataError: If a domain has fewer sentences than are asked for.
        StoreError: If the disk refuses; nothing half made is left.
    """
    sentences = chosen_sentences(source)
    home = folder.absolute() / _identity(source, sentences)
    total = sum(map(len, sentences.values()))
    if not is_file(home / "test.jsonl"):
        _make(home, source, sentences, progress, total)
    progress(total, total)
    return Splits(*(_read_own(home / f"{name}.jsonl") for name in SETS))


def is_made(source: GeneratedSpeech, folder: Path) -> bool:
    """Return whether `generated_splits` would find its audio."""
    return is_file(folder.absolute() / _identity(source, chosen_sentences(source)) / "test.jsonl")


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
    mixed *= min(1.0, 0.99 / np.abs(mixed).max())
    note = {"generated": True, "noise": kind, "rate": round(rate, 4), "pitch": round(pitch, 4), "seed": seed}
    return mixed.astype(np.float32), note


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


def _identity(source: GeneratedSpeech, sentences: Mapping[str, Mapping[str, str]]) -> str:
    """Return a name that differs when any clip would."""
    versions = {name: importlib.metadata.version(name) for name in ("hibari-tts", "soxr")}
    content = json.dumps([RECIPE, source.model_dump(mode="json"), sentences, versions], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _make(
    home: Path,
    source: GeneratedSpeech,
    sentences: Mapping[str, Mapping[str, str]],
    progress: Callable[[int, int], None],
    total: int,
) -> None:
    """Make all clips in a temporary folder and rename it: the folder is there whole or not at all."""
    from hibari import Hibari  # late: its models are large, and the audio is usually there

    tts = Hibari()
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=home.parent, prefix=".making-"))
    except OSError as error:
        raise StoreError(f"{home.parent} cannot be written ({error}). Check the permissions.") from error
    try:
        (making / "audio").mkdir()
        done = 0
        for set_name, texts in sentences.items():
            utterances, notes = [], []
            for name, text in texts.items():
                samples, note = speak(tts, text, name, source)
                path = making / "audio" / f"{name}.flac"
                write_flac(path, samples)
                utterances.append(Utterance(name, path, text, SPEAKER, len(samples) / SAMPLE_RATE))
                notes.append(note)
                done += 1
                progress(done, total)
            write_manifest(making / f"{set_name}.jsonl", utterances, notes)
        try:
            os.rename(making, home)
        except OSError as error:
            if not is_file(home / "test.jsonl"):  # else another process was faster with the same clips
                raise StoreError(
                    f"{home} cannot be made ({error}). Check the free space and the permissions."
                ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _read_own(manifest: Path) -> tuple[Utterance, ...]:
    """Read a manifest that this program wrote beside its audio, without decoding the clips again."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Utterance(row["id"], manifest.parent / row["audio_filepath"], row["text"], row["speaker"], row["duration"])
        for row in rows
    )
