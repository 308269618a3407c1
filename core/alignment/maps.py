"""A picture of both spaces: student and teacher states on one two-dimensional map.

UMAP takes seconds to import and compiles its code at the first map of a process, so only the analysis worker imports
this file.
"""

import threading
import warnings
from typing import NamedTuple

import faiss
import numba
import numpy as np
from jaxtyping import Float
from sklearn.manifold import trustworthiness

from core.errors import NotFiniteError, ShapeError

with warnings.catch_warnings():
    # It tells of a part that needs TensorFlow; nothing here does.
    warnings.simplefilter("ignore", ImportWarning)
    from umap import UMAP

NEIGHBOURS = 15
FEWEST_PAIRS = 4
EPOCHS = 200
"""UMAP would take 500 up to 10,000 points: twice the time for the same trustworthiness."""

MOST_POINTS_JUDGED = 2000
"""Trustworthiness compares every point with every other: it is that of a sample, which is enough for two digits."""


class JointMap(NamedTuple):
    """Where each point of both sides lies.

    Attributes:
        student: [points, 2].
        teacher: The same points, [points, 2].
        trustworthiness: From 0 to 1: how far neighbours on the map were neighbours before (Venna and Kaski 2001), for
            15 neighbours, or as many as there are.
    """

    student: Float[np.ndarray, "points 2"]
    teacher: Float[np.ndarray, "points 2"]
    trustworthiness: float


def joint_map(
    *,
    student: Float[np.ndarray, "points width"],
    teacher: Float[np.ndarray, "points width"],
    seed: int,
    neighbours: int = NEIGHBOURS,
) -> JointMap:
    """Map both sides together by UMAP (McInnes et al. 2018), so that points of both may be neighbours.

    Directions are compared (cosine), as in the losses. The map starts from the two principal components rather than
    from the graph's spectrum, so that maps of one run's steps are turned alike.

    Args:
        student: States in the teacher's space, centred.
        teacher: States of the same points, centred.
        seed: The same seed gives the same map.
        neighbours: How many neighbours UMAP keeps together; fewer show detail, more show the whole.

    Raises:
        ShapeError: If the sides do not pair up or there are too few points.
        NotFiniteError: If a state is NaN or infinite.
    """
    if student.shape != teacher.shape or len(student) < FEWEST_PAIRS:
        raise ShapeError(
            f"A map needs at least {FEWEST_PAIRS} points of both sides in one space, not student states "
            f"{student.shape} and teacher states {teacher.shape}."
        )
    states = np.concatenate([student, teacher]).astype(np.float32)
    if not np.isfinite(states).all():
        raise NotFiniteError("Some states are NaN or infinite, so there is no map: the run diverged before this step.")
    states /= np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-8)
    flat = _umap(states, neighbours=min(neighbours, len(states) - 1), seed=seed)
    if not np.isfinite(flat).all():
        raise NotFiniteError("UMAP placed some points nowhere. Choose another layer or step.")
    return JointMap(flat[: len(student)], flat[len(student) :], _trustworthiness(states, flat, seed=seed))


def _umap(states: np.ndarray, *, neighbours: int, seed: int) -> np.ndarray:
    if threading.current_thread() is not threading.main_thread():
        # Numba's own threads end the process when two fits run at once; one thread at a time is the simple guard.
        raise RuntimeError("Maps are made in the main thread only.")
    # Always there, and no second OpenMP beside that of PyTorch.
    numba.config.THREADING_LAYER = "workqueue"  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]
    # Exact neighbours; UMAP's own search costs a minute of compiling in a new process.
    similarity, indices = faiss.knn(states, states, neighbours, metric=faiss.METRIC_INNER_PRODUCT)
    umap = UMAP(
        n_neighbors=neighbours,
        n_epochs=EPOCHS,
        metric="cosine",
        init="pca",
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(indices, np.clip(1 - similarity, 0, 2)),
    )
    with warnings.catch_warnings():
        # No point is added to a finished map.
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]")
        return np.asarray(umap.fit_transform(states), dtype=np.float32)


def _trustworthiness(states: np.ndarray, flat: np.ndarray, *, seed: int) -> float:
    count = min(len(states), MOST_POINTS_JUDGED)
    chosen = np.random.default_rng(seed).choice(len(states), count, replace=False)
    neighbours = min(NEIGHBOURS, (count - 1) // 2)
    return float(trustworthiness(states[chosen], flat[chosen], n_neighbors=neighbours, metric="cosine"))
