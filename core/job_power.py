"""What the test set of a job can show, read from its settings and its manifest before anything starts."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from core.config import RunConfig
from core.config.sources import GeneratedSpeech, Manifest, VoiceSpeech
from core.errors import DataError
from core.paths import expanded
from core.power import what_can_be_seen
from core.sources.generated import chosen_sentences
from core.sources.rows import row_parts
from core.sources.voices import chosen_clips, read_voices

MOST_ROWS = 5_000
"""Rows of a manifest that are read: with as many, there is speech enough."""


def test_power(configs: Sequence[RunConfig]) -> str:
    """Return which difference between the runs of a job can be seen, in a sentence; empty where nothing is known.

    Args:
        configs: The runs, which share their speech; the first is the baseline.
    """
    if not configs:
        return ""
    source, name = configs[-1].source, "test" if configs[-1].evaluation.test else "development"
    try:
        if isinstance(source, GeneratedSpeech):
            said, speakers, more = list(chosen_sentences(source)[name].values()), [""], False
        elif isinstance(source, VoiceSpeech):
            clips = chosen_clips(source, read_voices())[name]
            said, speakers, more = [clip.text for clip in clips], [clip.speaker for clip in clips], False
        elif isinstance(source, Manifest):
            said, speakers, more = _of_manifest(expanded(getattr(source, name)))
        else:
            return ""
    except (DataError, OSError, ValueError):
        # What is wrong is told with the other mistakes, when the job is checked or started.
        return ""
    return what_can_be_seen(
        utterances=len(said),
        words=sum(len(text.split()) for text in said),
        speakers=len(set(speakers)),
        comparisons=max(1, len(configs) - 1),
        more=more,
    )


def _of_manifest(path: Path) -> tuple[list[str], list[str], bool]:
    """Return what each utterance says, the speakers, and whether there are more utterances, which were not read.

    An unknown speaker counts as one of its own where some are known.

    Raises:
        DataError: If a row cannot be used.
    """
    if not path.is_file():
        raise DataError(f"There is no manifest {path}.")
    said, speakers = [], []
    with path.open(encoding="utf-8") as lines:
        rows = filter(str.strip, lines)
        for number, line in enumerate(islice(rows, MOST_ROWS)):
            fields = json.loads(line)
            said.append(row_parts(fields, path.parent, "may be empty")[1])
            speaker = fields.get("speaker")
            speakers.append(speaker if isinstance(speaker, str) and speaker else number)
        more = next(rows, None) is not None
    known = [speaker for speaker in speakers if isinstance(speaker, str)]
    return said, [str(speaker) for speaker in speakers] if known else [], more
