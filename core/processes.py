"""Processes in which the runs of a job are trained, as the worker sees them, and what goes on in them.

The worker listens, once, and hands over what all of them share (`core.handover`). A process reads that, trains what it
is given, and says how far it is. It dies with the worker, however that dies.
"""

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import distributed

from core.boot import uptime
from core.config import RunConfig
from core.errors import Stopped, StoreError, sentence_of
from core.handover import Handover, received
from core.progress import Progress, written
from core.recording import Recorder
from core.shared import Shared, models_of, recorder_for
from core.store import RunRecord, Store
from core.store.journal import replay
from core.store.journaled import JournaledStore
from core.teachers import Finder
from core.team import ALONE, Team

log = logging.getLogger(__name__)

PROCESSES = multiprocessing.get_context("spawn")
"""A process that has threads, or has used CUDA, cannot be forked."""

LOOK_SECONDS = 0.5
"""How often the worker looks whether it shall stop."""

STOP_SECONDS = 60.0
"""So long processes have to reach a step's end when they are asked to stop; less than the job itself has."""

FLUSH_SECONDS = 30.0
"""So long a process waits for the database to have what it measured, before it takes its next runs."""

DEATH_SIGNAL = 1
"""Linux: ``prctl(PR_SET_PDEATHSIG)``, the signal that a process gets when its parent dies, however it dies."""

LONGEST_PAUSE = timedelta(days=1)
"""For which a team waits for one of them. The first reads the development set meanwhile; whether all are alive is for
the worker to see."""

Company = Sequence[tuple[RunRecord, RunConfig]]
"""Runs that are trained side by side, or one alone, with the ranks that their budgets allow."""


@dataclass(frozen=True)
class Outcome:
    """What became of a company.

    Attributes:
        failures: A sentence for each run that failed.
        mapped: Ids of the runs that were measured and have encoder layers to draw.
    """

    failures: Sequence[str] = ()
    mapped: Sequence[str] = ()


class Train(Protocol):
    """Trains and measures a company; a function of a module, so that another process finds it."""

    def __call__(
        self, company: Company, *, shared: Shared, recorder: Recorder, progress: Progress, team: Team = ALONE
    ) -> Outcome:
        """Return what became of it; raises Stopped when it shall end."""
        ...


@dataclass(frozen=True)
class Duty:
    """What the processes of a group of runs are told.

    Attributes:
        configs: The runs of the group.
        job_id: Their job.
        group: Its number in the job.
        database_url: Where results go.
        runs_folder: Where files go.
        total: Cost of the whole job, in the units of its progress.
        train: What they do.
    """

    configs: Sequence[RunConfig]
    job_id: str
    group: int
    database_url: str
    runs_folder: Path
    total: float
    train: Train


@dataclass(frozen=True)
class Rank:
    """Which process of a team one is, and how they find each other.

    Attributes:
        number: Which it is, from 0.
        size: How many they are.
        port: Of this machine, where they find each other.
        backend: Of torch.distributed.
    """

    number: int
    size: int
    port: int
    backend: str


@dataclass(frozen=True)
class Place:
    """Where a process works: its device, how many threads it may have, whose child it is, and its rank in a team."""

    device: torch.device
    threads: int
    parent: int
    rank: Rank | None = None


@dataclass(frozen=True)
class Word:
    """What a process says: its stage, the cost that is done, what became of its company, or why it must end."""

    stage: str
    done: float
    outcome: Outcome | None = None
    last: str = ""


def make_room() -> None:
    """Let go of what the worker itself held on its device, which one of the processes needs now."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def threads_of_each(processes: int) -> int:
    """Return how many threads each of some processes may have."""
    return max(1, torch.get_num_threads() // processes)


def at_work(company: Company, *, job_id: str, store: Store, progress: Progress) -> AbstractContextManager[None]:
    """Let the database know when the runs of a company get on with their work, as long as this is entered."""
    ids = [run.id for run, _ in company]
    return progress.while_advancing(lambda: store.advanced(job_id, ids, uptime()))


class Hand:
    """A process, as the worker sees it.

    Attributes:
        pipe: To and from it.
        ended: What can be waited for, beside the pipe: it has ended.
        company: What it trains; None when there is no more for it to do.
        stage: What it does now, in words.
        done: Cost of what it has done.
        dead: Whether it ended before it was asked to.
    """

    def __init__(self, duty: Duty, place: Place) -> None:
        """Start it."""
        self._duty = duty
        self.pipe, theirs = PROCESSES.Pipe()
        self._process = PROCESSES.Process(target=_serve, args=(duty, place, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.ended = self._process.sentinel
        self.company: Company | None = None
        self.stage, self.done, self.dead = "", 0.0, False
        self._name = f"One of the {place.rank.size} processes" if place.rank else "The process"
        self._last = ""

    def give(self, company: Company | None, handed: Handover | None = None) -> None:
        """Hand over the next company, or say that there is none; the first time, with what all share."""
        self.company = company
        self.stage = self.stage if company else ""
        # Of one that is dead the next look at the pipe will tell.
        with suppress(OSError):
            if handed is not None:
                self.pipe.send(handed)
            self.pipe.send(company)

    def listen(self, store: Store) -> Outcome | None:
        """Hear what it says; return what became of its company, once something did."""
        try:
            word: Word = self.pipe.recv()
        except (EOFError, OSError):
            return self._buried(store)
        self.stage, self.done = word.stage or self.stage, word.done
        self._last = word.last
        return word.outcome

    def ask_to_end(self) -> None:
        """Tell it to stop at the next boundary, and that there is nothing more to do."""
        self.give(None)
        self._process.terminate()

    def kill(self) -> None:
        """Let it end at once."""
        self._process.kill()

    def end(self, seconds: float = STOP_SECONDS) -> None:
        """Wait until it has ended; one that has not after so long is killed, as one is that is suspended or hangs."""
        self._process.join(seconds)
        if self._process.is_alive():
            log.warning("A process (%s) did not end within %.0f s and was killed", self._process.pid, seconds)
            self._process.kill()
            self._process.join()
        self.pipe.close()

    def _buried(self, store: Store) -> Outcome:
        """Fail the runs that it took with it."""
        self.end()
        self.dead = True
        code = self._process.exitcode or 0
        how = f"was killed (signal {-code}), by hand or for want of memory" if code < 0 else f"ended (status {code})"
        sentence = self._last or f"{self._name} that trained it {how}. The log has what it said; start the run again."
        # What it had stored is told first: a run of its company may have finished.
        store.flush(FLUSH_SECONDS)
        with suppress(StoreError):
            replay(store, self._duty.runs_folder, job_id=self._duty.job_id)
        lost = [run for run, _ in self.company or () if store.run(run.id).active]
        for run in lost:
            store.run_state(run.id, "failed", sentence)
        return Outcome([f"{run.name}: {sentence}" for run in lost])


@contextmanager
def joined(rank: Rank | None) -> Iterator[Team]:
    """Enter a team; it is left with the process."""
    if rank is None:
        yield ALONE
        return
    # All of them are on this machine, and nobody outside it shall be able to speak to them.
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage] - its documented name
        "127.0.0.1", rank.port, is_master=False, timeout=LONGEST_PAUSE
    )
    distributed.init_process_group(
        rank.backend, store=store, rank=rank.number, world_size=rank.size, timeout=LONGEST_PAUSE
    )
    yield Team(rank.number, rank.size, distributed.all_reduce)


def _serve(duty: Duty, place: Place, pipe: Connection) -> None:
    """Be a process: read what is shared, and train companies until there are no more."""
    _die_with(place.parent)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    torch.set_num_threads(place.threads)
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)
    progress = Progress(
        total=duty.total, report=lambda stage, *_: pipe.send(Word(stage, progress.done)), stop=told.is_set
    )
    try:
        with written(sys.stderr):
            _work(duty, place, pipe, progress)
    except Stopped:
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the runs have to say how they ended
        traceback.print_exc()
        pipe.send(Word("", progress.done, last=sentence_of(error)))
        sys.exit(1)


def _work(duty: Duty, place: Place, pipe: Connection, progress: Progress) -> None:
    """Read what is shared, and train what is dealt out, until nothing is."""
    with JournaledStore(Store.open(duty.database_url), duty.runs_folder, duty.job_id) as store:
        _train_companies(store, duty, place, pipe, progress)


def _train_companies(store: Store, duty: Duty, place: Place, pipe: Connection, progress: Progress) -> None:
    recorder = recorder_for(
        duty.configs,
        job_id=duty.job_id,
        group=duty.group,
        store=store,
        runs_folder=duty.runs_folder,
        progress=progress,
    )
    handed = pipe.recv()
    finder = Finder(store, duty.runs_folder, duty.job_id)
    teachers, student = models_of(duty.configs, finder, place.device)
    shared = received(handed, teachers=teachers, student=student)
    with joined(place.rank) as team:
        while (company := pipe.recv()) is not None:
            with at_work(company, job_id=duty.job_id, store=store, progress=progress):
                outcome = duty.train(company, shared=shared, recorder=recorder, progress=progress, team=team)
            store.flush(FLUSH_SECONDS)
            pipe.send(Word(progress.stage, progress.done, outcome))


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent dies, however it dies; it may be gone already."""
    library: Any = ctypes.CDLL(None)
    library.prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
