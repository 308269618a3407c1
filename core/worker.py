"""What a launcher starts: ``python -m core.worker JOB_ID --database-url URL --runs FOLDER``.

The worker says that it lives before it imports anything heavy, waits for its turn, does the job's work, and records
how it ended. Its output is the job's log: what it begins, with times, and the traceback of what a user reads as a
sentence.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import DatabaseGoneError, JobError, ManifoldError, SomeRunsFailed, Stopped, StoreError, sentence_of
from core.launchers.gpus import VISIBLE, visible_gpus
from core.launchers.liveness import interrupt_dead_jobs
from core.launchers.process import identify
from core.launchers.slots import CPU, device_slots, take_slots
from core.progress import written
from core.store import State, Store
from core.store.journaled import JournaledStore

log = logging.getLogger("core.worker")  # also where this file is the program itself

HEARTBEAT_SECONDS = 2.0
TURN_SECONDS = 0.5
ENDING_SECONDS = 60.0

Work = Callable[..., None]
"""Called as ``work(job_id, store=..., runs_folder=..., stop=...)``; returns when finished, raises how else it ended."""


class Heartbeat:
    """Says every two seconds that the worker lives, and hears whether it shall go on.

    Attributes:
        stop: Whether a user asked to stop, or the job is no longer this worker's because it was declared dead.
    """

    def __init__(self, store: Store, job_id: str) -> None:
        """Begin at once."""
        self._store = store
        self._job_id = job_id
        self._end = threading.Event()
        self.stop = False
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Fall silent."""
        self._end.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT_SECONDS):
            try:
                active = self._store.heartbeat(self._job_id)
                self.stop = not active or self._store.stop_requested(self._job_id)
            except StoreError as error:
                # The next beat may get through; training does not wait for the database.
                print(f"heartbeat: {error}", file=sys.stderr)


def run_worker(job_id: str, *, store: Store, runs_folder: Path, work: Work, told_to_stop: Callable[[], bool]) -> State:
    """Work through one job and record how it ended; return that state.

    Args:
        job_id: A queued job.
        store: The database.
        runs_folder: Where the runs keep their files.
        work: What does the job's work.
        told_to_stop: Whether the process was asked to end by a signal.
    """
    me = identify()
    _patiently(lambda: store.job_started(job_id, me.pid, me.boot_id, me.started))
    heartbeat = Heartbeat(store, job_id)
    log.info("The worker of %s waits for its turn", job_id)

    def stop() -> bool:
        return told_to_stop() or heartbeat.stop

    try:
        try:
            slot = _wait_for_turn(job_id, store=store, runs_folder=runs_folder, stop=stop)
        except JobError as error:
            said = str(error)
            log.info("Failed. %s", said)
            _patiently(lambda: store.job_state(job_id, "failed", said, only_from=("queued",)))
            return store.job(job_id).state
        if slot is None:
            _patiently(lambda: store.job_state(job_id, "stopped", "Stopped before it began.", only_from=("queued",)))
            log.info("Not begun: the job was stopped or given up while it waited")
            return store.job(job_id).state
        log.info("Its turn")
        with slot, JournaledStore(store, runs_folder, job_id) as results:
            state, message = _outcome(
                lambda: work(
                    job_id,
                    store=results,
                    runs_folder=runs_folder,
                    stop=lambda: stop() or results.problem() is not None,
                ),
                asked=lambda: _was_asked(store, job_id, heartbeat),
                problem=results.problem,
            )
            log.info("%s", f"{state.capitalize()}. {message}".rstrip())
            results.job_state(job_id, state, message)
            _settle(results, state)
        return store.job(job_id).state
    finally:
        heartbeat.close()


def _was_asked(store: Store, job_id: str, heartbeat: Heartbeat) -> bool:
    """Return whether a user asked to stop; where the database does not answer, as far as the last heartbeat knows."""
    try:
        return store.stop_requested(job_id)
    except StoreError:
        return heartbeat.stop


def _patiently(write: Callable[[], Any]) -> None:
    """Do what only the database can answer, however long that takes: nothing is lost by waiting.

    Raises:
        StoreError: If the database is gone.
    """
    while True:
        try:
            write()
            return
        except DatabaseGoneError:
            raise
        except StoreError as error:
            print(f"waiting for the database: {error}", file=sys.stderr)
            time.sleep(TURN_SECONDS)


def _wait_for_turn(job_id: str, *, store: Store, runs_folder: Path, stop: Callable[[], bool]) -> ExitStack | None:
    """Return its devices, once the job is the oldest that waits and they are free, or None when it shall not begin.

    Raises:
        StoreError: If the database is gone.
        JobError: If the machine's devices cannot be locked.
    """
    devices: Devices | None = None
    while not stop():
        try:
            devices = devices or _wanted(store, job_id)
            if store.job(job_id).state != "queued":
                return None
            # A dead job in front would keep all others waiting, and nobody else may be looking.
            interrupt_dead_jobs(store, runs_folder)
            if store.first_queued_job() == job_id:
                held = _take_devices(devices)
                if held is not None:
                    if store.job_state(job_id, "starting", only_from=("queued",)):
                        return held
                    held.close()
        except DatabaseGoneError:
            raise
        except StoreError as error:
            print(f"waiting for the database: {error}", file=sys.stderr)
        time.sleep(TURN_SECONDS)
    return None


@dataclass(frozen=True)
class Devices:
    """What a job needs of the machine.

    Attributes:
        gpus: From which it takes some, by UUID; without any it takes the CPU.
        count: How many of them.
    """

    gpus: Sequence[str]
    count: int


def _wanted(store: Store, job_id: str) -> Devices:
    """Return on what the runs of a job will be trained, as far as that is known without PyTorch."""
    asked = [run.config["training"] for run in store.runs(1000, job_id=job_id)]
    gpus = visible_gpus() if any(training["device"] != "cpu" for training in asked) else []
    most = max((training["devices"] for training in asked), default=1)
    return Devices(gpus, min(most, len(gpus)))


def _take_devices(wanted: Devices) -> ExitStack | None:
    """Take the devices that a job needs, where they are free; PyTorch then sees no other GPUs than those."""
    if not wanted.gpus:
        taken = take_slots(device_slots(), [CPU], 1)
        return taken[1] if taken else None
    taken = take_slots(device_slots(), wanted.gpus, wanted.count)
    if taken is None:
        return None
    os.environ[VISIBLE] = ",".join(taken[0])
    return taken[1]


def _outcome(
    work: Callable[[], None], *, asked: Callable[[], bool], problem: Callable[[], Exception | None]
) -> tuple[State, str]:
    """Do the work and return how it ended, in a state and a sentence; what is not a sentence goes to the log."""
    try:
        work()
        ended: tuple[State, str] = ("finished", "")
    except Stopped:
        by_user = "Stopped on request. What was stored until then is kept."
        by_signal = "The machine told the worker to end (SIGTERM). What was stored until then is kept."
        ended = "stopped", by_user if asked() else by_signal
    except SomeRunsFailed as error:
        ended = "finished", str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the row has to say how the job ended
        traceback.print_exc()
        ended = "failed", sentence_of(error)
    # Where database or files went away under it, whatever else went wrong came of that.
    gone = problem()
    return ended if gone is None else ("failed", sentence_of(gone))


def _settle(results: JournaledStore, state: State) -> None:
    """Wait until the database has the job's ending; what it does not take in time waits in the journal."""
    if not results.flush(ENDING_SECONDS):
        print(
            f"The job is {state}, but the database does not take it. It waits in {results.journal}; whoever opens the "
            "studio or lists the runs when the database answers will find it there.",
            file=sys.stderr,
        )


def _job_work(job_id: str, *, store: Store, runs_folder: Path, stop: Callable[[], bool]) -> None:
    # Imported late: torch takes seconds, in which a job that waits for its turn should cost nothing.
    from core.job import run_job

    store.job_state(job_id, "running", only_from=("starting",))
    run_job(job_id, store=store, runs_folder=runs_folder, stop=stop)


def main(arguments: Sequence[str] | None = None, *, work: Work = _job_work) -> int:
    """Run the worker of a job; return 0 if it finished or was stopped, else 1."""
    parser = argparse.ArgumentParser(prog="python -m core.worker", description="Work on one job.")
    parser.add_argument("job_id")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--runs", required=True, type=Path)
    options = parser.parse_args(arguments)

    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    try:
        store = Store.open(options.database_url)
        with written(sys.stderr):
            state = run_worker(
                options.job_id, store=store, runs_folder=options.runs, work=work, told_to_stop=told.is_set
            )
    except ManifoldError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if state in ("finished", "stopped") else 1


if __name__ == "__main__":
    sys.exit(main())
