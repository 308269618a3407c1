"""Losses: one file each, pure functions of tensors; a method is a weighted list of them.

To add one: its settings go to ``core.config.losses``, its formula to a file here, and one line to `POINT_LOSSES` (it
compares states) or to `term` (it reads logits).
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from core.config import AlignmentSettings, Cosine, CrossEntropy, Geodesic, LossSettings, Method, SoftLabels
from core.losses.cosine import cosine_loss
from core.losses.cross_entropy import cross_entropy_loss
from core.losses.geodesic import geodesic_loss
from core.losses.soft_labels import soft_labels_loss
from core.mapping import LayerPair, PointMap
from core.signals import Signals

POINT_LOSSES: dict[type[AlignmentSettings], Callable[[Tensor, Tensor], Tensor]] = {
    Cosine: cosine_loss,
    Geodesic: geodesic_loss,
}


def terms(
    method: Method,
    *,
    student: Signals,
    teacher: Signals,
    point_map: PointMap,
    pairs: tuple[LayerPair, ...],
    means: dict[tuple[str, int], Tensor],
) -> dict[str, Float[Tensor, ""]]:
    """Return each term of the method by its kind, without its weight.

    Args:
        method: Which terms.
        student: The student's signals, with gradient.
        teacher: The teacher's signals of the same points.
        point_map: Takes states into the aligned space.
        pairs: Which layers meet.
        means: The teacher's mean state by (side, layer).
    """
    return {
        loss.kind: _term(loss, student=student, teacher=teacher, point_map=point_map, pairs=pairs, means=means)
        for loss in method.losses
    }


def _term(
    loss: LossSettings,
    *,
    student: Signals,
    teacher: Signals,
    point_map: PointMap,
    pairs: tuple[LayerPair, ...],
    means: dict[tuple[str, int], Tensor],
) -> Tensor:
    match loss:
        case CrossEntropy():
            assert student.targets is not None
            return cross_entropy_loss(student.logits, student.targets)
        case SoftLabels():
            return soft_labels_loss(student.logits, teacher.logits, temperature=loss.temperature)
        case AlignmentSettings():
            return _alignment(loss, student=student, teacher=teacher, point_map=point_map, pairs=pairs, means=means)
        case _:
            raise TypeError(f"{type(loss).__name__} has settings but no formula: name it in core.losses")


def _alignment(
    loss: AlignmentSettings,
    *,
    student: Signals,
    teacher: Signals,
    point_map: PointMap,
    pairs: tuple[LayerPair, ...],
    means: dict[tuple[str, int], Tensor],
) -> Tensor:
    """Return the mean over the layer pairs of each side, summed over the sides that the term aligns."""
    total: Tensor | None = None
    for side in ("encoder", "decoder"):
        chosen = [pair for pair in pairs if pair.side == side] if getattr(loss, side) else []
        for pair in chosen:
            mapped = point_map(
                student=getattr(student, side)[pair.student],
                teacher=getattr(teacher, side)[pair.teacher],
                mean=means[side, pair.teacher],
            )
            value = POINT_LOSSES[type(loss)](*mapped) / len(chosen)
            total = value if total is None else total + value
    if total is None:
        raise ValueError("no layer pair is left to align; check_gradient_paths refuses this before training")
    return total
