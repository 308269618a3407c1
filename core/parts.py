"""One run trained on several devices at once, a process on each: each takes its part of every batch (`core.team`).

The first process does all that is not training; the others train along. They are joined by torch.distributed, but
started here and not by torchrun: its agent would be a second supervisor, in a session of its own, between the worker
and those that must die with it.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait

import torch
from torch import distributed

from core.errors import Stopped
from core.handover import Handover
from core.processes import (
    LOOK_SECONDS,
    STOP_SECONDS,
    Company,
    Duty,
    Hand,
    Outcome,
    Place,
    Rank,
    make_room,
    threads_of_each,
)
from core.progress import Progress
from core.store import Store


def train_in_parts(
    companies: Sequence[Company],
    devices: Sequence[torch.device],
    *,
    duty: Duty,
    handed: Handover,
    store: Store,
    progress: Progress,
) -> list[Outcome]:
    """Train a run on several devices at once.

    When one of the processes dies, the run has failed, and the others end at once.

    Args:
        companies: A single one, of a single run.
        devices: One for each process, no more than utterances in a batch; on a CPU each stands for a share of its
            threads.
        duty: What the processes are told.
        handed: What they share.
        store: The worker's own.
        progress: Of the whole job.

    Raises:
        Stopped: If the user asked to stop; every process has ended then.
    """
    (company,) = companies
    make_room()
    progress.begin(f"Starting {len(devices)} processes")
    threads = threads_of_each(len(devices))
    with meeting_point() as port:
        ranks = [Rank(number, len(devices), port, backend_of(devices)) for number in range(len(devices))]
        places = [Place(device, threads, os.getpid(), rank) for device, rank in zip(devices, ranks, strict=True)]
        hands: list[Hand] = []
        try:
            for place in places:
                hands.append(Hand(duty, place))
            for hand in hands:
                hand.give(company, handed)
            return [_watched(hands, store, progress)]
        finally:
            for hand in hands:
                hand.kill()
            for hand in hands:
                hand.end()


@contextmanager
def meeting_point() -> Iterator[int]:
    """Let the processes of a team find each other, at a port that is open to this machine alone."""
    listener = socket.create_server(("127.0.0.1", 0))
    _, port = listener.getsockname()
    store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage] - its documented name
        "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    yield port
    del store


def backend_of(devices: Sequence[torch.device]) -> str:
    """Return what processes speak to each other with: NCCL knows no two that share a GPU."""
    return "nccl" if {device.type for device in devices} == {"cuda"} and len(set(devices)) == len(devices) else "gloo"


def _watched(hands: Sequence[Hand], store: Store, progress: Progress) -> Outcome:
    """Listen to the processes until the first has done all, or one has failed; return what became of the run.

    Raises:
        Stopped: If the user asked to stop; the first has ended then, at a step's end.
    """
    first = hands[0]
    try:
        while True:
            for pipe in wait([hand.pipe for hand in hands if hand.company is not None], timeout=LOOK_SECONDS):
                hand = next(hand for hand in hands if hand.pipe is pipe)
                before = hand.done
                outcome = hand.listen(store)
                if hand is first:
                    progress.advance(first.done - before)
                    if first.stage and first.stage != progress.stage:
                        progress.begin(first.stage)
                if outcome is not None:
                    hand.company = None
                    # Where the first has failed the run itself, a death has no more to fail; the first will tell.
                    if hand is first or outcome.failures:
                        return outcome
            progress.advance(0)
    except Stopped:
        # It reaches its next boundary only with the others, so they end after it; one that hangs is killed with them.
        first.ask_to_end()
        wait([hand.ended for hand in hands], timeout=STOP_SECONDS)
        raise
