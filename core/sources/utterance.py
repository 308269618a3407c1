"""An utterance, and the three sets that a run needs."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Utterance:
    """A clip of speech and what is said in it.

    Attributes:
        id: Unique in its set.
        audio_path: Absolute.
        text: As written, not normalised; empty where nothing is said, or nobody wrote what.
        speaker: Who speaks, where that is known.
        duration: Seconds.
        where: The row that it was read from, as ``file:line``, for whoever has to correct it.
    """

    id: str
    audio_path: Path
    text: str
    speaker: str | None
    duration: float
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Splits:
    """Disjoint sets of utterances: to learn from, to choose by, to report."""

    train: tuple[Utterance, ...]
    development: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
