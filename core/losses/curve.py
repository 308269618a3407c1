"""Alignment of utterances as curves on the sphere: their points, velocities and bends."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.config import Curve
from core.geometry import (
    geodesic_angle,
    log_map,
    on_sphere,
    paired,
    parallel_transport,
    require_lengths,
    row_length,
    way,
)
from core.signals import States
from core.sums import Sum


def formula(settings: Curve, student: States, teacher: States) -> Sum:
    """Return how far apart points, velocities and bends are."""
    value = curve_loss(
        student.points,
        teacher.points,
        student.lengths,
        velocity=settings.velocity,
        curvature=settings.curvature,
    )
    return Sum.single(value)


def curve_loss(
    student: Float[Tensor, "points width"],
    teacher: Float[Tensor, "points width"],
    lengths: Sequence[int],
    *,
    velocity: float,
    curvature: float,
) -> Float[Tensor, ""]:
    """Return the mean angle between points, and how far apart the curves' velocities and bends are.

    The curve variant is named by arXiv 2606.00771; the formulas are a reconstruction. With u the student's and v the
    teacher's points on the unit sphere, and P the parallel transport along the shortest way from u_i to v_i:

    - points: mean over all i of the angle between u_i and v_i, in radians;
    - velocities: mean of |P log_{u_i}(u_{i+1}) - log_{v_i}(v_{i+1})|, in radians per step. Tangent vectors at different
      points can be compared only after the transport;
    - bends: mean of |k(u_i) - k(v_i)|, no unit. k is the length of the change of the unit tangent from the incoming
      to the outgoing step, 2 sin(turn / 2): 0 along a great circle, 2 where the curve goes back. Divided by the step it
      tends to the geodesic curvature; it is not divided, because states at rest have steps of almost no
      length.

    No step leads from one utterance to the next; one of a single point has no velocity, one of two no bend.

    Args:
        student: Mapped student states, utterance by utterance, in time; normalised here.
        teacher: Mapped teacher states of the same points; no gradient flows into them.
        lengths: Points of each utterance.
        velocity: Factor of the velocities' part.
        curvature: Factor of the bends' part.

    Raises:
        ShapeError: If the two sides do not pair up, or the lengths do not add up to the points.
    """
    student, teacher = paired(student, teacher)
    require_lengths(student, lengths)
    u, v = on_sphere(student), on_sphere(teacher)
    loss = geodesic_angle(u, v).mean()
    steps = _followed(lengths, 1, student.device)
    if velocity and len(steps):
        carried = parallel_transport(log_map(u[steps], u[steps + 1]), start=u[steps], end=v[steps])
        loss = loss + velocity * row_length(carried - log_map(v[steps], v[steps + 1])).mean()
    turns = _followed(lengths, 2, student.device) + 1
    if curvature and len(turns):
        loss = loss + curvature * (bends(u, turns) - bends(v, turns)).abs().mean()
    return loss


def bends(points: Float[Tensor, "points width"], turns: Int[Tensor, " turns"]) -> Float[Tensor, " turns"]:
    """Return how much a curve bends at some of its points: 2 sin of half the angle by which it turns, 0 to 2.

    Args:
        points: Unit rows in time.
        turns: Which rows; each has one before it and one after it.
    """
    here = points[turns]
    incoming, outgoing = -way(here, points[turns - 1]), way(here, points[turns + 1])
    return row_length(outgoing - incoming)


def _followed(lengths: Sequence[int], count: int, device: torch.device) -> Tensor:
    """Return the rows that are followed by `count` more rows of their utterance."""
    rows: list[int] = []
    first = 0
    for length in lengths:
        rows.extend(range(first, first + length - count))
        first += length
    return torch.tensor(rows, dtype=torch.long, device=device)
