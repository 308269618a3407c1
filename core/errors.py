"""Every error that the engine raises on purpose.

ManifoldError
├── ConfigError            the settings cannot be a run; `problems` lists all mistakes
├── ModelError             a model cannot be found, read or trusted
│   └── ChecksumError      the weights are not the ones that were asked for
├── DataError              audio, transcripts or manifests that cannot be used; `problems` lists all rows
├── ShapeError             two sides of a loss or measure do not pair up
├── GradientPathError      a loss or an adapter reaches no weight that is deployed
├── TrainingError          the run went wrong while training
│   └── NotFiniteError     the loss became NaN or infinite
├── StoreError             the database or a file of a run cannot be read or written
│   ├── UnwritableError    the database can be read at most: its disk is full, or it is read-only
│   ├── DatabaseGoneError  the database was deleted or replaced while it was in use
│   └── BundleError        a bundle that is damaged or made to deceive; nothing of it was kept
├── AccessError            whoever asks may not do that
├── NotFoundError          no run, job or preset has that name
├── SomeRunsFailed         some runs of a job failed and others finished: so it says, and has finished
├── JobError               a job could not be started, stopped or watched
└── Stopped                the user asked to stop: an ending, not a mistake

Each message says what happened and what to do; the app and the command line print it as it is.
"""

import errno
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake in something a user wrote.

    Attributes:
        where: Path of the field or row, for example ``training.steps`` or ``train.jsonl:12``.
        message: What is wrong and what to do, one sentence.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


LONGEST_NAME = 40
"""Characters of an unknown name that are repeated to whoever wrote it."""


def quoted(name: str) -> str:
    """Return a name that is not known as a sentence repeats it: in quotation marks, and not longer than an id is."""
    return f"'{name}'" if len(name) <= LONGEST_NAME else f"'{name[:LONGEST_NAME]}…'"


MOST_TOLD = 70
"""Problems that an error tells one by one: it is stored, and shown on a page."""


class ManifoldError(Exception):
    """Base of everything raised on purpose."""


class _WithProblems(ManifoldError):
    """An error that reports several mistakes at once; of very many the first ones, and how many more there are."""

    def __init__(self, summary: str, problems: list[Problem] | None = None) -> None:
        self.summary = summary
        self.problems = (problems or [])[:MOST_TOLD]
        more = len(problems or []) - MOST_TOLD
        if more > 0:
            self.problems.append(Problem("", f"and {more:,} more of the kind"))
        super().__init__("\n".join([summary, *(f"  - {problem}" for problem in self.problems)]))


class ConfigError(_WithProblems):
    """The settings cannot be a run."""


class DataError(_WithProblems):
    """Audio, transcripts or manifests that cannot be used."""


class ModelError(ManifoldError):
    """A model cannot be found, read or trusted."""


class ChecksumError(ModelError):
    """The weights are not the ones that were asked for."""


class ShapeError(ManifoldError):
    """Two sides of a loss or a measure do not pair up."""


class GradientPathError(ManifoldError):
    """A loss or an adapter reaches no weight that is deployed."""


class TrainingError(ManifoldError):
    """The run went wrong while training."""


class NotFiniteError(TrainingError):
    """The loss became NaN or infinite."""


class StoreError(ManifoldError):
    """The database or a file of a run cannot be read or written."""


class DatabaseGoneError(StoreError):
    """The database was deleted or replaced while it was in use."""


class UnwritableError(StoreError):
    """The database cannot be written: its disk is full, or it is not this user's to write. It may be read."""


class BundleError(StoreError):
    """A bundle that is damaged, made to deceive, or of another version; nothing of it was kept."""


class AccessError(ManifoldError):
    """Whoever asks may not do that."""


class NotFoundError(ManifoldError):
    """No run, job or preset has that name."""


class SomeRunsFailed(ManifoldError):
    """Some runs of a job failed, and others finished: the job has finished, and says which did not."""


class JobError(ManifoldError):
    """A job could not be started, stopped or watched."""


class Stopped(ManifoldError):
    """The user asked to stop: `run_job` raises it at the next boundary, and the worker records it."""


_FULL = re.compile(
    r"no space left|disk quota exceeded|os error (28|122)\b|disk is full|\d+ requested and \d+ written"
    r"|unexpected pos \d+ vs|file write failed|iostream error",
    re.IGNORECASE,
)
"""How libraries say that a file could not be written whole that have no number for it: safetensors, SQLite, numpy, and
torch, which counts bytes."""


def _of_the_disk(error: BaseException | None) -> str | None:
    """Return what to do where a disk could not be written, however deep that lies; None for any other error."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        text = str(error)
        file = error.filename if isinstance(error, OSError) and error.filename else "A file"
        # libsndfile says no more where it writes; where it opens a file, it says which.
        sound = type(error).__name__ == "LibsndfileError" and text == "System error."
        if number in (errno.ENOSPC, errno.EDQUOT) or _FULL.search(text) or sound:
            return (
                f"The disk is full. {file} could not be written. Free some space, for example of runs that nobody "
                "needs, or raise the quota, and start the run again; what was stored is kept. How much is free: "
                "manifold doctor."
            )
        if number == errno.EROFS or "os error 30" in text:
            return f"{file} could not be written: its disk is read-only. Make it writable, or give another --runs."
        if number == errno.EFBIG or "os error 27" in text:
            return (
                f"{file} could not be written: this account or file system allows no larger ones. Raise the limit "
                "(ulimit -f), and start the run again."
            )
        error = error.__cause__ or error.__context__
    return None


def sentence_of(error: Exception) -> str:
    """Return what to tell a user about an error that ended some work, whoever raised it; the rest is for the log."""
    if isinstance(error, ManifoldError):
        return str(error)
    disk = _of_the_disk(error)
    if disk is not None:
        return disk
    # torch reports missing memory by its own names, and torch may not be here.
    name, text = type(error).__name__, str(error)
    if name == "OutOfMemoryError":
        return "The GPU ran out of memory. Use a smaller batch size or a smaller model, and start the run again."
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "The machine ran out of memory. Use a smaller batch size or a smaller model, and start the run again."
    return f"The worker met an error that it did not expect ({name}). The job's log has the details."
