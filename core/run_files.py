"""What is read from the files of jobs: the end of a log, and the utterances whose states are stored."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.errors import StoreError
from core.store.records import probe_folder

LOG_BYTES = 256 * 1024
"""How much of a log's end is looked at for its last lines."""


@dataclass(frozen=True)
class ProbeUtterance:
    """One utterance of the fixed set whose states are followed through a job.

    Attributes:
        audio_path: Absolute, or relative to the runs folder.
        duration: In seconds.
        split: Which set it is of.
    """

    id: str
    text: str
    audio_path: str
    speaker: str | None
    duration: float
    split: str


def probe_utterances(runs_folder: Path, job_id: str, group: int = 0) -> list[ProbeUtterance]:
    """Return the utterances whose states a group of a job's runs stores, in the order that maps refer to.

    Raises:
        StoreError: If the list is gone or cannot be read.
    """
    path = runs_folder / probe_folder(job_id, group) / "probe.json"
    try:
        return [ProbeUtterance(**item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"The list of utterances {path} cannot be read ({error}). Put it back.") from error


def log_tail(path: Path, lines: int) -> str:
    """Return the last lines of a job's output; empty before there is any."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StoreError(f"The log {path} cannot be read: {error.strerror}.") from error
    # A progress bar writes over its line; only what it showed last is worth a line here.
    shown = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").rstrip().split("\n")]
    return "\n".join(shown[-lines:])
