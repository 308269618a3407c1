"""Several processes that train one student together: data parallel.

Each process reads its own part of every batch and goes backward from it. The gradients are then added up over all
processes, so that each of them takes the same step: that of the whole batch.

For the sum to be the gradient of the whole batch, each process divides the sum over its own points by the count of the
points of all. What is no mean over points, a loss of relations between them for example, is computed by each process on
the points of all, of which its own alone have a gradient. Losses know nothing of this: they return sums and counts, and
the states of all are handed to them (`WholeBatch`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from core.signals import States
from core.sums import Sum

PATIENCE_SECONDS = 30.0
"""When one process ends, the others' connections break at once, which torch.distributed tells as any RuntimeError. The
worker ends them in a moment; what they would say until then is not the cause."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Team:
    """The processes that train a student, as one of them sees them.

    Attributes:
        number: Which it is, from 0; the first does all that is not training.
        size: How many they are.
        add_up: Replaces a tensor by its sum over all processes, each of which calls it at the same place with a tensor
            of one shape and type; None for one that is alone.
    """

    number: int = 0
    size: int = 1
    add_up: Callable[[Tensor], object] | None = None

    def parts(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """Return the parts of something that has one item for each utterance of a batch, as even as can be, in order.

        Raises:
            ValueError: If there are fewer utterances than processes.
        """
        if len(items) < self.size:
            raise ValueError(f"a batch of {len(items)} has no {self.size} parts")
        ends = [len(items) * number // self.size for number in range(self.size + 1)]
        return [items[first:last] for first, last in pairwise(ends)]

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the part of this process."""
        return self.parts(items)[self.number]

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, without gradient; of one that is alone, the values as they are."""
        if self.add_up is None:
            return values
        total = values.detach().clone(memory_format=torch.contiguous_format)
        try:
            self.add_up(total)
        except RuntimeError:
            time.sleep(PATIENCE_SECONDS)
            raise
        return total

    def with_others(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, with the gradient of this one's own values."""
        return values if self.size == 1 else values + (self.summed(values) - values.detach())

    def rows(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes in order; this one's own are the only ones with a gradient.

        Args:
            own: The rows of this process.
            counts: Rows of each process.
        """
        before, after = sum(counts[: self.number]), sum(counts[: self.number + 1])
        everyone = own.new_zeros(sum(counts), *own.shape[1:])
        everyone[before:after] = own.detach()
        everyone = self.summed(everyone)
        return torch.cat([everyone[:before], own, everyone[after:]])

    def counts(self, own: Sequence[int], device: torch.device) -> Sequence[int]:
        """Return some counts, added up over all processes."""
        return own if self.size == 1 else self.summed(torch.tensor(own, device=device)).tolist()

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes, all in one message; none stays none where all have none.

        Args:
            parameters: The same in every process, of one type.
        """
        if self.size == 1:
            return
        own = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        there = torch.tensor([one.grad is not None for one in parameters], dtype=own[0].dtype)
        total = self.summed(torch.cat([*(each.flatten() for each in own), there.to(own[0].device)]))
        gradients = total[: -len(parameters)].split([one.numel() for one in parameters])
        found = total[-len(parameters) :].tolist()
        for one, gradient, count in zip(parameters, gradients, found, strict=True):
            one.grad = gradient.view_as(one) if count else None


ALONE = Team()
"""One process, which trains on whole batches."""


@dataclass(frozen=True)
class WholeBatch:
    """A batch of which each process of a team reads its part; what all of them know of it.

    Attributes:
        team: Who reads it.
        points: By side ("encoder", "decoder"), how many points each utterance has.
        weights: How much each teacher counts for each utterance, [utterances, teachers].
    """

    team: Team
    points: Mapping[str, Sequence[int]]
    weights: Tensor

    def gather(self, own: States, side: str, teacher: int | None) -> States:
        """Return the states of all processes in order; this one's own are the only ones with a gradient.

        Args:
            own: Those of this process.
            side: Of the states.
            teacher: Utterances for which this one does not count are left out; None leaves out none.
        """
        counted = [True] * len(self.points[side]) if teacher is None else (self.weights[:, teacher] > 0).tolist()
        parts = [
            list(compress(lengths, kept))
            for lengths, kept in zip(self.team.parts(self.points[side]), self.team.parts(counted), strict=True)
        ]
        points = self.team.rows(own.points, [sum(part) for part in parts])
        return States(points, [length for part in parts for length in part])

    def once(self, value: Sum) -> Sum:
        """Return this process's part of a sum that all have in common, with the gradient of its own points."""
        return value if self.team.number == 0 else Sum(value.total - value.total.detach(), 0)

    def mean(self, value: Sum) -> Tensor:
        """Return the mean over all processes, with the gradient of this one's own values."""
        own = torch.cat([value.total.flatten(), value.total.new_tensor([value.count])])
        total, count = self.team.with_others(own).split([value.total.numel(), 1])
        return total.view_as(value.total) / count

    def teacher_weight(self, teacher: int) -> float:
        """Return the mean weight of a teacher over the utterances."""
        return float(self.weights[:, teacher].mean())
