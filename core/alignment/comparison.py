"""How alike two sides are, with what unrelated speech would give: intervals, floors and ceilings of all measures.

The states of an utterance change slowly in time, so its points are no independent draws, and two sides that have
nothing to do with each other still look alike by many measures, the more so the fewer the utterances. Therefore both
the interval and the floor take whole utterances:

- The interval is the jackknife's: every measure is computed again without each utterance in turn, and the scatter of
  those values gives a standard error and, with Student's t, an interval around the value (Efron and Stein 1981: for
  statistics like these the jackknife's variance is too large rather than too small). Nothing is drawn twice. In a
  bootstrap, an utterance that is drawn twice pairs its points with near copies of themselves, which looks like
  agreement: the value then lies below its own interval.
- The floor ("shuffled") pairs each utterance of the student with another utterance of the teacher, point by point from
  the start as far as the shorter of the two lasts. So each side keeps its smoothness in time, and only what the two
  have in common is lost. It is done several times: the floor is the mean, and its range is told.

The ceiling is the teacher beside itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit
from threadpoolctl import threadpool_limits

from core.alignment.measures import (
    centred,
    distance_ranks,
    geodesic_angles,
    linear_cka,
    mutual_knn,
    nearest_first,
    procrustes_residual,
)
from core.errors import ShapeError

SHUFFLES = 20
NEIGHBOURS = 10

MOST_LEFT_OUT = 50
"""Utterances are left out one by one up to so many; of more, in so many groups of nearly the same size."""

FEWEST_POINTS = 5
"""A debiased CKA needs four, of which one utterance is left out; a neighbour more than the point itself needs one."""

FEW_TO_EXCHANGE = 4
"""So few utterances can be exchanged in a handful of ways only: they are shifted in time as well, each in a circle."""

MOST_POINTS = 1000
"""More are thinned evenly: all measures here cost the square of the points."""


@dataclass(frozen=True)
class Measured:
    """One measure.

    Attributes:
        value: Of all points.
        low: Lower end of the 95 % interval, which always holds the value.
        high: Upper end.
        floor: Mean over exchanged utterances: what unrelated speech gives.
        floor_low: Least of those.
        floor_high: Largest of those.
        ceiling: The teacher beside itself.

    NaN in any of them: it cannot be said, because a side does not vary, or there is one utterance only.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float
    ceiling: float


def compared(
    *,
    student: Float[np.ndarray, "points student_width"],
    teacher: Float[np.ndarray, "points teacher_width"],
    aligned_student: Float[np.ndarray, "points common"],
    aligned_teacher: Float[np.ndarray, "points common"],
    utterance: Int[np.ndarray, " points"],
    seed: int,
    shuffles: int = SHUFFLES,
    neighbours: int = NEIGHBOURS,
) -> dict[str, Measured]:
    """Return debiased linear CKA, mutual k-nearest-neighbour, RSA, Procrustes residual and the mean geodesic angle.

    All but the angle, in radians, are of the states as they are. Where an utterance is left out, nearest neighbours
    and the rotation of Procrustes are those of the others; the ranks of distances stay those of all points.

    Args:
        student: The probe's states in the student.
        teacher: The same points in the teacher.
        aligned_student: The student's states where the losses compare them.
        aligned_teacher: The teacher's states there.
        utterance: To which utterance each point belongs; those of one utterance stand in the order of time.
        seed: Of the exchanges.
        shuffles: Exchanges that the floor is the mean of.
        neighbours: How many; fewer where there are too few points.

    Raises:
        ShapeError: If the sides do not pair up, or there are fewer than 5 points.
    """
    points = len(student)
    if not points == len(teacher) == len(aligned_student) == len(aligned_teacher) == len(utterance):
        raise ShapeError("The sides do not pair up: there must be one state of each for every point.")
    if points < FEWEST_POINTS:
        raise ShapeError(f"There are {points} points, but at least {FEWEST_POINTS} are needed to compare two sides.")
    random = np.random.default_rng(seed)
    kept = np.concatenate([np.ones((1, points)), _left_out(utterance, random)])
    exchanges = [_exchanged(utterance, random) for _ in range(shuffles)]
    student, teacher = centred(student.astype(np.float64)), centred(teacher.astype(np.float64))
    with threadpool_limits(limits=1, user_api="blas"):
        return {
            "linear_cka": _of_pairs(_cka, _gram(student), _gram(teacher), kept, exchanges, (-1, 1)),
            "mutual_knn": _mutual_knn(student, teacher, kept, exchanges, min(neighbours, points - 1)),
            "rsa": _of_pairs(_correlation, distance_ranks(student), distance_ranks(teacher), kept, exchanges, (-1, 1)),
            "procrustes_residual": _procrustes(student, teacher, kept, exchanges),
            "geodesic_angle": _angle(aligned_student, aligned_teacher, kept, exchanges),
        }


def cka_grid(
    students: Sequence[Float[np.ndarray, "points student_width"]],
    teachers: Sequence[Float[np.ndarray, "points teacher_width"]],
) -> list[list[float]]:
    """Return the debiased linear CKA of every student layer (rows) with every teacher layer (columns).

    Args:
        students: States of one layer each, the same points.
        teachers: The same.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return [[linear_cka(student, teacher) for teacher in teachers] for student in students]


def _left_out(utterance: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return which points are kept as each utterance, or each group of utterances, is left out, [groups, points]."""
    names, member = np.unique(utterance, return_inverse=True)
    if len(names) > MOST_LEFT_OUT:
        member = (random.permutation(len(names)) % MOST_LEFT_OUT)[member]
    return (np.arange(member.max() + 1)[:, None] != member).astype(np.float64)


Exchange = tuple[np.ndarray, np.ndarray]
"""Places of the student's points and of the teacher's points beside them."""


def _exchanged(utterance: np.ndarray, random: np.random.Generator) -> Exchange:
    """Return a pairing of each utterance with another, no utterance with itself; one alone is shifted in time."""
    names, member = np.unique(utterance, return_inverse=True)
    order = np.argsort(member, kind="stable")
    ends = np.cumsum(np.bincount(member))
    own = [order[first:last] for first, last in pairwise([0, *ends])]
    partner = np.arange(len(names))
    while len(names) > 1 and np.any(partner == np.arange(len(names))):
        partner = random.permutation(len(names))
    beside = [own[number] for number in partner]
    if len(names) <= FEW_TO_EXCHANGE:
        # By a quarter of its length at least, so that one alone does not stay beside itself.
        beside = [np.roll(each, random.integers(len(each) // 4, len(each) - len(each) // 4 + 1)) for each in beside]
    both = [(mine, theirs, min(len(mine), len(theirs))) for mine, theirs in zip(own, beside, strict=True)]
    return (
        np.concatenate([mine[:shorter] for mine, _, shorter in both]),
        np.concatenate([theirs[:shorter] for _, theirs, shorter in both]),
    )


def _measured(values: np.ndarray, shuffled: Sequence[float], ceiling: float, bounds: tuple[float, float]) -> Measured:
    """Return a measure with its interval.

    Args:
        values: Of all points first, then without each group of utterances.
        shuffled: Of exchanged utterances.
        ceiling: Of the teacher beside itself.
        bounds: Least and largest value that the measure can have.
    """
    value, without = float(values[0]), values[1:]
    half = np.nan
    if len(without) > 1 and np.isfinite(without).all():
        error = np.sqrt((len(without) - 1) * np.var(without))
        half = stdtrit(len(without) - 1, 0.975) * error
    low, high = np.nan, np.nan
    if np.isfinite(half):
        low, high = max(value - half, min(bounds[0], value)), min(value + half, max(bounds[1], value))
    said = [each for each in shuffled if np.isfinite(each)] or [np.nan]
    return Measured(
        value=value,
        low=float(low),
        high=float(high),
        floor=float(np.mean(said)),
        floor_low=float(min(said)),
        floor_high=float(max(said)),
        ceiling=ceiling,
    )


PairMeasure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Two matrices of pairs of points and rows of weights in, one value per row out."""


def _of_pairs(
    measure: PairMeasure,
    mine: np.ndarray,
    theirs: np.ndarray,
    kept: np.ndarray,
    exchanges: Sequence[Exchange],
    bounds: tuple[float, float],
) -> Measured:
    shuffled = [
        float(measure(mine[np.ix_(own, own)], theirs[np.ix_(beside, beside)], np.ones((1, len(own))))[0])
        for own, beside in exchanges
    ]
    ceiling = measure(theirs, theirs, kept[:1])[0]
    return _measured(measure(mine, theirs, kept), shuffled, float(ceiling), bounds)


def _gram(states: np.ndarray) -> np.ndarray:
    gram = states @ states.T
    np.fill_diagonal(gram, 0)
    return gram


def _cka(k: np.ndarray, n: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return CKA of the points that each row keeps; of all of them that of `core.alignment.measures.linear_cka`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _hsic(k, n, kept) / np.sqrt(_hsic(k, k, kept) * _hsic(n, n, kept))


def _hsic(k: np.ndarray, n: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the unbiased HSIC (Song et al. 2012, equation 5) of the points that each row of zeros and ones keeps.

    The matrices have no diagonal: it is (tr(K N) + 1'K1 1'N1 / ((m-1)(m-2)) - 2 1'KN1 / (m-2)) / (m (m-3)).
    """
    points = kept.sum(axis=1)
    rows_k, rows_n = kept @ k, kept @ n
    trace = np.sum((kept @ (k * n)) * kept, axis=1)
    ends = np.sum(rows_k * kept, axis=1) * np.sum(rows_n * kept, axis=1)
    shared = np.sum(rows_k * rows_n * kept, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = trace + ends / ((points - 1) * (points - 2)) - 2 * shared / (points - 2)
        return np.where(points > 3, whole / (points * (points - 3)), np.nan)


def _correlation(k: np.ndarray, n: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of two matrices over pairs of distinct points that each row keeps."""
    points = kept.sum(axis=1)

    def mean(matrix: np.ndarray) -> np.ndarray:
        return np.sum((kept @ matrix) * kept, axis=1) / (points * (points - 1))

    with np.errstate(invalid="ignore", divide="ignore"):
        of_k, of_n = mean(k), mean(n)
        variances = (mean(k * k) - of_k**2) * (mean(n * n) - of_n**2)
        return (mean(k * n) - of_k * of_n) / np.sqrt(variances)


def _mutual_knn(
    student: np.ndarray, teacher: np.ndarray, kept: np.ndarray, exchanges: Sequence[Exchange], neighbours: int
) -> Measured:
    # So many stay near when the largest utterance is left out.
    listed = min(len(student) - 1, neighbours + int((1 - kept).sum(axis=1).max()))
    mine, theirs = (nearest_first(side, listed) for side in (student, teacher))
    values = np.array([_shared_neighbours(mine, theirs, each > 0, neighbours) for each in kept])
    shuffled = [
        mutual_knn(student[own], teacher[beside], neighbours=min(neighbours, len(own) - 1))
        for own, beside in exchanges
        if len(own) > 1
    ]
    return _measured(values, shuffled, 1.0, (0, 1))


def _shared_neighbours(mine: np.ndarray, theirs: np.ndarray, kept: np.ndarray, neighbours: int) -> float:
    """Return the share of nearest neighbours that both sides agree on, of the points that are kept and among them."""
    neighbours = min(neighbours, int(kept.sum()) - 1)
    if neighbours < 1:
        return np.nan
    marked = []
    for near in (mine[kept], theirs[kept]):
        there = kept[near]
        nearest = there & (np.cumsum(there, axis=1) <= neighbours)
        marks = np.zeros((len(near), len(kept)), dtype=bool)
        np.put_along_axis(marks, near, nearest, axis=1)
        marked.append(marks)
    return float(np.count_nonzero(marked[0] & marked[1]) / (len(marked[0]) * neighbours))


def _procrustes(student: np.ndarray, teacher: np.ndarray, kept: np.ndarray, exchanges: Sequence[Exchange]) -> Measured:
    rows = [np.flatnonzero(each) for each in kept]
    values = [procrustes_residual(student[row], teacher[row]) if len(row) > 1 else np.nan for row in rows]
    shuffled = [procrustes_residual(student[mine], teacher[beside]) for mine, beside in exchanges if len(mine) > 1]
    return _measured(np.array(values), shuffled, procrustes_residual(teacher, teacher), (0, 1))


def _angle(student: np.ndarray, teacher: np.ndarray, kept: np.ndarray, exchanges: Sequence[Exchange]) -> Measured:
    with np.errstate(invalid="ignore"):
        values = (kept @ geodesic_angles(student, teacher)) / kept.sum(axis=1)
    shuffled = [float(np.mean(geodesic_angles(student[own], teacher[beside]))) for own, beside in exchanges]
    return _measured(values, shuffled, float(np.mean(geodesic_angles(teacher, teacher))), (0, np.pi))
