"""Teams for tests: threads that add up at a barrier, or real processes that are joined as a job's are."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from core.errors import ManifoldError
from core.lora import adapter_parameters
from core.parts import meeting_point
from core.processes import PROCESSES, Rank, joined
from core.sources import Utterance
from core.team import ALONE, Team
from core.training import train
from tests.test_training import Notes, Setting, setting

Found = TypeVar("Found")


class AnotherLeft(Exception):
    """Another member of the team went wrong."""


def together(size: int, work: Callable[[Team], Found]) -> list[Found]:
    """Return what each member of a team finds, here threads of this process."""
    barrier = threading.Barrier(size)
    said: list[Tensor] = [torch.empty(0)] * size

    def member(number: int) -> Found:
        def add_up(values: Tensor) -> None:
            said[number] = values.clone()
            try:
                barrier.wait()
                total = torch.stack(said).sum(dim=0)
                barrier.wait()
            except threading.BrokenBarrierError:
                raise AnotherLeft from None
            values.copy_(total)

        try:
            return work(Team(number, size, add_up))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        found = [pool.submit(member, number) for number in range(size)]
    # Whoever went wrong first breaks the barrier for the others, and is the one to be told of.
    for each in sorted(found, key=lambda future: isinstance(future.exception(), AnotherLeft)):
        if each.exception() is not None:
            each.result()
    return [each.result() for each in found]


def learnt(chosen: Setting, team: Team = ALONE) -> dict[str, Any]:
    """Train, and return adapters and projections, what changed in them, the metrics of each step, and why it ended."""
    notes, ended = Notes(), ""
    trained = {**adapter_parameters(chosen.student.model), **dict(chosen.point_map.named_parameters())}
    begun = {name: value.detach().clone() for name, value in trained.items()}
    try:
        train(
            chosen.config,
            student=chosen.student,
            point_map=chosen.point_map,
            lesson=chosen.lesson,
            watcher=notes,
            team=team,
        )
    except ManifoldError as error:
        ended = str(error)
    weights = {name: value.detach() for name, value in trained.items()}
    changed = {name: value - begun[name] for name, value in weights.items()}
    return {"weights": weights, "changed": changed, "metrics": notes.values, "ended": ended}


def in_processes(size: int, clips: Sequence[Utterance], folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """Return what is `learnt` by each of some processes that share the CPU."""
    with meeting_point() as port:
        ranks = [Rank(number, size, port, "gloo") for number in range(size)]
        processes = [PROCESSES.Process(target=_be_one, args=(rank, clips, changes, folder)) for rank in ranks]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    return [torch.load(folder / f"{number}.pt") for number in range(size)]


def _be_one(rank: Rank, clips: Sequence[Utterance], changes: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(1)
    with joined(rank) as team:
        torch.save(learnt(setting(clips, **changes), team), folder / f"{rank.number}.pt")


def apart(mine: dict[str, Any], theirs: dict[str, Any], what: str = "changed") -> float:
    """Return how far what two have learnt is apart, relative to its length."""
    a, b = mine[what], theirs[what]
    assert a.keys() == b.keys()
    a, b = (torch.cat([each[name].double().flatten() for name in a]) for each in (a, b))
    return float((a - b).norm() / b.norm())
