"""Where speech comes from: one file per kind of source, named in one dictionary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.config.sources import GeneratedSpeech, Manifest, Source, VoiceSpeech
from core.sources import generated, voices
from core.sources.data_sets import DATA_SETS, DataSet, data_set, get, quick_start_tests
from core.sources.manifest import manifest_splits
from core.sources.utterance import Splits, Utterance

__all__ = [
    "DATA_SETS",
    "SPLITS",
    "DataSet",
    "Splits",
    "Utterance",
    "data_set",
    "get",
    "is_ready",
    "prepare",
    "quick_start_tests",
]

SPLITS: dict[type, Callable[[Any, Path, Callable[[int, int], None]], Splits]] = {
    GeneratedSpeech: generated.generated_splits,
    VoiceSpeech: voices.voices_splits,
    Manifest: manifest_splits,
}
"""How each kind of source is read; a new source is a file, its settings, and a line here."""


IS_MADE: dict[type, Callable[[Any, Path], bool]] = {
    GeneratedSpeech: generated.is_made,
    VoiceSpeech: voices.is_made,
}
"""Whether the audio of a source that is made here is there already."""


def is_ready(source: Source, folder: Path) -> bool:
    """Return whether `prepare` has no audio to make."""
    made = IS_MADE.get(type(source))
    return made is None or made(source, folder)


def prepare(source: Source, folder: Path, progress: Callable[[int, int], None]) -> Splits:
    """Return the utterances of a source, making or checking its audio first.

    Args:
        source: The settings.
        folder: Where audio that is made is kept.
        progress: Called with the clips that are done and all clips.

    Raises:
        DataError: With every row that cannot be used.
        StoreError: If the disk refuses.
    """
    return SPLITS[type(source)](source, folder, progress)
