"""Measures of how alike two sets of paired states are. NumPy only; nothing here is trained.

Row i of both sides is the same point: one frame or one token, as the student and as the teacher represent it.
`linear_cka`, `mutual_knn`, `rsa` and `procrustes_residual` compare what lies near what inside each space, so the two
may have different widths; `mean_geodesic_angle` compares the points themselves and needs one space.
"""

import numpy as np
from jaxtyping import Float

from core.errors import ShapeError

SMALLEST_NORM = 1e-8
"""Rows shorter than this are treated as this long: a zero state has no direction."""

ROWS_AT_ONCE = 1024
"""Rows of the similarity matrix that are held at the same time."""


def linear_cka(
    student: Float[np.ndarray, "points student_width"], teacher: Float[np.ndarray, "points teacher_width"]
) -> float:
    """Return the debiased linear centred kernel alignment: 1 for the same geometry, about 0 for unrelated states.

    CKA is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) (Kornblith et al. 2019) with the unbiased estimate of HSIC (Song
    et al. 2012, equation 5): the usual one tends to 1 when there are fewer points than the states are wide. It does
    not change when a side is rotated, moved or scaled as a whole. Slightly negative values mean unrelated; a side that
    does not vary gives 0.

    Args:
        student: One state per row.
        teacher: States of the same points.

    Raises:
        ShapeError: If the sides do not pair up, or have fewer than 4 points.
    """
    _require_pairs(student, teacher, fewest=4)
    x, y = centred(student.astype(np.float64)), centred(teacher.astype(np.float64))
    scale = np.sqrt(_hsic(x, x) * _hsic(y, y))
    return float(_hsic(x, y) / scale) if scale > 0 else 0.0


def geodesic_angles(
    student: Float[np.ndarray, "points width"],
    teacher: Float[np.ndarray, "points width"],
    *,
    centre: Float[np.ndarray, " width"] | None = None,
) -> Float[np.ndarray, " points"]:
    """Return the angle of each pair of states, in radians from 0 to pi.

    The angle is 2 atan2(|u - v|, |u + v|), accurate near 0 and pi where arccos is not.

    Args:
        student: States in the teacher's space.
        teacher: States of the same points.
        centre: The point from which directions are seen, usually the teacher's mean; None is the origin.

    Raises:
        ShapeError: If the sides do not pair up.
    """
    _require_pairs(student, teacher, fewest=1)
    if student.shape != teacher.shape:
        raise ShapeError(
            f"Angles need one space, but student states are {student.shape[1]} wide and teacher states "
            f"{teacher.shape[1]}: project the student's first."
        )
    origin = np.zeros(student.shape[1]) if centre is None else centre
    u, v = _unit_rows(student - origin), _unit_rows(teacher - origin)
    apart, together = np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)
    return 2 * np.arctan2(apart, together)


def mean_geodesic_angle(
    student: Float[np.ndarray, "points width"],
    teacher: Float[np.ndarray, "points width"],
    *,
    centre: Float[np.ndarray, " width"] | None = None,
) -> float:
    """Return the mean of `geodesic_angles`; unrelated directions are at about pi / 2."""
    return float(np.mean(geodesic_angles(student, teacher, centre=centre)))


def mutual_knn(
    student: Float[np.ndarray, "points student_width"],
    teacher: Float[np.ndarray, "points teacher_width"],
    *,
    neighbours: int = 10,
) -> float:
    """Return the share of each point's nearest neighbours by cosine that both sides agree on, from 0 to 1.

    After Huh et al. 2024, "The Platonic Representation Hypothesis". Unrelated states give about
    neighbours / (points - 1).

    Args:
        student: One state per row, centred as you wish to see it.
        teacher: States of the same points.
        neighbours: How many, without the point itself.

    Raises:
        ShapeError: If the sides do not pair up, or there are not more points than neighbours.
    """
    _require_pairs(student, teacher, fewest=neighbours + 1)
    sides = [_unit_rows(states).astype(np.float32) for states in (student, teacher)]
    points = len(student)
    shared = 0
    for first in range(0, points, ROWS_AT_ONCE):
        near_student, near_teacher = (_nearest(side, first, neighbours) for side in sides)
        shared += np.count_nonzero(near_student & near_teacher)
    return float(shared / (points * neighbours))


def procrustes(
    student: Float[np.ndarray, "points student_width"], teacher: Float[np.ndarray, "points teacher_width"]
) -> Float[np.ndarray, "student_width teacher_width"]:
    """Return the orthogonal map R for which student @ R is nearest to teacher in least squares (Schoenemann 1966).

    Rotations and reflections only: distances within the student are kept. Between different widths the map is
    orthogonal on the smaller of the two.

    Args:
        student: Centred states.
        teacher: Centred states of the same points.

    Raises:
        ShapeError: If the sides do not pair up.
    """
    _require_pairs(student, teacher, fewest=1)
    left, _, right = np.linalg.svd(student.astype(np.float64).T @ teacher.astype(np.float64), full_matrices=False)
    return left @ right


def procrustes_residual(
    student: Float[np.ndarray, "points student_width"], teacher: Float[np.ndarray, "points teacher_width"]
) -> float:
    """Return which share of the teacher's variance is left when the student is turned and scaled onto it, 0 to 1.

    It is 1 - |x'y|*^2 / (|x|^2 |y|^2) with the nuclear norm and both sides centred (Gower 1975; Schoenemann 1966). With
    fewer points than the states are wide, unrelated states are turned onto each other, too: look at what a shuffled
    pairing leaves. A side that does not vary leaves everything.

    Args:
        student: One state per row.
        teacher: States of the same points.

    Raises:
        ShapeError: If the sides do not pair up, or have fewer than 2 points.
    """
    _require_pairs(student, teacher, fewest=2)
    x, y = centred(student.astype(np.float64)), centred(teacher.astype(np.float64))
    scale = np.sum(x * x) * np.sum(y * y)
    return max(0.0, float(1 - np.linalg.svd(x.T @ y, compute_uv=False).sum() ** 2 / scale)) if scale > 0 else 1.0


def rsa(
    student: Float[np.ndarray, "points student_width"], teacher: Float[np.ndarray, "points teacher_width"]
) -> float:
    """Return how alike both sides rank all pairs of points by their angle, from -1 to 1; 0 is unrelated.

    Representational similarity analysis (Kriegeskorte et al. 2008): Spearman's correlation of the two sides' distances,
    each side seen from its own mean. A side on which all pairs are alike gives 0.

    Args:
        student: One state per row.
        teacher: States of the same points.

    Raises:
        ShapeError: If the sides do not pair up, or have fewer than 3 points.
    """
    _require_pairs(student, teacher, fewest=3)
    x, y = distance_ranks(student), distance_ranks(teacher)
    scale = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / scale) if scale > 0 else 0.0


def distance_ranks(states: Float[np.ndarray, "points width"]) -> Float[np.ndarray, "points points"]:
    """Return the rank of every pair's angle among all pairs, less the mean rank; pairs alike share one, no pair has 0.

    Args:
        states: One state per row, seen from their mean here.
    """
    unit = _unit_rows(centred(states.astype(np.float64)))
    # Rounded, so that pairs that are equal but for the order of a sum share a rank.
    similarity = (unit @ unit.T).round(9)
    rows, columns = np.triu_indices(len(unit), k=1)
    _, place, counts = np.unique(-similarity[rows, columns], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    result = np.zeros(similarity.shape)
    result[rows, columns] = result[columns, rows] = ranks - ranks.mean()
    return result


def nearest_first(states: Float[np.ndarray, "points width"], neighbours: int) -> np.ndarray:
    """Return the places of each point's nearest others by cosine, nearest first, [points, neighbours]."""
    unit = _unit_rows(states).astype(np.float32)
    found = []
    for first in range(0, len(unit), ROWS_AT_ONCE):
        similarity = unit[first : first + ROWS_AT_ONCE] @ unit.T
        rows = np.arange(len(similarity))
        similarity[rows, first + rows] = -np.inf
        found.append(np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours])
    return np.concatenate(found)


def effective_rank(states: Float[np.ndarray, "points width"]) -> float:
    """Return in how many directions states vary: the exponential of the entropy of their singular values.

    From 1 (a line: a collapse) to the width. The states are centred here (Roy and Vetterli 2007, definition 1).

    Args:
        states: One state per row.

    Raises:
        ShapeError: If there are fewer than 2 points.
    """
    _require_pairs(states, states, fewest=2)
    singular = np.linalg.svd(centred(states.astype(np.float64)), compute_uv=False)
    if singular.sum() == 0:
        return 1.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _hsic(x: Float[np.ndarray, "points a"], y: Float[np.ndarray, "points b"]) -> float:
    """Return the unbiased HSIC of linear kernels, times the constant n (n - 3) that CKA cancels.

    With K = x x' and L = y y' less their diagonals it is tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2).
    """
    points = len(x)
    own_x, own_y = np.sum(x * x, axis=1), np.sum(y * y, axis=1)
    # tr(x x' y y') is |x'y|^2 by moments, or the sum of products of the two Gram matrices: whichever is smaller.
    by_moments = points > max(x.shape[1], y.shape[1])
    trace = np.sum((x.T @ y) ** 2) if by_moments else np.sum((x @ x.T) * (y @ y.T))
    rows_x, rows_y = x @ x.sum(axis=0) - own_x, y @ y.sum(axis=0) - own_y
    together = rows_x.sum() * rows_y.sum() / ((points - 1) * (points - 2))
    return float(trace - own_x @ own_y + together - 2 * (rows_x @ rows_y) / (points - 2))


def _nearest(unit: Float[np.ndarray, "points width"], first: int, neighbours: int) -> np.ndarray:
    """Return for a block of rows which points are among their nearest, a boolean matrix [block, points]."""
    similarity = unit[first : first + ROWS_AT_ONCE] @ unit.T
    rows = np.arange(len(similarity))
    similarity[rows, first + rows] = -np.inf
    nearest = np.argpartition(similarity, -neighbours, axis=1)[:, -neighbours:]
    marked = np.zeros(similarity.shape, dtype=bool)
    np.put_along_axis(marked, nearest, True, axis=1)
    return marked


def centred(states: np.ndarray) -> np.ndarray:
    """Return states seen from their mean."""
    # Seen from the first state, states that do not vary are exactly zero; their mean alone would leave rounding errors.
    states = states - states[:1]
    return states - states.mean(axis=0)


def _unit_rows(states: np.ndarray) -> np.ndarray:
    states = states.astype(np.float64)
    return states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), SMALLEST_NORM)


def _require_pairs(student: np.ndarray, teacher: np.ndarray, *, fewest: int) -> None:
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ShapeError(
            f"Student states {student.shape} and teacher states {teacher.shape} do not pair up: both must be "
            "[points, width], with the same points."
        )
    if len(student) < fewest:
        raise ShapeError(f"There are {len(student)} points, but at least {fewest} are needed.")
