"""Exact nearest neighbours of both sides at once, by cosine.

faiss is fast on one core, but loads an OpenMP of its own beside PyTorch's: only the analysis worker imports this file.
"""

from typing import NamedTuple

import faiss
import numpy as np
from jaxtyping import Float, Int


class Neighbours(NamedTuple):
    """Who is near whom, nearest first.

    Attributes:
        student: Places of each student state's nearest student states, without its own, [points, neighbours].
        teacher: The same among the teacher's.
        joint: Of all states, student first and teacher after, among all of them; the state itself stands first.
        distances: 1 - cosine of `joint`, 0 to 2.
    """

    student: Int[np.ndarray, "points fewer"]
    teacher: Int[np.ndarray, "points fewer"]
    joint: Int[np.ndarray, "both neighbours"]
    distances: Float[np.ndarray, "both neighbours"]


def nearest(
    student: Float[np.ndarray, "points width"], teacher: Float[np.ndarray, "points width"], neighbours: int
) -> Neighbours:
    """Return the nearest neighbours within each side and among both.

    The four blocks of student and teacher are searched once each; the neighbours among both are merged from them.

    Args:
        student: Rows of length one.
        teacher: Rows of length one, the same points.
        neighbours: How many among both, each state itself among them; within a side as many or all that there are.
    """
    points = len(student)
    own = min(neighbours + 1, points)
    sides = (np.ascontiguousarray(student, dtype=np.float32), np.ascontiguousarray(teacher, dtype=np.float32))
    blocks = [[_search(queries, among, own) for among in sides] for queries in sides]
    for block in (blocks[0][0][1], blocks[1][1][1]):
        # Where many are as near as the state itself, it may not be found.
        missing = ~(block == np.arange(points)[:, None]).any(axis=1)
        block[missing, -1] = np.flatnonzero(missing)
    indices, similarity = [], []
    for place, row in enumerate(blocks):
        found = np.concatenate([row[0][1], row[1][1] + points], axis=1)
        alike = np.concatenate([row[0][0], row[1][0]], axis=1)
        # A state comes first among its neighbours, whatever else is as near.
        alike[found == np.arange(points)[:, None] + place * points] = np.inf
        order = np.argsort(-alike, axis=1, kind="stable")[:, :neighbours]
        indices.append(np.take_along_axis(found, order, axis=1))
        similarity.append(np.take_along_axis(alike, order, axis=1))
    distances = np.clip(1 - np.concatenate(similarity), 0, 2).astype(np.float32)
    return Neighbours(
        _without_self(blocks[0][0][1]), _without_self(blocks[1][1][1]), np.concatenate(indices), distances
    )


def _search(queries: np.ndarray, among: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    similarity, indices = faiss.knn(queries, among, count, metric=faiss.METRIC_INNER_PRODUCT)
    return similarity, indices


def _without_self(found: np.ndarray) -> np.ndarray:
    """Drop each point from its own neighbours; where others are as near, it may not be the first."""
    own = found == np.arange(len(found))[:, None]
    return found[~own].reshape(len(found), -1).astype(np.int32)
