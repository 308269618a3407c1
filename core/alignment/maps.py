"""Pictures of both spaces: student and teacher states on one two-dimensional map, or on one map per step and layer.

UMAP takes seconds to import and compiles its code at the first map of a process, so only the analysis worker imports
this file.
"""

import threading
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Int
from numba.typed import List as TypedList
from scipy.sparse import csr_array
from scipy.spatial import KDTree
from sklearn.manifold import trustworthiness

from core.alignment.map_files import NEIGHBOURS
from core.alignment.measures import procrustes
from core.alignment.neighbours import Neighbours, nearest
from core.errors import NotFiniteError, ShapeError

with warnings.catch_warnings():
    # It tells of a part that needs TensorFlow; nothing here does.
    warnings.simplefilter("ignore", ImportWarning)
    from umap import UMAP
    from umap.layouts import optimize_layout_aligned_euclidean
    from umap.umap_ import make_epochs_per_sample

FEWEST_PAIRS = 4
EPOCHS = 200
"""UMAP would take 500 up to 10,000 points: twice the time for the same trustworthiness."""

STRANGERS = 4
"""UMAP's own 5 take an eighth more time for the same trustworthiness, and keep 2 points more of the neighbours of real
frames; fewer than 4 keep fewer (python -m benchmarks.map_settings)."""

EPOCHS_ALIGNED = 100
"""Of maps that are aligned: their optimiser is a hundred times slower, and keeps as many neighbours in half as many."""

MOST_POINTS_JUDGED = 2000
"""Trustworthiness compares every point with every other: it is that of a sample, which is enough for two digits."""

ALIGNMENT = 0.2
"""How strongly a point is drawn to where it lies on the maps before and after. AlignedUMAP's own 0.01 lets points that
stay move five times as far; this keeps as many neighbours."""

WINDOW = 2
"""So many maps before and after draw at a point."""

WIDTH = 20.0
"""Of the layout that UMAP starts from."""

ALIGNED = "AlignedUMAP"
FALLBACK = (
    "a UMAP of its own at each step, turned onto the one before by Procrustes: AlignedUMAP left the finite numbers"
)


class Map(NamedTuple):
    """Where each point of both sides lies.

    Attributes:
        student: [points, 2].
        teacher: The same points, [points, 2].
        trustworthiness: From 0 to 1: how far neighbours on the map were neighbours before (Venna and Kaski 2001), for
            15 neighbours, or as many as there are.
        kept: Which share of each state's 15 nearest neighbours is among the 15 nearest on the map.
        neighbours: Of the states, before the map.
    """

    student: Float[np.ndarray, "points 2"]
    teacher: Float[np.ndarray, "points 2"]
    trustworthiness: float
    kept: float
    neighbours: Neighbours


class Sides(NamedTuple):
    """Student and teacher states of the same points, in one space and centred."""

    student: Float[np.ndarray, "points width"]
    teacher: Float[np.ndarray, "points width"]


def joint_map(
    *,
    student: Float[np.ndarray, "points width"],
    teacher: Float[np.ndarray, "points width"],
    seed: int,
    neighbours: int = NEIGHBOURS,
    strangers: int = STRANGERS,
) -> Map:
    """Map both sides together by UMAP (McInnes et al. 2018), so that points of both may be neighbours.

    Directions are compared (cosine), as in the losses. The map starts from the two principal components rather than
    from the graph's spectrum, so that maps of one run's steps are turned alike.

    Args:
        student: States in the teacher's space, centred.
        teacher: States of the same points, centred.
        seed: The same seed gives the same map.
        neighbours: How many neighbours UMAP keeps together; fewer show detail, more show the whole.
        strangers: From how many random points a point is driven each time that a neighbour draws it.

    Raises:
        ShapeError: If the sides do not pair up or there are too few points.
        NotFiniteError: If a state is NaN or infinite.
    """
    states = _directions(Sides(student, teacher))
    near = _nearest(states, neighbours)
    flat = _umap(states, near, seed=seed, strangers=strangers)
    if not np.isfinite(flat).all():
        raise NotFiniteError("UMAP placed some points nowhere. Choose another layer or step.")
    return _judged(states, flat, near, seed=seed)


def aligned_maps(sides: Sequence[Sides], *, seed: int, neighbours: int = NEIGHBOURS) -> tuple[list[Map], str]:
    """Map the same points at several steps or layers, each on a map of its own that keeps to those beside it.

    The objective and the optimiser are those of AlignedUMAP: besides UMAP's own forces, a point is drawn to where it
    lies on the maps before and after, the more the more of its neighbours stay the same. The class of that name is not
    used: it takes no neighbours that are known already, lays out every map once for nothing, compares neighbourhoods
    in quadratic time, and starts from spectra, which may be turned anyhow or not be finite. Here each map starts from
    its two principal components, turned onto those of the map before.

    Args:
        sides: At least two, the same points in each, in the order in which the maps follow each other.
        seed: The same seed gives the same maps.
        neighbours: See `joint_map`.

    Returns:
        A map for each, and how they were made: AlignedUMAP or, where it does not stay finite, a UMAP for each, turned
        onto the one before.

    Raises:
        ShapeError: If points do not pair up or are too few.
        NotFiniteError: If a state is NaN or infinite.
    """
    if len(sides) < 2 or len({side.student.shape[0] for side in sides}) > 1:
        raise ShapeError("Maps are aligned where there are two or more of the same points.")
    states = [_directions(side) for side in sides]
    near = [_nearest(each, neighbours) for each in states]
    flats, how = _aligned_umap(states, near, seed=seed), ALIGNED
    if not all(np.isfinite(flat).all() for flat in flats):
        flats, how = _turned([_umap(*each, seed=seed) for each in zip(states, near, strict=True)]), FALLBACK
    if not all(np.isfinite(flat).all() for flat in flats):
        raise NotFiniteError("UMAP placed some points nowhere. Look at one layer and step alone.")
    return [_judged(*each, seed=seed) for each in zip(states, flats, near, strict=True)], how


def _directions(sides: Sides) -> np.ndarray:
    """Return both sides as rows of length one, student first."""
    student, teacher = sides
    if student.shape != teacher.shape or len(student) < FEWEST_PAIRS:
        raise ShapeError(
            f"A map needs at least {FEWEST_PAIRS} points of both sides in one space, not student states "
            f"{student.shape} and teacher states {teacher.shape}."
        )
    states = np.concatenate([student, teacher]).astype(np.float32)
    if not np.isfinite(states).all():
        raise NotFiniteError("Some states are NaN or infinite, so there is no map: the run diverged before this step.")
    return states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-8)


def _nearest(states: np.ndarray, neighbours: int) -> Neighbours:
    points = len(states) // 2
    return nearest(states[:points], states[points:], min(neighbours + 1, len(states)))


def _fitted(states: np.ndarray, near: Neighbours, *, seed: int, strangers: int, transform_mode: str) -> UMAP:
    if threading.current_thread() is not threading.main_thread():
        # Numba's own threads end the process when two fits run at once; one thread at a time is the simple guard.
        raise RuntimeError("Maps are made in the main thread only.")
    # Always there, and no second OpenMP beside that of PyTorch.
    numba.config.THREADING_LAYER = "workqueue"  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]
    # Exact neighbours; UMAP's own search costs a minute of compiling in a new process. A state is its own first one.
    count = near.joint.shape[1] - 1
    umap = UMAP(
        n_neighbors=count,
        n_epochs=EPOCHS,
        metric="cosine",
        init="pca",
        negative_sample_rate=strangers,
        random_state=seed,
        n_jobs=1,
        transform_mode=transform_mode,
        precomputed_knn=(near.joint[:, :count], near.distances[:, :count]),
    )
    with warnings.catch_warnings():
        # No point is added to a finished map.
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]")
        return umap.fit(states)


def _umap(states: np.ndarray, near: Neighbours, *, seed: int, strangers: int = STRANGERS) -> np.ndarray:
    fitted = _fitted(states, near, seed=seed, strangers=strangers, transform_mode="embedding")
    return np.asarray(fitted.embedding_, dtype=np.float32)


def _aligned_umap(states: Sequence[np.ndarray], near: Sequence[Neighbours], *, seed: int) -> list[np.ndarray]:
    edges: list[_Edges] = []
    for each in zip(states, near, strict=True):
        fitted: Any = _fitted(*each, seed=seed, strangers=STRANGERS, transform_mode="graph").graph_
        graph = fitted.tocoo()
        # As UMAP does: what would not be drawn once in all epochs is left out.
        strong = graph.data >= graph.data.max() / EPOCHS_ALIGNED
        edges.append(_Edges(*(part[strong] for part in (graph.row, graph.col, graph.data))))
    random = np.random.RandomState(seed)
    starts = _turned([_principal(each) for each in states])
    layouts = _typed([(each + random.normal(scale=1e-4, size=each.shape)).astype(np.float32) for each in starts])
    found = optimize_layout_aligned_euclidean(
        layouts,
        layouts,
        _typed([edge.first.astype(np.int32) for edge in edges]),
        _typed([edge.second.astype(np.int32) for edge in edges]),
        EPOCHS_ALIGNED,
        _typed([make_epochs_per_sample(edge.weight, EPOCHS_ALIGNED) for edge in edges]),
        *_relations(edges, len(states[0])),
        random.randint(np.iinfo(np.int32).min + 1, np.iinfo(np.int32).max - 1, 3).astype(np.int64),
        lambda_=ALIGNMENT,
        parallel=False,
        move_other=True,
    )
    return [np.asarray(flat) for flat in found]


class _Edges(NamedTuple):
    """The graph of a map: between which rows, and how strong."""

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray


def _relations(graphs: Sequence[_Edges], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how strongly, and to which row, each point is drawn on the maps up to WINDOW before and after.

    The strength is the share of its neighbours on either map that it has on both. Row -1 is none.
    """
    count = len(graphs)
    weights = np.zeros((count, 2 * WINDOW + 1, points), dtype=np.float32)
    rows = np.full(weights.shape, -1, dtype=np.int32)
    there = [
        csr_array((np.ones(len(each.first), dtype=np.int32), (each.first, each.second)), shape=(points, points))
        for each in graphs
    ]
    degrees = [np.asarray(graph.sum(axis=1)).ravel() for graph in there]
    for first in range(count):
        for other in range(max(0, first - WINDOW), min(count, first + WINDOW + 1)):
            both = np.asarray(there[first].multiply(there[other]).sum(axis=1)).ravel()
            weights[first, other - first + WINDOW] = both / np.maximum(degrees[first] + degrees[other] - both, 1)
            rows[first, other - first + WINDOW] = np.arange(points)
    return weights, rows


def _principal(states: np.ndarray) -> np.ndarray:
    """Return the two principal components of states, as wide as UMAP's start."""
    states = states - states.mean(axis=0)
    _, directions = np.linalg.eigh(states.T @ states)
    flat = states @ directions[:, :-3:-1]
    return flat * (WIDTH / 2 / max(float(np.abs(flat).max()), 1e-8))


def _turned(flats: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Turn, mirror and move each map onto the one before; its size stays its own."""
    turned = [flats[0]]
    for flat in flats[1:]:
        before, centre = turned[-1].mean(axis=0), flat.mean(axis=0)
        turned.append(((flat - centre) @ procrustes(flat - centre, turned[-1] - before) + before).astype(np.float32))
    return turned


def _typed(arrays: Sequence[np.ndarray]) -> Any:
    typed: Any = TypedList()  # pyright: ignore[reportCallIssue]
    for array in arrays:
        typed.append(np.ascontiguousarray(array))
    return typed


def _judged(states: np.ndarray, flat: np.ndarray, near: Neighbours, *, seed: int) -> Map:
    count = min(len(states), MOST_POINTS_JUDGED)
    chosen = np.random.default_rng(seed).choice(len(states), count, replace=False)
    neighbours = min(NEIGHBOURS, (count - 1) // 2)
    trust = float(trustworthiness(states[chosen], flat[chosen], n_neighbors=neighbours, metric="cosine"))
    points = len(states) // 2
    return Map(flat[:points], flat[points:], trust, kept_neighbours(flat, near.joint[:, 1:]), near)


def kept_neighbours(flat: Float[np.ndarray, "points 2"], before: Int[np.ndarray, "points neighbours"]) -> float:
    """Return which share of each point's neighbours before is among as many nearest ones on the map.

    Args:
        flat: Where the points lie.
        before: Places of each point's nearest neighbours, without itself.
    """
    # The point itself is found, too, and nobody's neighbour before.
    _, found = KDTree(flat).query(flat, k=before.shape[1] + 1)
    return float((before[:, :, None] == np.asarray(found)[:, None, :]).any(axis=2).mean())
