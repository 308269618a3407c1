"""Students of a job spread over devices, one process each.

Each device gets a process that trains one company after the other. The worker deals them out, adds up how far they
are, passes on a request to stop, and says what became of a process that died.
"""

import os
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait

import torch

from core.handover import Handover
from core.processes import LOOK_SECONDS, STOP_SECONDS, Company, Duty, Hand, Outcome, Place, make_room, threads_of_each
from core.progress import Progress
from core.store import Store


def spread(
    companies: Sequence[Company],
    devices: Sequence[torch.device],
    *,
    duty: Duty,
    handed: Handover,
    store: Store,
    progress: Progress,
) -> list[Outcome]:
    """Train companies on several devices at once, each in a process of its own.

    Args:
        companies: Dealt in this order, each to the process that is free first.
        devices: No more than companies; on a CPU each stands for a share of its threads.
        duty: What the processes are told.
        handed: What they share.
        store: The worker's own.
        progress: Of the whole job.

    Raises:
        Stopped: If the user asked to stop; every process has ended then.
    """
    make_room()
    progress.begin(f"Starting {len(devices)} processes")
    waiting, outcomes = deque(companies), list[Outcome]()
    threads = threads_of_each(len(devices))
    places = [Place(device, threads, os.getpid()) for device in devices]
    hands: list[Hand] = []
    try:
        # All of them start before the first is waited for.
        for place in places:
            hands.append(Hand(duty, place))
        for hand in hands:
            hand.give(waiting.popleft(), handed)
        while busy := [hand for hand in hands if hand.company is not None]:
            for pipe in wait([hand.pipe for hand in busy], timeout=LOOK_SECONDS):
                number = next(number for number, hand in enumerate(hands) if hand.pipe is pipe)
                hand = hands[number]
                before = hand.done
                outcome = hand.listen(store)
                progress.advance(hand.done - before)
                if outcome is not None:
                    outcomes.append(outcome)
                    if waiting and hand.dead:
                        hands[number] = Hand(duty, places[number])
                        hands[number].give(waiting.popleft(), handed)
                    else:
                        hand.give(waiting.popleft() if waiting else None)
                stages = [each.stage for each in hands if each.stage]
                if stages and progress.stage != (stage := "; ".join(stages)):
                    progress.begin(stage)
            progress.advance(0)
    finally:
        for hand in hands:
            hand.ask_to_end()
        until = time.monotonic() + STOP_SECONDS
        for hand in hands:
            hand.end(max(0.0, until - time.monotonic()))
    return outcomes
