"""An utterance, and the three sets that a run needs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Utterance:
    """A clip of speech and what is said in it.

    Attributes:
        id: Unique in its set.
        audio_path: Absolute.
        text: As written, not normalised.
        speaker: Who speaks, where that is known.
        duration: Seconds.
    """

    id: str
    audio_path: Path
    text: str
    speaker: str | None
    duration: float


@dataclass(frozen=True)
class Splits:
    """Disjoint sets of utterances: to learn from, to choose by, to report."""

    train: tuple[Utterance, ...]
    development: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
