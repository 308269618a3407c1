"""How alike two sides are, with what chance would give: intervals, floors and ceilings of all measures at once.

The interval is a percentile bootstrap over utterances, drawn with replacement, because the frames of an utterance are
alike (Bisani and Ney 2004 draw them so for error rates). A point that is drawn twice is no pair with itself: it would
look like perfect agreement. So nothing is copied; every measure is a sum over distinct points, weighed by how often
each was drawn. The floor is the mean over shuffled pairings, and the ceiling is the teacher beside itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from core.alignment.measures import (
    centred,
    distance_ranks,
    geodesic_angles,
    linear_cka,
    nearest_sets,
    procrustes,
    procrustes_residual,
)
from core.errors import ShapeError

DRAWS = 400
SHUFFLES = 10
NEIGHBOURS = 10

FEWEST_POINTS = 5
"""A shuffled, debiased CKA needs four; a neighbour more than the point itself needs one."""

MOST_POINTS = 1000
"""More are thinned evenly: all measures here cost the square of the points."""


@dataclass(frozen=True)
class Measured:
    """One measure.

    Attributes:
        value: Of all points.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        floor: Mean over shuffled pairings: what unrelated states give.
        ceiling: The teacher beside itself.

    NaN in any of them: it cannot be said, because a side does not vary.
    """

    value: float
    low: float
    high: float
    floor: float
    ceiling: float


def compared(
    *,
    student: Float[np.ndarray, "points student_width"],
    teacher: Float[np.ndarray, "points teacher_width"],
    aligned_student: Float[np.ndarray, "points common"],
    aligned_teacher: Float[np.ndarray, "points common"],
    utterance: Int[np.ndarray, " points"],
    seed: int,
    draws: int = DRAWS,
    shuffles: int = SHUFFLES,
    neighbours: int = NEIGHBOURS,
) -> dict[str, Measured]:
    """Return debiased linear CKA, mutual k-nearest-neighbour, RSA, Procrustes residual and the mean geodesic angle.

    All but the angle, in radians, are of the states as they are. In the bootstrap, who is near whom, the ranks of
    distances and the rotation of Procrustes stay those of all points.

    Args:
        student: The probe's states in the student.
        teacher: The same points in the teacher.
        aligned_student: The student's states where the losses compare them.
        aligned_teacher: The teacher's states there.
        utterance: To which utterance each point belongs.
        seed: Of draws and shuffles.
        draws: Of the bootstrap.
        shuffles: Pairings that the floor is the mean of.
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
    # The points as they are come first, then the draws; and the true pairing, then shuffled ones.
    weights = np.concatenate([np.ones((1, points)), _draws(utterance, draws, random)])
    orders = [np.arange(points), *(random.permutation(points) for _ in range(shuffles))]
    student, teacher = centred(student.astype(np.float64)), centred(teacher.astype(np.float64))
    neighbours = min(neighbours, points - 1)
    with threadpool_limits(limits=1, user_api="blas"):
        return {
            "linear_cka": _of_pairs(_cka, _gram(student), _gram(teacher), weights, orders),
            "mutual_knn": _mutual_knn(student, teacher, weights, orders, neighbours),
            "rsa": _of_pairs(_correlation, distance_ranks(student), distance_ranks(teacher), weights, orders),
            "procrustes_residual": _procrustes(student, teacher, weights, orders),
            "geodesic_angle": _angle(aligned_student, aligned_teacher, weights, orders),
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


def _draws(utterance: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """Return how often each point was drawn, [draws, points]; with its utterance, of which as many are drawn as are."""
    names, member = np.unique(utterance, return_inverse=True)
    counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return counts[:, member].astype(np.float64)


def _measured(values: np.ndarray, floor: float, ceiling: float) -> Measured:
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (np.nan, np.nan)
    return Measured(float(values[0]), float(low), float(high), floor, ceiling)


PairMeasure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Two matrices of pairs of points and rows of weights in, one value per row out."""


def _of_pairs(
    measure: PairMeasure, mine: np.ndarray, theirs: np.ndarray, weights: np.ndarray, orders: list[np.ndarray]
) -> Measured:
    as_they_are = weights[:1]
    shuffled = [measure(mine, theirs[np.ix_(order, order)], as_they_are)[0] for order in orders[1:]]
    ceiling = measure(theirs, theirs, as_they_are)[0]
    return _measured(measure(mine, theirs, weights), float(np.mean(shuffled)), float(ceiling))


def _gram(states: np.ndarray) -> np.ndarray:
    gram = states @ states.T
    np.fill_diagonal(gram, 0)
    return gram


def _cka(k: np.ndarray, n: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return CKA for each row of weights; at weights of one that of `core.alignment.measures.linear_cka`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _hsic(k, n, weights) / np.sqrt(_hsic(k, k, weights) * _hsic(n, n, weights))


def _hsic(k: np.ndarray, n: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the unbiased HSIC (Song et al. 2012) over distinct points, each counted as often as it was drawn.

    It is the mean over pairs of k_ij n_ij, plus that over quadruples of k_ij n_qr, less twice that over triples of
    k_ij n_iq. Sums over distinct points are sums over all points less those in which some are the same; the matrices
    have no diagonal.
    """
    both, squares = k * n, weights**2
    rows = (weights @ k) * (weights @ n)
    shared = squares @ both
    pairs = np.sum((weights @ both) * weights, axis=1)
    triples = np.sum(weights * (rows - shared), axis=1)
    ends = np.sum((weights @ k) * weights, axis=1) * np.sum((weights @ n) * weights, axis=1)
    quadruples = ends - 4 * np.sum(squares * (rows - shared), axis=1) - 2 * np.sum(squares * shared, axis=1)
    one, two, three, four = (np.sum(weights**power, axis=1) for power in (1, 2, 3, 4))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            pairs / (one**2 - two)
            + quadruples / (one**4 - 6 * one**2 * two + 3 * two**2 + 8 * one * three - 6 * four)
            - 2 * triples / (one**3 - 3 * one * two + 2 * three)
        )


def _correlation(k: np.ndarray, n: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of two matrices over pairs of distinct points, for each row of weights."""

    def mean(matrix: np.ndarray) -> np.ndarray:
        return np.sum((weights @ matrix) * weights, axis=1) / (weights.sum(axis=1) ** 2 - np.sum(weights**2, axis=1))

    with np.errstate(invalid="ignore", divide="ignore"):
        of_k, of_n = mean(k), mean(n)
        variances = (mean(k * k) - of_k**2) * (mean(n * n) - of_n**2)
        return (mean(k * n) - of_k * of_n) / np.sqrt(variances)


def _mutual_knn(
    student: np.ndarray, teacher: np.ndarray, weights: np.ndarray, orders: list[np.ndarray], neighbours: int
) -> Measured:
    mine, theirs = nearest_sets(student, neighbours), nearest_sets(teacher, neighbours)
    shares = [np.sum(mine & theirs[np.ix_(order, order)], axis=1) / neighbours for order in orders]
    return _measured(_means(shares[0], weights), float(np.mean(shares[1:])), 1.0)


def _procrustes(student: np.ndarray, teacher: np.ndarray, weights: np.ndarray, orders: list[np.ndarray]) -> Measured:
    turned = student @ procrustes(student, teacher)
    scale = np.sum(turned * teacher) / max(np.sum(turned * turned), np.finfo(float).tiny)
    left = np.sum((scale * turned - teacher) ** 2, axis=1)
    own = np.sum(teacher**2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (weights @ left) / (weights @ own)
    floor = float(np.mean([procrustes_residual(student, teacher[order]) for order in orders[1:]]))
    return _measured(values, floor, procrustes_residual(teacher, teacher))


def _angle(student: np.ndarray, teacher: np.ndarray, weights: np.ndarray, orders: list[np.ndarray]) -> Measured:
    angles = [geodesic_angles(student, teacher[order]) for order in orders]
    ceiling = float(np.mean(geodesic_angles(teacher, teacher)))
    return _measured(_means(angles[0], weights), float(np.mean(angles[1:])), ceiling)


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (weights @ values) / weights.sum(axis=1)
