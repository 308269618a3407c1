"""The store of a process that works: what it stores goes through a journal, so that it never waits for the database."""

import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from core.errors import DatabaseGoneError, StoreError
from core.store.database import identity
from core.store.journal import Entry, JournalFile, carry_out, journal_folder, log, move
from core.store.records import AlignmentRecord, EvaluationRecord, LayerScan, ParameterCounts, State
from core.store.store import Store

MOVE_SECONDS = 1.0
"""How often the journal is moved to the database."""

CLOSING_SECONDS = 30.0
"""So long the end of a process waits for the database; what it does not take then stays in the journal."""


class JournaledStore(Store):
    """An open store whose results go through a journal of this process. Reads, and all other writes, do not.

    What was just stored may be read about a second later; `flush` waits for it. Safe to share between threads.

    Attributes:
        journal: The folder of the journals.
    """

    def __init__(self, store: Store, runs_folder: Path, job_id: str) -> None:
        """Begin a journal.

        Args:
            store: The open database, which stays open.
            runs_folder: Where the journals are.
            job_id: Of which job all results are.

        Raises:
            StoreError: If no journal can be made.
        """
        vars(self).update(vars(store))
        self._store, self._runs_folder, self._job_id = store, runs_folder, job_id
        self.journal = journal_folder(runs_folder)
        try:
            self.journal.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._active: JournalFile | None = JournalFile.new(self.journal, job_id)
        except OSError as error:
            raise StoreError(f"No journal can be written to {self.journal}: {error.strerror or error}.") from error
        self._runs_identity = identity(runs_folder)
        self._sealed: list[JournalFile] = []
        self._writing, self._moving, self._end = threading.Lock(), threading.Lock(), threading.Event()
        self._problem: Exception | None = None
        self._silent = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Move what is left to the database, as far as that answers, and end the journal."""
        self._end.set()
        self._thread.join()
        if not self.flush(CLOSING_SECONDS):
            log.error("Not everything is in the database yet; what is not waits in %s", self.journal)
        with self._moving, self._writing:
            for file in (*self._sealed, *([self._active] if self._active else [])):
                if file.empty:
                    file.remove()
                else:
                    file.release()
            self._active, self._sealed = None, []

    def waiting(self, seconds: float) -> Any:
        """See `core.store.database.Database.waiting`: of the database itself, past the journal."""
        return self._store.waiting(seconds)

    @contextmanager
    def batch(self) -> Iterator[Any]:
        """See `core.store.database.Database.batch`: of the database itself, past the journal."""
        with self._store.batch() as one:
            yield one

    def problem(self) -> Exception | None:
        """Return why the work cannot go on: the database or the folder of the runs is gone, or the journal failed."""
        if self._problem is None and identity(self._runs_folder) != self._runs_identity:
            self._problem = StoreError(
                f"The folder of the runs, {self._runs_folder}, was deleted or moved while the job worked, and with it "
                "the files of its runs. What was measured until then is in the database; start the run again."
            )
        return self._problem

    def flush(self, seconds: float) -> bool:
        """Wait until the database has all that was stored; return whether it has."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._move(max(0.1, min(seconds, deadline - time.monotonic())))
                return True
            except StoreError as error:
                if isinstance(error, DatabaseGoneError) or time.monotonic() > deadline:
                    self._tell(error)
                    return False
            time.sleep(0.05)

    def add_metrics(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """See `core.store.results.Results.add_metrics`."""
        self._require_no_problem()
        numbers = {name: float(value) for name, value in values.items()}
        self._write_down("add_metrics", run_id=run_id, step=step, values=numbers)

    def run_progress(self, run_id: str, step: int, seconds: float) -> None:
        """See `core.store.writes.Writes.run_progress`."""
        self._require_no_problem()
        self._write_down("run_progress", run_id=run_id, step=step, seconds=seconds)

    def progress(self, job_id: str, stage: str, done: int, total: int, eta_seconds: float | None = None) -> None:
        """See `core.store.writes.Writes.progress`."""
        self._require_no_problem()
        fields = {"stage": stage, "done": done, "total": total, "eta_seconds": eta_seconds}
        self._write_down("progress", job_id=job_id, **fields)

    def advanced(self, job_id: str, run_ids: Sequence[str], at: float) -> None:
        """See `core.store.writes.Writes.advanced`."""
        self._write_down("advanced", job_id=job_id, run_ids=list(run_ids), at=at)

    def job_state(
        self,
        job_id: str,
        state: State,
        message: str = "",
        *,
        only_from: Sequence[State] | None = None,
        at: datetime | None = None,
    ) -> bool:
        """See `core.store.writes.Writes.job_state`; whether the job moves is known later, and True is returned."""
        fields = {"state": state, "message": message, "only_from": only_from, "at": at or datetime.now(UTC)}
        self._write_down("job_state", job_id=job_id, **fields)
        return True

    def run_state(
        self,
        run_id: str,
        state: State,
        message: str = "",
        *,
        only_from: Sequence[State] | None = None,
        at: datetime | None = None,
    ) -> bool:
        """See `core.store.writes.Writes.run_state`; whether the run moves is known later, and True is returned."""
        fields = {"state": state, "message": message, "only_from": only_from, "at": at or datetime.now(UTC)}
        self._write_down("run_state", run_id=run_id, **fields)
        return True

    def set_precision(self, run_id: str, precision: str) -> None:
        """See `core.store.writes.Writes.set_precision`."""
        self._write_down("set_precision", run_id=run_id, precision=precision)

    def set_peak_memory(self, run_id: str, peak_memory: int) -> None:
        """See `core.store.writes.Writes.set_peak_memory`."""
        self._write_down("set_peak_memory", run_id=run_id, peak_memory=peak_memory)

    def set_parameters(self, run_id: str, counts: ParameterCounts) -> None:
        """See `core.store.results.Results.set_parameters`."""
        self._write_down("set_parameters", run_id=run_id, counts=counts)

    def add_evaluation(self, **fields: Any) -> EvaluationRecord:
        """See `core.store.results.Results.add_evaluation`; the number of the record is not known yet, and 0."""
        self._write_down("add_evaluation", **{"results": (), **fields})
        return EvaluationRecord(id=0, **{name: value for name, value in fields.items() if name != "results"})

    def add_layer_scan(self, job_id: str, group: int, scan: LayerScan) -> None:
        """See `core.store.layer_scans.LayerScans.add_layer_scan`."""
        self._write_down("add_layer_scan", job_id=job_id, group=group, scan=scan)

    def add_alignments(self, records: Sequence[AlignmentRecord]) -> None:
        """See `core.store.results.Results.add_alignments`."""
        self._write_down("add_alignments", records=list(records))

    def request_first_analysis(self, run_id: str) -> None:
        """See `core.store.requests.Requests.request_first_analysis`."""
        self._write_down("request_first_analysis", run_id=run_id)

    def _require_no_problem(self) -> None:
        """End the work of whoever calls, where it cannot go on."""
        if self._problem is not None:
            raise self._problem

    def _write_down(self, operation: str, **fields: Any) -> None:
        entry = Entry(time.monotonic_ns(), operation, fields)
        with self._writing:
            try:
                if self._active is None:
                    self._active = JournalFile.new(self.journal, self._job_id)
                self._active.append(entry)
                return
            except OSError as error:
                reason = error.strerror or str(error)
        # The disk of the runs is full, or gone: the database may be elsewhere.
        log.error("The journal in %s cannot be written (%s): straight to the database", self.journal, reason)
        self._move(CLOSING_SECONDS)
        carry_out(self._store, [Entry.read(entry.line())])

    def _move(self, seconds: float) -> None:
        """Move to the database what was written down, and what dead processes of the same job left behind.

        Raises:
            StoreError: If the database does not answer within some seconds; then everything stays where it is.
        """
        with self._moving:
            again = bool(self._sealed)
            self._move_once(seconds)
            if again:
                self._move_once(seconds)
            if self._silent:
                self._silent = False
                log.info("The database answers again, and has everything")

    def _move_once(self, seconds: float) -> None:
        with self._writing:
            # While lines wait, further ones are added to a single file, however long it takes.
            if self._active is not None and not self._active.empty and not self._sealed:
                self._sealed, self._active = [self._active], None
        left = self._left_behind()
        try:
            if self._sealed or left:
                move(self._store.waiting(seconds), [*self._sealed, *left])
        except BaseException:
            for file in left:
                file.release()
            raise
        self._sealed = []

    def _left_behind(self) -> list[JournalFile]:
        mine = {file.path for file in (*self._sealed, *([self._active] if self._active else []))}
        paths = [path for path in sorted(self.journal.glob(f"{self._job_id}.*.jsonl")) if path not in mine]
        return [file for path in paths if (file := JournalFile.left_behind(path)) is not None]

    def _run(self) -> None:
        while not self._end.wait(MOVE_SECONDS):
            try:
                self._move(CLOSING_SECONDS)
                self.problem()
            except DatabaseGoneError as error:
                self._problem = error
            except StoreError as error:
                self._tell(error)
            except Exception as error:  # noqa: BLE001 - a thread that ends says nothing to those who wait for it
                traceback.print_exc()
                self._problem = error

    def _tell(self, error: StoreError) -> None:
        """Say once that the database does not answer."""
        if not self._silent:
            log.warning("%s Results wait in %s until it answers; the work goes on", error, self.journal)
        self._silent = True
