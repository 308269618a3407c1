"""From measured points to what a unit of work takes, kept in a file of this machine.

The time of a part is a sum over its kinds of work, each times a factor that cannot be negative; the factors are those
that fit some short measured points best, as in Ernest (Venkataraman et al. 2016, NSDI). Points that took no part in the
fit say how far its predictions may be trusted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from core.errors import StoreError
from core.paths import is_file
from core.scaling.work import KINDS, Work

FILE = "plan.json"
PARTS = ("listening", "step", "transcription")
FORMAT = 1


@dataclass(frozen=True)
class Point:
    """Something that was measured.

    Attributes:
        name: What, in a few words.
        part: Of a job.
        work: How much it was.
        seconds: That it took; the median of several times.
        held_out: Whether it takes no part in the fit.
    """

    name: str
    part: str
    work: Work
    seconds: float
    held_out: bool = False


@dataclass(frozen=True)
class Kept:
    """What a training step was seen to keep for its gradients.

    Attributes:
        values: Of each kind, see `core.scaling.work.kept_values`.
        size: In bytes.
        held_out: Whether it takes no part in the fit.
    """

    name: str
    values: dict[str, float]
    size: float
    held_out: bool = False


@dataclass(frozen=True)
class HeldOut:
    """A prediction beside what was measured and took no part in it.

    Attributes:
        name: What.
        part: Of a job, or "memory of a step".
        predicted: Seconds, or bytes.
        measured: The same.
    """

    name: str
    part: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """How far the prediction is off, as a fraction of what was measured."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Calibration:
    """What was measured of one machine and device.

    Attributes:
        device: In words.
        clock: Which seconds: of the wall, or of the processor.
        threads: That computed, on a CPU.
        measured_at: Date and time, UTC, as ISO 8601.
        versions: Of what computed.
        busy: Whether others wanted the processor meanwhile, so that all times are too long.
        points: Times.
        kept: Memory.
        load_seconds: Of loading a model, for each of its weights.
        process_bytes: Memory of the process before any model; 0 on CUDA, where PyTorch's own is counted.
        memory: That the device has in all, in bytes.
    """

    device: str
    clock: str
    threads: int
    measured_at: str
    versions: dict[str, str]
    busy: bool
    points: tuple[Point, ...]
    kept: tuple[Kept, ...]
    load_seconds: float
    process_bytes: int
    memory: int
    factors: dict[str, dict[str, float]] = field(init=False)
    kept_factors: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        fitted = {part: [point for point in self._fitted() if point.part == part] for part in PARTS}
        factors = {
            part: dict(
                zip(KINDS, _factors([p.work.as_list() for p in points], [p.seconds for p in points]), strict=True)
            )
            for part, points in fitted.items()
            if points
        }
        object.__setattr__(self, "factors", factors)
        kept = [one for one in self.kept if not one.held_out]
        names = list(kept[0].values) if kept else []
        sizes = _factors([[one.values[name] for name in names] for one in kept], [one.size for one in kept])
        object.__setattr__(self, "kept_factors", dict(zip(names, sizes, strict=True)))

    def _fitted(self) -> list[Point]:
        return [point for point in self.points if not point.held_out]

    def seconds(self, part: str, work: Work) -> float:
        """Return how long some work takes in a part of a job."""
        return sum(self.factors[part][kind] * amount for kind, amount in zip(KINDS, work.as_list(), strict=True))

    def kept_bytes(self, values: Mapping[str, float]) -> float:
        """Return what a training step keeps for its gradients, in bytes."""
        return sum(self.kept_factors[name] * amount for name, amount in values.items())

    def held_out(self) -> list[HeldOut]:
        """Return what the parts predict of everything that took no part in their fit."""
        times = [
            HeldOut(point.name, point.part, self.seconds(point.part, point.work), point.seconds)
            for point in self.points
            if point.held_out
        ]
        sizes = [
            HeldOut(one.name, "memory of a step", self.kept_bytes(one.values), one.size)
            for one in self.kept
            if one.held_out
        ]
        return times + sizes

    @property
    def error(self) -> float:
        """The largest error of a held-out prediction of time, as a fraction; at least 0.25, and 1 without any."""
        errors = [abs(one.error) for one in self.held_out() if one.part in PARTS]
        return max(0.25, *errors) if errors else 1.0


def _factors(rows: Sequence[Sequence[float]], measured: Sequence[float]) -> list[float]:
    """Return the factors of least relative error that are not negative; 0 for a kind that never occurred."""
    # Imported late: a page that reads what was fitted waits for nothing.
    from scipy.optimize import nnls

    table, seconds = np.array(rows, dtype=float), np.array(measured, dtype=float)
    if not len(seconds):
        return []
    sizes = table.max(axis=0)
    sizes[sizes == 0] = 1.0
    found, _ = nnls(table / sizes / seconds[:, None], np.ones(len(seconds)))
    return (found / sizes).tolist()


def write_calibration(calibration: Calibration, runs_folder: Path) -> Path:
    """Keep what was measured.

    Raises:
        StoreError: If the disk refuses.
    """
    path = runs_folder / FILE
    said = {name: value for name, value in asdict(calibration).items() if name not in ("factors", "kept_factors")}
    try:
        runs_folder.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(json.dumps({"format": FORMAT, **said}, indent=1) + "\n", encoding="utf-8")
        half.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def read_calibration(runs_folder: Path) -> Calibration | None:
    """Return what was measured of this machine; None where nothing was.

    Raises:
        StoreError: If the file is damaged or of another version, with what to do.
    """
    path = runs_folder / FILE
    if not is_file(path):
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said.pop("format") != FORMAT:
            raise ValueError("it is of another version")
        points = tuple(Point(**{**point, "work": Work(**point["work"])}) for point in said.pop("points"))
        kept = tuple(Kept(**one) for one in said.pop("kept"))
        return Calibration(**said, points=points, kept=kept)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Measure again: manifold plan --measure") from error
