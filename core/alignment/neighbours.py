"""Exact nearest neighbours of both sides at once, by cosine.

Most of the time goes into products of states, and a pair of blocks is multiplied once for both directions, which faiss'
own search would do twice. Its heaps are fast on one core, but it loads an OpenMP of its own beside PyTorch's: only the
analysis worker imports this file.
"""

from typing import NamedTuple

import faiss
import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

BLOCK = 512
"""So many states are multiplied with as many at once."""


_Found = tuple[np.ndarray, np.ndarray]
"""Similarities, the largest first, and the places of those who are so alike."""


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

    Each side is searched for each side's neighbours; the neighbours among both are merged from the four.

    Args:
        student: Rows of length one.
        teacher: Rows of length one, the same points.
        neighbours: How many among both, each state itself among them; within a side as many or all that there are.
    """
    points = len(student)
    own = min(neighbours + 1, points)
    first, second = (np.ascontiguousarray(side, dtype=np.float32) for side in (student, teacher))
    # Blocks are small: threads would wait for each other longer than they work.
    with threadpool_limits(limits=1):
        across, back = _search(first, second, own)
        blocks = [[_search(first, first, own)[0], across], [back, _search(second, second, own)[0]]]
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


def _search(first: np.ndarray, second: np.ndarray, count: int) -> tuple[_Found, _Found]:
    """Return the nearest of the second states to each of the first, and the other way round."""
    rows = faiss.ResultHeap(len(first), count, keep_max=True)
    columns = rows if second is first else faiss.ResultHeap(len(second), count, keep_max=True)
    for row in range(0, len(first), BLOCK):
        for column in range(row if second is first else 0, len(second), BLOCK):
            alike = first[row : row + BLOCK] @ second[column : column + BLOCK].T
            _take(rows, alike, row, column)
            if second is not first or column != row:
                _take(columns, np.ascontiguousarray(alike.T), column, row)
    rows.finalize()
    if columns is not rows:
        columns.finalize()
    return (rows.D, rows.I), (columns.D, columns.I)


def _take(heaps: faiss.ResultHeap, alike: np.ndarray, row: int, column: int) -> None:
    """Keep of similarities those that are among the largest of their rows, which begin at a row and a column."""
    heaps.heaps.addn(alike.shape[1], faiss.swig_ptr(alike), column, row, alike.shape[0])


def _without_self(found: np.ndarray) -> np.ndarray:
    """Drop each point from its own neighbours; where others are as near, it may not be the first."""
    own = found == np.arange(len(found))[:, None]
    return found[~own].reshape(len(found), -1).astype(np.int32)
