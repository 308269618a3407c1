"""English sentences that the project brings, by 28 Kokoro voices: 20 for training, 4 for development, 4 for test.

It is generated speech, and its manifests say so. The clips come with the project, compressed (`assets/voices`, which
has the recipe), so that every machine learns from the same samples. What they are heard in is drawn here, and written
once per settings, below a folder named by their hash:

    FOLDER/HASH/train.jsonl, development.jsonl, test.jsonl, audio/train-000.flac ...
"""

import hashlib
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import soundfile

from core.audio import SAMPLE_RATE
from core.config.sources import Condition, VoiceSpeech
from core.errors import DataError, Problem
from core.paths import no_file
from core.sources.conditions import Conditions, heard_in
from core.sources.made import SETS, Clip, is_written, read_sets, write_sets
from core.sources.utterance import Splits

RECIPE = 1
"""Counted up when the code here or in `conditions` changes what a clip sounds like."""

ARCHIVE = Path(__file__).parents[2] / "assets" / "voices" / "voices.zip"
SUMS = "SHA256SUMS"
"""Name of the file beside the archive that has its sha256."""

ADVICE = "It comes with the project: restore assets/voices (git checkout assets/voices), or make it anew: make voices."

CLEAN = Conditions((), 0.0, (0.0, 0.0), seed=0)
DEVELOPMENT = Conditions(get_args(Condition), 0.5, (5.0, 25.0), seed=0)
"""What test clips, and every second development clip, are heard in whatever the settings are."""


@dataclass(frozen=True)
class Voices:
    """The archive, whose sha256 is the expected one.

    Attributes:
        sha256: Of the archive.
        rows: Of its manifest: id, set, text, speaker, duration and speed of every clip.
        files: Its content.
    """

    sha256: str
    rows: tuple[dict[str, Any], ...]
    files: zipfile.ZipFile


def voices_splits(
    source: VoiceSpeech, folder: Path, progress: Callable[[int, int], None], *, archive: Path = ARCHIVE
) -> Splits:
    """Return the three sets of the voices, writing the audio when it is not there yet.

    Raises:
        DataError: If the archive of the clips is not there, or is not the expected one.
        StoreError: If the disk refuses; nothing half made is left.
    """
    voices = read_voices(archive)
    clips = chosen_clips(source, voices)
    home = folder.absolute() / _identity(source, voices)
    total = sum(map(len, clips.values()))
    if not is_written(home):
        rows = {row["id"]: row for row in voices.rows}
        write_sets(home, clips, lambda clip: _speech(rows[clip.id], source, voices), progress)
    progress(total, total)
    return read_sets(home)


def is_made(source: VoiceSpeech, folder: Path, *, archive: Path = ARCHIVE) -> bool:
    """Return whether `voices_splits` would find its audio; raises as it does."""
    return is_written(folder.absolute() / _identity(source, read_voices(archive)))


def read_voices(archive: Path = ARCHIVE) -> Voices:
    """Read the archive of the clips.

    Raises:
        DataError: If it is not there, or its sha256 is not the one beside it.
    """
    for path, what in ((archive, "archive of voices"), (archive.with_name(SUMS), "list of checksums")):
        nothing = no_file(path, what)
        if nothing:
            raise DataError(f"{nothing}. {ADVICE}")
    content = archive.read_bytes()
    sums = dict(line.split()[::-1] for line in archive.with_name(SUMS).read_text(encoding="utf-8").splitlines() if line)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != sums.get(archive.name):
        raise DataError(
            f"{archive} is not the archive that is expected (its sha256 is not the one in {SUMS}). {ADVICE}"
        )
    files = zipfile.ZipFile(io.BytesIO(content))
    rows = tuple(json.loads(line) for line in files.read("manifest.jsonl").decode().splitlines())
    return Voices(sha256, rows, files)


def chosen_clips(source: VoiceSpeech, voices: Voices) -> dict[str, list[Clip]]:
    """Return the first clips of each set, as many as the settings ask for.

    Raises:
        DataError: If the archive has fewer.
    """
    chosen = {}
    problems = []
    for name in SETS:
        clips = [Clip(row["id"], row["text"], row["speaker"]) for row in voices.rows if row["set"] == name]
        wanted = getattr(source, name)
        if wanted > len(clips):
            problems.append(Problem(f"source.{name}", f"asks for {wanted} clips of {len(clips)}: ask for fewer"))
        chosen[name] = clips[:wanted]
    if problems:
        raise DataError("There are not enough clips:", problems)
    return chosen


def conditions_of(source: VoiceSpeech, clip_id: str) -> Conditions:
    """Return what a clip may be heard in, by its name: ``development-007`` is one of every second."""
    name, number = clip_id.rsplit("-", 1)
    if name == "train":
        ratios = (source.lowest_signal_to_noise, source.highest_signal_to_noise)
        return Conditions(source.conditions, source.share, ratios, source.seed)
    return DEVELOPMENT if name == "development" and int(number) % 2 else CLEAN


def _speech(row: dict[str, Any], source: VoiceSpeech, voices: Voices) -> tuple[np.ndarray, dict[str, Any]]:
    samples, rate = soundfile.read(io.BytesIO(voices.files.read(row["audio_filepath"])), dtype="float32")
    if rate != SAMPLE_RATE:
        raise DataError(f"{row['audio_filepath']} has {rate} samples a second, not {SAMPLE_RATE}. {ADVICE}")
    samples, drawn = heard_in(samples, row["id"], conditions_of(source, row["id"]))
    return samples, {"generated": True, "rate": row["speed"], "conditions": drawn}


def _identity(source: VoiceSpeech, voices: Voices) -> str:
    """Return a name that differs when any clip would."""
    versions = {name: importlib.metadata.version(name) for name in ("scipy", "soundfile", "soxr")}
    content = json.dumps([RECIPE, source.model_dump(mode="json"), voices.sha256, versions], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
