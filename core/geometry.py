"""Geometry of the aligned space: the unit sphere and its distances. Always in float32, whatever the models run in."""

import torch
from jaxtyping import Float
from torch import Tensor

from core.errors import ShapeError

SMALLEST_NORM = 1e-8
"""Rows shorter than this are treated as this long, so that a zero state has no direction but a finite gradient."""


def on_sphere(states: Float[Tensor, "points width"]) -> Float[Tensor, "points width"]:
    """Return each row scaled to length one, in float32."""
    states = states.float()
    return states / states.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_NORM)


def geodesic_angle(
    student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]
) -> Float[Tensor, " points"]:
    """Return the angle in radians, 0 to pi, between paired points of the unit sphere.

    The angle is 2 atan2(|u - v|, |u + v|) (Kahan 2006, "How futile are mindless assessments of roundoff"): accurate
    near 0 and pi, where arccos loses digits and its gradient grows without bound.

    Args:
        student: Unit rows.
        teacher: Unit rows of the same points.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    require_pairs(student, teacher)
    apart = _length(student - teacher)
    together = _length(student + teacher)
    return 2 * torch.atan2(apart, together)


def chord_distance(
    student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]
) -> Float[Tensor, " points"]:
    """Return one minus the cosine, 0 to 2, between paired points of the unit sphere: half the squared chord.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    require_pairs(student, teacher)
    return (student - teacher).square().sum(dim=-1) / 2


def require_pairs(student: Tensor, teacher: Tensor) -> None:
    """Raise ShapeError unless both sides have the same shape and at least one point."""
    if student.shape != teacher.shape or student.ndim != 2:
        raise ShapeError(
            f"Student states {tuple(student.shape)} and teacher states {tuple(teacher.shape)} do not pair up: "
            "both must be [points, width]. With unequal widths use a projection."
        )
    if student.shape[0] == 0:
        raise ShapeError("There are no points to compare: every frame or token is padding.")


def _length(rows: Tensor) -> Tensor:
    """Return the norm of each row with a gradient of zero, not NaN, at zero."""
    squared = rows.square().sum(dim=-1)
    return torch.where(squared > 0, squared.clamp_min(1e-30).sqrt(), squared)
