"""Losses: one file each, pure functions of tensors; a method is a weighted list of them.

To add one: its settings go to ``core.config.losses``, its formula to a file here, and one case to `Objective._token`
(it reads logits) or `compare` (it reads states).
"""

from collections.abc import Sequence
from itertools import compress

import torch
from jaxtyping import Float
from torch import Tensor

from core.config import (
    AlignmentSettings,
    AttentionTransfer,
    Cka,
    Cosine,
    CrossEntropy,
    Curve,
    Dkd,
    FisherRao,
    Geodesic,
    Gram,
    Hint,
    InfoNce,
    LossSettings,
    Method,
    Mse,
    Procrustes,
    ProjectionOnly,
    Rkd,
    SimilarityPreserving,
    SoftLabels,
    SphericalLogits,
    StandardisedLogits,
    Taid,
    TokenLossSettings,
)
from core.ensemble import Teaching
from core.fused_head import HeadTerms, LiveTeacher, TopTeacher, Wanted, head_terms
from core.losses.attention_transfer import attention_transfer_loss
from core.losses.cka import cka_loss
from core.losses.cosine import cosine_loss
from core.losses.cross_entropy import cross_entropy_loss
from core.losses.curve import curve_loss
from core.losses.dkd import dkd_loss
from core.losses.fisher_rao import fisher_rao_loss
from core.losses.geodesic import geodesic_loss
from core.losses.gram import gram_loss
from core.losses.hint import hint_loss
from core.losses.infonce import infonce_loss
from core.losses.mse import mse_loss
from core.losses.procrustes import procrustes_loss
from core.losses.projection_only import projection_only_loss
from core.losses.rkd import rkd_loss
from core.losses.similarity_preserving import similarity_preserving_loss
from core.losses.soft_labels import soft_labels_loss
from core.losses.spherical_logits import mean_length, spherical_logits_loss
from core.losses.standardised_logits import standardised_logits_loss
from core.losses.taid import TaidPace, taid_loss
from core.mapping import LayerPair, PointMap, PointMaps
from core.signals import Signals
from core.team import ALONE, Team, WholeBatch

BALANCE = "balance"
"""What the load of a mixture's experts is called among the terms; it belongs to the adapters, not to the method."""


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
        """
        self.method = method
        self.balance = balance
        self._point_map, self._pairs = point_map, pairs
        self._paces = {loss.kind: TaidPace(loss) for loss in method.losses if isinstance(loss, Taid)}

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
        batch: WholeBatch | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Return each term of the method that counts now by its kind, without its weight.

        Args:
            student: The student's signals, with gradient.
            teacher: What the teachers say about the same points.
            progress: Share of the steps, above 0 in the first and 1 in the last.
            from_head: What was `wanted_of_head`, if it is already there.
            batch: Of which the signals are a team's part: terms are then addends of those of the whole batch, and so
                are their gradients. None where they are the whole of it.
        """
        batch = batch or WholeBatch(
            ALONE, {side: student.lengths(side) for side in ("encoder", "decoder")}, teacher.weights
        )
        active = self.weights(progress)
        wanted = self.wanted_of_head(student=student, teacher=teacher, progress=progress)
        if wanted is not None and from_head is None:
            (from_head,) = terms_of_head([student], teacher, [wanted])
        return {
            loss.kind: self._alignment(loss, student=student, teacher=teacher, batch=batch)
            if isinstance(loss, AlignmentSettings)
            else self._token(loss, student=student, teacher=teacher, from_head=from_head, batch=batch)
            for loss in self.method.losses
            if loss.kind in active
        }

    def wanted_of_head(self, *, student: Signals, teacher: Teaching, progress: float) -> Wanted | None:
        """Return what the fused head is to make now; None where some term needs the logits themselves."""
        active = self.weights(progress)
        losses = [loss for loss in self.method.losses if loss.kind in active and isinstance(loss, TokenLossSettings)]
        kinds = {type(loss) for loss in losses}
        fused = student.vocabulary is not None and not student.vocabulary.requires_grad
        if SoftLabels in kinds:
            there = teacher.top is not None or teacher.speakers[0].vocabulary is not None
            fused = fused and len(teacher.speakers) == 1 and there
        if not losses or not fused or not kinds <= {CrossEntropy, SoftLabels}:
            return None
        temperature = next((loss.temperature for loss in losses if isinstance(loss, SoftLabels)), 1.0)
        return Wanted(active.get("cross_entropy", 0.0), active.get("soft_labels", 0.0), temperature)

    def total(self, terms: dict[str, Tensor], progress: float) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms."""
        return torch.stack([weight * terms[kind] for kind, weight in self.weights(progress).items()]).sum()

    def heard(self, values: dict[str, float], progress: float) -> None:
        """Let terms that depend on their last value know it.

        Args:
            values: Of the terms of a step, over the whole batch.
            progress: Share of the steps that this one completes.
        """
        for kind, pace in self._paces.items():
            if kind in values:
                pace.advance(values[kind], progress)

    def _token(
        self, loss: LossSettings, *, student: Signals, teacher: Teaching, from_head: HeadTerms | None, batch: WholeBatch
    ) -> Tensor:
        """Return the mean over the tokens of the batch; of a part of it, what that adds."""
        value = self._mean_over_tokens(loss, student=student, teacher=teacher, from_head=from_head, batch=batch)
        return value if batch.team.size == 1 else batch.share("decoder") * value

    def _mean_over_tokens(
        self, loss: LossSettings, *, student: Signals, teacher: Teaching, from_head: HeadTerms | None, batch: WholeBatch
    ) -> Tensor:
        match loss:
            case CrossEntropy() if from_head is not None:
                return from_head.cross_entropy
            case SoftLabels() if from_head is not None:
                return from_head.soft_labels
            case CrossEntropy():
                return cross_entropy_loss(student.logits, _targets(student))
            case SoftLabels():
                theirs = teacher.logits_at(loss.temperature)
                return soft_labels_loss(student.logits, theirs, temperature=loss.temperature)
            case Dkd():
                return dkd_loss(
                    student.logits,
                    teacher.logits_at(loss.temperature),
                    _targets(student),
                    target_weight=loss.target_weight,
                    other_weight=loss.other_weight,
                    temperature=loss.temperature,
                )
            case StandardisedLogits():
                return standardised_logits_loss(student.logits, teacher.logits, temperature=loss.temperature)
            case SphericalLogits():
                radius = mean_length(teacher.logits)
                if batch.team.size > 1:
                    radius = batch.team.summed(batch.share("decoder") * radius)
                return spherical_logits_loss(
                    student.logits,
                    teacher.logits,
                    temperature=loss.temperature,
                    radius=radius,
                    targets=_targets(student) if loss.cross_entropy else None,
                    cross_entropy=loss.cross_entropy,
                )
            case Taid():
                return taid_loss(student.logits, teacher.logits, share=self._paces[loss.kind].share)
            case FisherRao():
                theirs = teacher.logits_at(loss.temperature)
                return fisher_rao_loss(student.logits, theirs, temperature=loss.temperature)
            case _:
                raise TypeError(f"{type(loss).__name__} has settings but no formula: name it in core.losses")

    def _alignment(self, loss: AlignmentSettings, *, student: Signals, teacher: Teaching, batch: WholeBatch) -> Tensor:
        """Return the mean over each side's layer pairs, summed over the sides that the term aligns.

        Of several teachers each counts as much as for the utterances of the batch; those for which it does not count
        are left out.
        """
        total: Tensor | None = None
        for side in ("encoder", "decoder"):
            chosen = [pair for pair in self._pairs if pair.side == side] if getattr(loss, side) else []
            for pair in chosen:
                weights = teacher.target_weights(pair.of, batch.weights)
                if not bool(weights.any()):
                    continue
                mine, theirs = (
                    getattr(student, side)[pair.student],
                    getattr(teacher.targets[pair.of], side)[pair.teacher],
                )
                parts = batch.team.parts(batch.points[side])
                if not bool(weights.all()):
                    counts = batch.team.parts((weights > 0).tolist())
                    own = torch.tensor(counts[batch.team.number])
                    heard = own.repeat_interleave(torch.tensor(parts[batch.team.number])).to(mine.device)
                    mine, theirs = mine[heard], theirs[heard]
                    parts = [list(compress(*part)) for part in zip(parts, counts, strict=True)]
                if not loss.reaches_student:
                    mine = mine.detach()
                mine, theirs = self._point_map(pair, student=mine, teacher=theirs)
                value = compare_parts(loss, mine, theirs, parts, batch.team)
                value = value / sum(each.of == pair.of for each in chosen)
                if len(teacher.targets) > 1:
                    value = value * float(weights.mean())
                total = value if total is None else total + value
        if total is None:
            raise ValueError("no layer pair is left to align: core.preflight refuses this before a run starts")
        return total


def terms_of_head(students: Sequence[Signals], teacher: Teaching, wanted: Sequence[Wanted]) -> list[HeadTerms]:
    """Return the fused terms of students over the same tokens, one student or several side by side.

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
            targets=_targets(first) if any(one.cross_entropy for one in asked) else None,
            teacher=_head_teacher(teacher, temperature) if any(one.soft_labels for one in asked) else None,
        )
        made |= dict(zip(chosen, terms, strict=True))
    return [made[number] for number in range(len(wanted))]


def compare_parts(
    loss: AlignmentSettings,
    student: Float[Tensor, "points width"],
    teacher: Float[Tensor, "points width"],
    parts: Sequence[Sequence[int]],
    team: Team,
) -> Float[Tensor, ""]:
    """Return what the part of a process adds to how far the states of one layer pair are apart in the whole batch.

    Args:
        loss: By which measure.
        student: In the aligned space.
        teacher: The same points.
        parts: Points of each utterance, in order, of the part of each process.
        team: The processes.
    """
    own = parts[team.number]
    if team.size == 1:
        return compare(loss, student, teacher, own)
    if loss.mean_over == "batch":
        counts = [sum(part) for part in parts]
        student, teacher = team.rows(student, counts), team.rows(teacher, counts)
        return team.counted_once(compare(loss, student, teacher, [length for part in parts for length in part]))
    if not own:
        # None of its utterances counts. A mean of nothing would be NaN, and what follows has to be the same everywhere.
        return 0 * student.sum()
    count = sum if loss.mean_over == "points" else len
    return count(own) / sum(map(count, parts)) * compare(loss, student, teacher, own)


def compare(
    loss: AlignmentSettings,
    student: Float[Tensor, "points width"],
    teacher: Float[Tensor, "points width"],
    lengths: Sequence[int],
) -> Float[Tensor, ""]:
    """Return how far the states of one layer pair are apart.

    Args:
        loss: By which measure.
        student: In the aligned space.
        teacher: The same points.
        lengths: Points of each utterance, in order; only the losses that follow time read them.
    """
    match loss:
        case Geodesic():
            return geodesic_loss(student, teacher)
        case Cosine():
            return cosine_loss(student, teacher)
        case Mse():
            return mse_loss(student, teacher)
        case Hint():
            return hint_loss(student, teacher)
        case Curve():
            return curve_loss(student, teacher, lengths, velocity=loss.velocity, curvature=loss.curvature)
        case AttentionTransfer():
            return attention_transfer_loss(student, teacher, lengths)
        case InfoNce():
            return infonce_loss(student, teacher, temperature=loss.temperature, points=loss.points)
        case Rkd():
            return rkd_loss(student, teacher, distance=loss.distance, angle=loss.angle, points=loss.points)
        case SimilarityPreserving():
            return similarity_preserving_loss(student, teacher, points=loss.points)
        case Cka():
            return cka_loss(student, teacher)
        case Procrustes():
            return procrustes_loss(student, teacher)
        case Gram():
            return gram_loss(student, teacher)
        case ProjectionOnly():
            return projection_only_loss(student, teacher)
        case _:
            raise TypeError(f"{type(loss).__name__} has settings but no formula: name it in core.losses")


def _head_teacher(teaching: Teaching, temperature: float | None) -> LiveTeacher | TopTeacher:
    if teaching.top is not None and temperature is not None:
        return teaching.top(temperature)
    (teacher,) = teaching.speakers
    assert teacher.vocabulary is not None
    return LiveTeacher(teacher.last_states, teacher.vocabulary)


def _targets(student: Signals) -> Tensor:
    if student.targets is None:
        raise ValueError("these signals were made without a transcript")
    return student.targets
