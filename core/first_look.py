"""What can be known to be wrong with runs before any model is loaded: their layers and their manifests. No torch here.

Everything is told at once. `core.checking` looks at the models and hears all of the audio.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.config import RunConfig
from core.config.sources import Manifest, VoiceSpeech
from core.errors import ConfigError, DataError, Problem
from core.paths import expanded, no_file
from core.scaling.shapes import shape_of
from core.sources.data_sets import DATA_SETS
from core.sources.manifest import BAD_ROWS, LONGEST_SECONDS, glance, transcripts_of
from core.sources.rows import Transcripts
from core.sources.voices import chosen_clips, read_voices

MOST_HEADERS = 300
"""Audio files of a manifest whose headers are read; of a larger one as many, evenly spread."""


def first_look(configs: Sequence[RunConfig], *, runs_folder: Path) -> list[Problem]:
    """Return what would end runs of one job before their first step, each once; nothing where nothing is known.

    Args:
        configs: The runs.
        runs_folder: Where the quick start keeps its speech, which an advice may name.
    """
    found: dict[Problem, None] = {}
    for config in configs:
        found |= dict.fromkeys(layer_problems(config.model_dump(mode="json")))
    for source, evaluation in dict.fromkeys((config.source, config.evaluation) for config in configs):
        extra = evaluation.extra_tests if evaluation.test else ()
        found |= dict.fromkeys(speech_problems(source, extra, runs_folder=runs_folder))
    return list(found)


def layer_problems(fields: Mapping[str, Any]) -> list[Problem]:
    """Return which layers a model does not have, as far as its shape is known without its weights.

    Args:
        fields: Of a RunConfig, as plain dictionaries; they may be wrong elsewhere, and in other items of the same list.
    """
    student, teachers = fields.get("student"), fields.get("teachers")
    named = [each.get("model") for each in teachers if isinstance(each, Mapping)] if isinstance(teachers, list) else []
    problems: list[Problem] = []
    if isinstance(student, Mapping) and student.get("kind") == "pruned":
        problems += _of_layers("student.{}_layers", student, student.get("model") or next(iter(named), None))
    method = fields.get("method")
    mapping = method.get("mapping") if isinstance(method, Mapping) else None
    if isinstance(mapping, Mapping):
        for model in named:
            problems += _of_layers("method.mapping.{}_list", mapping, model)
    return problems


def _of_layers(where: str, settings: Mapping[str, Any], model: Any) -> Iterator[Problem]:
    """Yield for each side which layers a list names that a model lacks."""
    try:
        shape = shape_of(model) if isinstance(model, str) and model else None
    except ConfigError:
        shape = None
    for side, depth in (("encoder", shape.encoder_layers), ("decoder", shape.decoder_layers)) if shape else ():
        place = where.format(side)
        listed = settings.get(place.rsplit(".", 1)[-1])
        numbers = [item for item in listed if isinstance(item, int)] if isinstance(listed, list | tuple) else []
        missing = [str(layer) for layer in numbers if layer >= depth]
        if missing:
            yield Problem(place, f"'{model}' has {side} layers 0 to {depth - 1}; remove {', '.join(missing)}")


def speech_problems(source: Any, extra_tests: Sequence[str], *, runs_folder: Path) -> list[Problem]:
    """Return which manifests, or the archive of the voices, are not there, and which of their rows cannot be used.

    Every row is read, and its audio file must be there; of audio, headers alone are read, of a sample where there are
    more than `MOST_HEADERS`, which is said beside what was found.

    Args:
        source: Settings of a source; manifests can be wrong, and the archive of the voices.
        extra_tests: Paths of further manifests.
        runs_folder: Where the quick start keeps its speech.
    """
    problems: list[Problem] = []
    listed = runs_folder / "data" / BAD_ROWS
    if isinstance(source, Manifest):
        for name in ("train", "development", "test"):
            path, transcripts = expanded(getattr(source, name)), transcripts_of(source, name)
            problems += _of_manifest(path, f"source.{name}", listed, transcripts, source.longest_seconds)
    elif isinstance(source, VoiceSpeech):
        try:
            chosen_clips(source, read_voices())
        except DataError as error:
            problems += error.problems or [Problem("source", error.summary)]
    own = {runs_folder / "data" / each.quick_start: each.name for each in DATA_SETS}
    for path in map(expanded, extra_tests):
        advice = "Leave the field empty, or check the path"
        if path in own:
            advice = f"Leave the field empty, or fetch that speech: manifold data get {own[path]}"
        problems += _of_manifest(path, "evaluation.extra_tests", listed, "may be empty", advice=advice)
    return problems


def manifest_in_words(written: str) -> str:
    """Return where a path leads that somebody wrote for a manifest, and whether a file is there."""
    path = Path(os.path.abspath(expanded(written)))
    return f"Reads {path}" if no_file(path, "manifest") is None else f"Would read {path}: no such file so far"


def _of_manifest(
    path: Path,
    field: str,
    listed: Path,
    transcripts: Transcripts,
    longest: float = LONGEST_SECONDS,
    *,
    advice: str = "Check the path",
) -> list[Problem]:
    nothing = no_file(path, "manifest")
    if nothing:
        return [Problem(field, f"t{nothing[1:]}. {advice}")]
    try:
        seen = glance(
            path, longest_seconds=longest, headers=MOST_HEADERS, transcripts=transcripts, bad_rows_folder=listed
        )
    except DataError as error:
        return [Problem(field, error.summary)]
    said = f"of {seen.rows:,} audio files {seen.heard:,} were opened so far, evenly spread; check the others"
    return [*seen.problems, *([Problem(field, said)] if seen.problems and seen.heard < seen.rows else [])]
