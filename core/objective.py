"""The terms of a run's objective: each loss of its method, over every layer pair or token that it compares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from core.config import LossSettings, Method
from core.ensemble import Teaching
from core.fused_head import HeadTerms, LiveTeacher, TopTeacher, Wanted, head_terms
from core.losses import FORMULAS, SCHEDULES
from core.mapping import LayerPair, PointMap, PointMaps
from core.signals import Signals, States
from core.sums import Part, Sum

BALANCE = "balance"
"""What the load of a mixture's experts is called among the terms; it belongs to the adapters, not to the method."""


class GlobalBatch(Protocol):
    """What a process is handed of the batch of which it computes a part."""

    def gather(self, own: States, side: str, teacher: int | None) -> States:
        """Return the states of all processes in order; this one's own are the only ones with a gradient.

        Args:
            own: This process's part.
            side: "encoder" or "decoder".
            teacher: Utterances for which this one does not count are left out; None leaves out none.
        """
        ...

    def once(self, value: Sum) -> Sum:
        """Return this process's part of a sum that all have in common, with the gradient of its own points."""
        ...

    def mean(self, value: Sum) -> Tensor:
        """Return the mean over all processes, with the gradient of this one's own values."""
        ...

    def teacher_weight(self, teacher: int) -> float:
        """Return the mean weight of a teacher over the utterances."""
        ...


@dataclass(frozen=True)
class SingleBatch:
    """A batch of which one process has all.

    Attributes:
        weights: How much each teacher counts for each utterance.
    """

    weights: Float[Tensor, "utterances teachers"]

    def gather(self, own: States, side: str, teacher: int | None) -> States:
        """Return the states as they are."""
        return own

    def once(self, value: Sum) -> Sum:
        """Return the sum as it is."""
        return value

    def mean(self, value: Sum) -> Tensor:
        """Return the mean."""
        return value.mean()

    def teacher_weight(self, teacher: int) -> float:
        """Return the mean weight of a teacher over the utterances."""
        return float(self.weights[:, teacher].mean())


class Objective:
    """A method's terms for one run, with what they remember from step to step."""

    def __init__(
        self, method: Method, *, point_map: PointMap | PointMaps, pairs: tuple[LayerPair, ...], balance: float = 0.0
    ) -> None:
        """Begin a run.

        Args:
            method: Which terms.
            point_map: Takes states into the aligned space.
            pairs: Which layers meet.
            balance: Weight of the load of a mixture's experts; it counts in every step, beside the method's terms.

        Raises:
            TypeError: If a loss has no formula.
        """
        missing = [type(loss).__name__ for loss in method.losses if type(loss) not in FORMULAS]
        if missing:
            raise TypeError(f"{', '.join(missing)} has settings but no formula: list it in core.config.losses")
        self.method = method
        self.balance = balance
        self._point_map, self._pairs = point_map, pairs
        self._schedules = {loss.kind: SCHEDULES[type(loss)](loss) for loss in method.losses if type(loss) in SCHEDULES}

    def weights(self, progress: float) -> dict[str, float]:
        """Return the weight by kind of each term that counts at a point of the run (share of the steps)."""
        weights = {loss.kind: loss.weight_at(progress) for loss in self.method.losses}
        weights[BALANCE] = self.balance
        return {kind: weight for kind, weight in weights.items() if weight > 0}

    def terms(
        self,
        *,
        student: Signals,
        teacher: Teaching,
        progress: float,
        from_head: HeadTerms | None = None,
        batch: GlobalBatch | None = None,
    ) -> dict[str, list[Part]]:
        """Return each term of the method that counts now by its kind, without its weight.

        Args:
            student: The student's signals, with gradient.
            teacher: What the teachers say about the same points.
            progress: Share of the steps, above 0 in the first and 1 in the last.
            from_head: What was asked for by `fused_request`, if it is already there.
            batch: Of which the signals are a part; None where they are all of it.
        """
        if batch is None:
            batch = SingleBatch(teacher.weights)
        else:
            teacher = replace(teacher, batch_mean=batch.mean)
        request = self.fused_request(student=student, teacher=teacher, progress=progress)
        if request is not None and from_head is None:
            (from_head,) = fused_losses([student], teacher, [request])
        fused = from_head._asdict() if from_head is not None else {}
        found: dict[str, list[Part]] = {}
        for loss in self._active(progress):
            if "states" in loss.reads:
                found[loss.kind] = self._aligned(loss, student=student, teacher=teacher, batch=batch)
            elif loss.fused in fused:
                found[loss.kind] = [Part(fused[loss.fused])]
            else:
                settings = self._schedules[loss.kind].settings if loss.kind in self._schedules else loss
                found[loss.kind] = [Part(FORMULAS[type(loss)](settings, student, teacher))]
        return found

    def fused_request(self, *, student: Signals, teacher: Teaching, progress: float) -> Wanted | None:
        """Return what the fused head is to make now; None where some term needs the logits themselves."""
        losses = [loss for loss in self._active(progress) if "states" not in loss.reads]
        by_name = {loss.fused: loss for loss in losses if loss.fused is not None}
        frozen = student.vocabulary is not None and not student.vocabulary.requires_grad
        if not losses or len(by_name) < len(losses) or not frozen:
            return None
        soft_labels = by_name.get("soft_labels")
        known = teacher.top is not None or teacher.speakers[0].vocabulary is not None
        if soft_labels is not None and not (len(teacher.speakers) == 1 and known):
            return None
        weights = {name: loss.weight_at(progress) for name, loss in by_name.items()}
        return Wanted(**weights, temperature=soft_labels.softening if soft_labels is not None else 1.0)

    def total(self, terms: dict[str, Tensor], progress: float) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms' means."""
        return torch.stack([weight * terms[kind] for kind, weight in self.weights(progress).items()]).sum()

    def update_schedules(self, values: dict[str, float], progress: float) -> None:
        """Let losses that change with their own value know it.

        Args:
            values: Of the terms of a step, over the whole batch.
            progress: Share of the steps that this one completes.
        """
        for kind, schedule in self._schedules.items():
            if kind in values:
                schedule.advance(values[kind], progress)

    def _active(self, progress: float) -> list[LossSettings]:
        return [loss for loss in self.method.losses if loss.weight_at(progress) > 0]

    def _aligned(self, loss: LossSettings, *, student: Signals, teacher: Teaching, batch: GlobalBatch) -> list[Part]:
        """Return a term's parts: the mean over each side's layer pairs, summed over the sides that it aligns.

        Of several teachers each counts as much as for the utterances of the batch; those for which it does not count
        are left out.
        """
        parts: list[Part] = []
        several = len(teacher.targets) > 1
        for side in ("encoder", "decoder"):
            chosen = [pair for pair in self._pairs if pair.side == side] if loss.aligns(side) else []
            for pair in chosen:
                weight = batch.teacher_weight(pair.of) if several else 1.0
                if weight == 0:
                    continue
                mine, theirs = self._states(loss, pair, student, teacher)
                parts.append(
                    Part(
                        _state_loss(loss, mine, theirs, pair, pair.of if several else None, batch),
                        sum(each.of == pair.of for each in chosen),
                        weight,
                    )
                )
        if not parts:
            raise ValueError("no layer pair is left to align: core.preflight refuses this before a run starts")
        return parts

    def _states(
        self, loss: LossSettings, pair: LayerPair, student: Signals, teacher: Teaching
    ) -> tuple[States, States]:
        """Return both sides of a layer pair in the common space, where the pair's teacher counts."""
        mine = getattr(student, pair.side)[pair.student]
        theirs = getattr(teacher.targets[pair.of], pair.side)[pair.teacher]
        lengths = student.lengths(pair.side)
        counts = teacher.weights[:, pair.of] > 0
        if len(teacher.targets) > 1 and not bool(counts.all()):
            kept = counts.repeat_interleave(torch.tensor(lengths)).to(mine.device)
            mine, theirs = mine[kept], theirs[kept]
            lengths = list(compress(lengths, counts.tolist()))
        if not loss.reaches_student:
            mine = mine.detach()
        mine, theirs = self._point_map(pair, student=mine, teacher=theirs)
        return States(mine, lengths), States(theirs, lengths)


def _state_loss(
    loss: LossSettings, student: States, teacher: States, pair: LayerPair, of: int | None, batch: GlobalBatch
) -> Sum:
    """Return a loss of one layer pair, of this process's points or, once, of those of all processes."""
    formula = FORMULAS[type(loss)]
    if loss.whole_batch:
        return batch.once(formula(loss, batch.gather(student, pair.side, of), batch.gather(teacher, pair.side, of)))
    if of is not None and not len(student.points):
        # The teacher counts for none of its utterances. What follows has to be the same in every process.
        return Sum(0 * student.points.sum(), 0)
    return formula(loss, student, teacher)


def fused_losses(students: Sequence[Signals], teacher: Teaching, wanted: Sequence[Wanted]) -> list[HeadTerms]:
    """Return the fused losses of students over the same tokens, one student or several side by side.

    Students share a pass; where the teacher's top tokens are all that is known, those of one temperature do.
    """
    first = students[0]
    assert first.vocabulary is not None
    made: dict[int, HeadTerms] = {}
    for temperature in dict.fromkeys(one.temperature if teacher.top else None for one in wanted):
        chosen = [number for number, one in enumerate(wanted) if temperature in (None, one.temperature)]
        asked = [wanted[number] for number in chosen]
        terms = head_terms(
            [students[number].last_states for number in chosen],
            first.vocabulary,
            wanted=asked,
            targets=first.labels if any(one.cross_entropy for one in asked) else None,
            teacher=_head_teacher(teacher, temperature) if any(one.soft_labels for one in asked) else None,
        )
        made |= dict(zip(chosen, terms, strict=True))
    return [made[number] for number in range(len(wanted))]


def _head_teacher(teaching: Teaching, temperature: float | None) -> LiveTeacher | TopTeacher:
    if teaching.top is not None and temperature is not None:
        return teaching.top(temperature)
    (teacher,) = teaching.speakers
    assert teacher.vocabulary is not None
    return LiveTeacher(teacher.last_states, teacher.vocabulary)
