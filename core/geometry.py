"""Geometry of the aligned space: the unit sphere with its distances and paths, and sets of paired points.

Always in float32, whatever the models run in.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from core.errors import ShapeError
from core.precision import in_own_precision

SMALLEST_NORM = 1e-8
"""Rows shorter than this are treated as this long, so that a zero state has no direction but a finite gradient."""

SMALLEST_SINE = 1e-3
"""Nearer than this to equal or opposite, two points do not single out one way between them: vectors along it fade to
zero, so that no gradient grows without bound."""


def on_sphere(states: Float[Tensor, "points width"]) -> Float[Tensor, "points width"]:
    """Return each row scaled to length one, in float32."""
    states = states.float()
    return states / states.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_NORM)


def spherical_mean(
    points: Float[Tensor, "sides points width"], weights: Sequence[float]
) -> Float[Tensor, "points width"]:
    """Return the mean direction of each point over several sides: their weighted resultant, scaled to length one.

    The mean direction of directional statistics (Mardia and Jupp 2000, section 9.2). Opposite points of equal weight
    have none; theirs is short and of no meaning.

    Args:
        points: Unit rows.
        weights: Of each side; they sum to one.
    """
    return on_sphere(torch.einsum("s,spw->pw", torch.tensor(weights, device=points.device), points.float()))


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
    towards = _towards(start, end)
    return torch.where(angle < 0.01, (1 + angle.square() / 6) * towards, angle * _of_length_one(towards))


def way(start: Float[Tensor, "points width"], end: Float[Tensor, "points width"]) -> Float[Tensor, "points width"]:
    """Return the tangent vectors of length one at `start` that point to `end` along the sphere.

    Where the points are within `SMALLEST_SINE` of equal or opposite there is no one way: the vector fades to zero.

    Args:
        start: Unit rows.
        end: Unit rows, as many.
    """
    return _of_length_one(_towards(start, end))


def _towards(start: Tensor, end: Tensor) -> Tensor:
    """Return tangent vectors as long as the sine of the angle."""
    # The part along `start` is taken from the difference, which is small where the points are near, not from `end`.
    apart = end - start
    return apart - (apart * start).sum(dim=-1, keepdim=True) * start


def _of_length_one(towards: Tensor) -> Tensor:
    return towards / row_length(towards)[:, None].clamp_min(SMALLEST_SINE)


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


def wide_product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right in float32, also where autocast would have it in half precision."""
    with in_own_precision(left.device):
        return left.float() @ right.float()


def row_length(rows: Tensor) -> Tensor:
    """Return the norm of each row with a gradient of zero, not NaN, at zero."""
    return root(rows.square().sum(dim=-1))


def root(squared: Tensor) -> Tensor:
    """Return the square root with a gradient of zero, not NaN, at zero."""
    return torch.where(squared > 0, squared.clamp_min(1e-30).sqrt(), squared)


def require_pairs(student: Tensor, teacher: Tensor) -> None:
    """Raise ShapeError unless both sides have the same shape and at least one point."""
    if student.shape != teacher.shape or student.ndim != 2:
        raise ShapeError(
            f"Student states {tuple(student.shape)} and teacher states {tuple(teacher.shape)} do not pair up: "
            "both must be [points, width]. With unequal widths use a projection."
        )
    if student.shape[0] == 0:
        raise ShapeError("There are no points to compare: every frame or token is padding.")


def require_lengths(states: Tensor, lengths: Sequence[int]) -> None:
    """Raise ShapeError unless the utterances' lengths add up to the points."""
    if sum(lengths) != states.shape[0]:
        raise ShapeError(
            f"Utterances of {', '.join(map(str, lengths)) or 'no'} points do not make up {states.shape[0]} states: a "
            "loss that follows time needs the length of every utterance."
        )
