"""Results on their way to the database: lines in a file first, and from there to the database once a second.

A process that trains waits for no database. What it stores becomes a line of a journal in the folder of the runs (a
write to the page cache, which outlives the process), and a thread moves the lines to the database in batches, one
transaction each. Where the database does not answer, the lines stay; they are moved when it does, by this process or,
when that is gone, by the next one that looks. Moving lines twice stores nothing twice: each has its key.

runs/journal/JOB.PID.NUMBER.jsonl   locked by its process as long as that lives
"""

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError

from core.errors import NotFoundError, StoreError
from core.store.records import AlignmentRecord, LayerDistance, LayerScan, ParameterCounts, UtteranceResult
from core.store.store import Store

log = logging.getLogger(__name__)

FOLDER = "journal"
"""Of the journals, in the folder of the runs."""

OPERATIONS = frozenset(
    {
        "add_alignments",
        "add_evaluation",
        "add_layer_scan",
        "add_metrics",
        "advanced",
        "job_state",
        "progress",
        "request_first_analysis",
        "run_progress",
        "run_state",
        "set_parameters",
        "set_peak_memory",
        "set_precision",
    }
)
"""Methods of the store that a line may name; carried out twice, each leaves what it leaves when carried out once."""

LAST_COUNTS = frozenset({"advanced", "progress", "run_progress"})
"""Of these, only the last of a batch is carried out for each job or run."""


@dataclass(frozen=True)
class Entry:
    """A line of a journal.

    Attributes:
        at: When it was written, in nanoseconds since the machine's boot, the same clock in all its processes.
        operation: See `OPERATIONS`.
        fields: Its arguments, as JSON has them.
    """

    at: int
    operation: str
    fields: Mapping[str, Any]

    def line(self) -> bytes:
        """Return it as it is written."""
        return json.dumps(vars(self), default=_plain, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> "Entry":
        """Return what `line` wrote.

        Raises:
            ValueError: If it is something else.
        """
        fields = json.loads(line)
        if not isinstance(fields, dict) or fields.keys() != {"at", "operation", "fields"}:
            raise ValueError("this is no line of a journal")
        return cls(**fields)


class JournalFile:
    """One file of lines, locked for whoever has it open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over a file that is open and locked."""
        self.path, self._descriptor = path, descriptor
        self.empty = os.fstat(descriptor).st_size == 0

    @classmethod
    def new(cls, folder: Path, job_id: str) -> "JournalFile":
        """Make an empty file that this process alone has.

        Raises:
            OSError: If there is no such folder, or no room.
        """
        number = time.monotonic_ns()
        while True:
            path = folder / f"{job_id}.{os.getpid()}.{number}.jsonl"
            file = cls._locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
            if file is not None:
                return file
            number += 1  # somebody took it for one that was left behind, in the moment before it was locked

    @classmethod
    def left_behind(cls, path: Path) -> "JournalFile | None":
        """Return a file whose process is gone, or None where it is not, or where another looks after it.

        None, too, where it cannot be opened for writing, as on a disk that is read-only: what it says then waits.
        """
        with suppress(OSError):
            return cls._locked(path, os.O_RDWR | os.O_APPEND)
        return None

    @classmethod
    def _locked(cls, path: Path, flags: int) -> "JournalFile | None":
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return cls(path, descriptor)
        except BlockingIOError:
            pass
        os.close(descriptor)
        return None

    def append(self, entry: Entry) -> None:
        """Add a line; when this returns, the end of the process does not lose it.

        Raises:
            OSError: If there is no room for it.
        """
        line = entry.line()
        end = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise
        self.empty = False

    def entries(self) -> list[Entry]:
        """Return its lines; what was cut off while it was written was never said to be stored, and is left out."""
        with open(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            lines = file.read().split(b"\n")[:-1]
        found = []
        for line in lines:
            try:
                found.append(Entry.read(line))
            except ValueError:
                log.error("A line of %s cannot be read and is left out: %r", self.path, line[:200])
        return found

    def remove(self) -> None:
        """Delete it; its lines are in the database."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave it to others."""
        os.close(self._descriptor)


def journal_folder(runs_folder: Path) -> Path:
    """Return where the journals lie."""
    return runs_folder / FOLDER


def replay(store: Store, runs_folder: Path, *, job_id: str | None = None) -> set[str]:
    """Move what dead processes left behind to the database; return the ids of jobs of which something still waits.

    Any number of processes may do this at once: each file is moved by one of them.

    Args:
        store: The database; journals of jobs that it does not have are left alone.
        runs_folder: Where the journals are.
        job_id: Look after those of one job only.

    Raises:
        StoreError: If the database does not answer; what waits goes on waiting.
    """
    waiting: dict[str, list[JournalFile]] = {}
    busy: set[str] = set()
    for path in sorted(journal_folder(runs_folder).glob(f"{job_id or '*'}.*.jsonl")):
        owner = path.name.split(".", 1)[0]
        file = JournalFile.left_behind(path)
        if file is None:
            busy.add(owner)
        else:
            waiting.setdefault(owner, []).append(file)
    try:
        for owner in list(waiting):
            try:
                store.job(owner)
            except NotFoundError:
                continue
            move(store, waiting[owner])
            del waiting[owner]
    finally:
        for file in (each for files in waiting.values() for each in files):
            file.release()
    return busy | waiting.keys()


def move(store: Store, files: Sequence[JournalFile]) -> int:
    """Move all lines of some files to the database in the order in which they were written; return how many.

    Raises:
        StoreError: If the database does not answer; nothing was moved then.
    """
    entries = sorted((entry for file in files for entry in file.entries()), key=lambda entry: entry.at)
    carry_out(store, entries)
    for file in files:
        file.remove()
    return len(entries)


def carry_out(store: Store, entries: Sequence[Entry]) -> None:
    """Store what lines say, in one transaction. One that cannot be stored, whatever the database, goes to the log.

    Raises:
        StoreError: If the database does not answer.
    """
    if not entries:
        return
    metrics = [entry for entry in entries if entry.operation == "add_metrics"]
    last = {_place(entry): entry for entry in entries if entry.operation in LAST_COUNTS}
    others = [
        entry
        for entry in entries
        if entry.operation != "add_metrics" and (entry.operation not in LAST_COUNTS or last[_place(entry)] is entry)
    ]
    with store.batch() as one:
        # All points of all curves at once: one after the other they take ten times as long.
        with _told("the metrics of a batch") as failed:
            one.add_points(
                [
                    (entry.fields["run_id"], name, entry.fields["step"], value)
                    for entry in metrics
                    for name, value in entry.fields["values"].items()
                ]
            )
        for entry in (*(metrics if failed else ()), *others):
            with _told(f"{entry.operation} {entry.fields.get('run_id') or entry.fields.get('job_id', '')}"):
                _carry_out(one, entry)


def _carry_out(store: Store, entry: Entry) -> None:
    if entry.operation not in OPERATIONS:
        raise ValueError(f"{entry.operation!r} is nothing that a journal may ask for")
    fields = dict(entry.fields)
    match entry.operation:
        case "set_parameters":
            fields["counts"] = ParameterCounts(**fields["counts"])
        case "add_alignments":
            fields["records"] = [AlignmentRecord(**record) for record in fields["records"]]
        case "add_evaluation":
            fields["results"] = [UtteranceResult(**result) for result in fields["results"]]
        case "add_layer_scan":
            distances = tuple(LayerDistance(**each) for each in fields["scan"]["distances"])
            fields["scan"] = LayerScan(**{**fields["scan"], "distances": distances})
        case "job_state" | "run_state":
            fields["at"] = datetime.fromisoformat(fields["at"])
    getattr(store, entry.operation)(**fields)


@contextmanager
def _told(what: str) -> Iterator[list[bool]]:
    """Write to the log what cannot be stored for a reason of its own, and go on; yield a list that is then filled.

    Raises:
        StoreError: If it is the database that does not answer.
    """
    failed: list[bool] = []
    try:
        yield failed
    except StoreError as error:
        if not isinstance(error.__cause__, DBAPIError) or isinstance(error.__cause__, OperationalError):
            raise
        failed.append(True)
        log.error("Not stored, %s: %s", what, error)
    except (NotFoundError, ValueError, KeyError, TypeError) as error:
        failed.append(True)
        log.error("Not stored, %s: %s", what, error)


def _place(entry: Entry) -> tuple[object, ...]:
    """Return of what a line says something."""
    return (entry.operation, *(str(entry.fields.get(name)) for name in ("job_id", "run_id", "run_ids")))


def _plain(value: Any) -> Any:
    """Return what JSON has for a value that it does not know: records, times, numbers of NumPy and torch."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    number: Any = value
    return number.item()
