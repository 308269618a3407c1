"""Speech that the program makes itself: written once, with its manifests, below a folder that is named by its settings.

FOLDER/train.jsonl, development.jsonl, test.jsonl, audio/train-000.flac ...
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.audio import SAMPLE_RATE, write_flac
from core.errors import StoreError
from core.paths import is_file
from core.sources.manifest import write_manifest
from core.sources.utterance import Splits, Utterance

SETS = ("train", "development", "test")

LEVEL = (0.03, 0.12)
"""Softest and loudest speech, root mean square of full scale."""

PEAK = 0.99
"""Loudest sample, of full scale: so that nothing clips."""


@dataclass(frozen=True)
class Clip:
    """A clip before its audio is made.

    Attributes:
        id: Unique among all sets; its file is called so.
        text: What is said.
        speaker: Who says it.
    """

    id: str
    text: str
    speaker: str


def is_written(home: Path) -> bool:
    """Return whether the three sets are there; they are whole or not there at all."""
    return is_file(home / f"{SETS[-1]}.jsonl")


def read_sets(home: Path) -> Splits:
    """Read sets that `write_sets` wrote, without decoding the clips again."""
    return Splits(*(_read_own(home / f"{name}.jsonl") for name in SETS))


def write_sets(
    home: Path,
    clips: Mapping[str, Sequence[Clip]],
    speech_of: Callable[[Clip], tuple[np.ndarray, Mapping[str, Any]]],
    progress: Callable[[int, int], None],
) -> None:
    """Make all clips in a temporary folder and rename it: the folder is there whole or not at all.

    Args:
        home: The folder.
        clips: Of each set, by its name.
        speech_of: Returns a clip's samples at 16 kHz, and further fields of its row in the manifest.
        progress: Called with the clips that are done and all clips.

    Raises:
        StoreError: If the disk refuses.
    """
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=home.parent, prefix=".making-"))
    except OSError as error:
        raise StoreError(f"{home.parent} cannot be written ({error}). Check the permissions.") from error
    total = sum(map(len, clips.values()))
    done = 0
    try:
        (making / "audio").mkdir()
        for name in SETS:
            utterances, notes = [], []
            for clip in clips[name]:
                samples, note = speech_of(clip)
                path = making / "audio" / f"{clip.id}.flac"
                write_flac(path, samples)
                utterances.append(Utterance(clip.id, path, clip.text, clip.speaker, len(samples) / SAMPLE_RATE))
                notes.append(note)
                done += 1
                progress(done, total)
            write_manifest(making / f"{name}.jsonl", utterances, notes)
        try:
            os.rename(making, home)
        except OSError as error:
            if not is_written(home):  # else another process was faster with the same clips
                raise StoreError(
                    f"{home} cannot be made ({error}). Check the free space and the permissions."
                ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _read_own(manifest: Path) -> tuple[Utterance, ...]:
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Utterance(row["id"], manifest.parent / row["audio_filepath"], row["text"], row["speaker"], row["duration"])
        for row in rows
    )
