"""Geometry of the aligned space: the unit sphere with its distances and paths, and sets of paired points.

Always in float32, whatever the models run in.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from core.errors import ShapeError

SMALLEST_NORM = 1e-8
"""Rows shorter than this are treated as this long, so that a zero state has no direction but a finite gradient."""

SMALLEST_SINE = 1e-3
"""Nearer than this to opposite (radians), two points no longer single out one shortest way between them: vectors along
it fade to zero, instead of gradients that grow without bound."""


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
    apart = row_length(student - teacher)
    together = row_length(student + teacher)
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


def log_map(start: Float[Tensor, "points width"], end: Float[Tensor, "points width"]) -> Float[Tensor, "points width"]:
    """Return the tangent vectors at `start` that lead to `end` along the sphere; their lengths are the angles.

    Opposite points have no shortest way of their own: within `SMALLEST_SINE` of them the vector fades to zero.

    Args:
        start: Unit rows.
        end: Unit rows, as many.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    angle = geodesic_angle(start, end)[:, None]
    # The part along `start` is taken from the difference, which is small where the points are near, not from `end`.
    towards = end - start
    towards = towards - (towards * start).sum(dim=-1, keepdim=True) * start
    sine = row_length(towards)[:, None]
    stretch = torch.where(angle < 0.01, 1 + angle.square() / 6, angle / sine.clamp_min(SMALLEST_SINE))
    return stretch * towards


def parallel_transport(
    tangent: Float[Tensor, "points width"],
    *,
    start: Float[Tensor, "points width"],
    end: Float[Tensor, "points width"],
) -> Float[Tensor, "points width"]:
    """Return tangent vectors at `start` carried along the shortest way to `end`: as long, and tangent there.

    On the sphere that is the reflection across the hyperplane at right angles to the way's middle. Between opposite
    points a vector stays as it is.

    Args:
        tangent: Rows at right angles to those of `start`.
        start: Unit rows.
        end: Unit rows.
    """
    middle = start + end
    middle = middle / row_length(middle)[:, None].clamp_min(SMALLEST_SINE)
    return tangent - 2 * (tangent * middle).sum(dim=-1, keepdim=True) * middle


def gram_distance_squared(
    student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]
) -> Float[Tensor, ""]:
    """Return |H H^T - G G^T|_F^2, how far apart the inner products of all pairs of points are.

    With sum A = H + G and difference B = H - G it is (<A^T A, B^T B> + tr(B^T A B^T A)) / 2: memory grows with the
    width, not with the points, and near equality nothing large cancels.

    Args:
        student: States in float32.
        teacher: States of the same points.
    """
    total, apart = student + teacher, student - teacher
    crossed = wide_product(apart.T, total)
    squared = (wide_product(total.T, total) * wide_product(apart.T, apart)).sum() + (crossed * crossed.T).sum()
    return squared.clamp_min(0) / 2


def paired(
    student: Float[Tensor, "points width"], teacher: Float[Tensor, "points width"]
) -> tuple[Float[Tensor, "points width"], Float[Tensor, "points width"]]:
    """Return both sides in float32, the teacher without gradient.

    Raises:
        ShapeError: If the two sides do not pair up.
    """
    require_pairs(student, teacher)
    return student.float(), teacher.detach().float()


def centred(states: Float[Tensor, "points width"]) -> Float[Tensor, "points width"]:
    """Return the states less their mean."""
    return states - states.mean(dim=0)


def thinned(states: Float[Tensor, "points width"], most: int) -> Float[Tensor, "some width"]:
    """Return at most so many points, evenly taken in their order; the same ones whenever there are as many."""
    points = states.shape[0]
    if points <= most:
        return states
    return states[torch.arange(most, device=states.device) * points // most]


def utterances(states: Float[Tensor, "points width"], lengths: list[int]) -> tuple[Float[Tensor, "time width"], ...]:
    """Return the states of each utterance.

    Args:
        states: Utterance by utterance.
        lengths: Points of each.

    Raises:
        ShapeError: If the lengths do not add up to the points.
    """
    require_lengths(states, lengths)
    return torch.split(states, lengths)
