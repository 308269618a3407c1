"""The file of a map, as it is read; `core.analysis` says how it is written."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file

from core.errors import StoreError

NEIGHBOURS = 15
"""So many nearest neighbours of each state a map keeps together, and of so many it says which share it kept."""


@dataclass(frozen=True)
class MapPoints:
    """What a finished map shows at one layer pair and step; the same row of every array is the same point.

    Attributes:
        student: Where the student's states lie.
        teacher: Where the teacher's states of the same points lie.
        utterance: Place of each point's utterance in the probe set.
        moment: Its frame or token; -1 for the mean of an utterance.
        angle: Between the two states before the map was made, in radians.
        student_neighbours: Places of the student states nearest to each before the map was made, nearest first; none
            in files of older versions, as in the next.
        teacher_neighbours: The same among the teacher's.
        kept: Share of the nearest neighbours of each state that are its nearest on the map; None where unknown.
        trustworthiness: From 0 to 1, how far neighbours on the map were neighbours before; None where unknown.
        extent: Smallest and largest x and y of this map and all that are aligned with it, [2, 2].
    """

    student: Float[np.ndarray, "points 2"]
    teacher: Float[np.ndarray, "points 2"]
    utterance: Int[np.ndarray, " points"]
    moment: Int[np.ndarray, " points"]
    angle: Float[np.ndarray, " points"]
    student_neighbours: Int[np.ndarray, "points neighbours"]
    teacher_neighbours: Int[np.ndarray, "points neighbours"]
    kept: float | None
    trustworthiness: float | None
    extent: Float[np.ndarray, "2 2"]


def read_map(path: Path, place: tuple[int, int, int] | None = None) -> MapPoints:
    """Read a map.

    Args:
        path: Of the file.
        place: Student layer, teacher layer and step; None takes the first map of the file.

    Raises:
        StoreError: If the file is gone, cannot be read, or has no such place.
    """
    try:
        return _map_points(load_file(path), place)
    except (OSError, SafetensorError, KeyError) as error:
        raise StoreError(f"The map's file {path} cannot be read ({error}). Put it back, or run again.") from error


def map_places(path: Path) -> list[tuple[int, int, int]]:
    """Return of which layer pairs and steps a file has maps, in their order; raises as `read_map` does."""
    try:
        arrays = load_file(path)
        return [(mine, theirs, step) for mine, theirs, step in arrays["places"].tolist()] if "places" in arrays else []
    except (OSError, SafetensorError) as error:
        raise StoreError(f"The map's file {path} cannot be read ({error}). Put it back, or run again.") from error


def _map_points(arrays: dict[str, np.ndarray], place: tuple[int, int, int] | None) -> MapPoints:
    student, teacher = arrays["student_xy"], arrays["teacher_xy"]
    if student.ndim == 2:
        # A file of an older version has one map and no neighbours.
        none = np.zeros((len(student), 0), dtype=np.int32)
        arrays = {**arrays, "student_neighbours": none, "teacher_neighbours": none}
        arrays = {name: each if name in ("utterance", "moment") else each[None] for name, each in arrays.items()}
        student, teacher = student[None], teacher[None]
    places = [tuple(each) for each in arrays["places"].tolist()] if "places" in arrays else []
    if place is not None and places and place not in places:
        raise KeyError(f"no map of {place}")
    number = places.index(place) if place is not None and places else 0
    everything = np.concatenate([student, teacher]).reshape(-1, 2)
    known = {name: float(arrays[name][number]) for name in ("kept", "trustworthiness") if name in arrays}
    return MapPoints(
        student=student[number],
        teacher=teacher[number],
        utterance=arrays["utterance"],
        moment=arrays["moment"],
        angle=arrays["angle"][number],
        student_neighbours=arrays["student_neighbours"][number],
        teacher_neighbours=arrays["teacher_neighbours"][number],
        kept=known.get("kept"),
        trustworthiness=known.get("trustworthiness"),
        extent=np.stack([everything.min(axis=0), everything.max(axis=0)]),
    )
