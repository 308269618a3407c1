"""What was asked of the analysis worker, and what came of it: one frozen record per row."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.store.records import Level, RequestState, Side


@dataclass(frozen=True)
class MapRecord:
    """A joint two-dimensional UMAP of student and teacher states, made by the analysis worker on request.

    Attributes:
        student_layer: None, as the teacher's layer and the step: a map for every layer pair of the side and every step,
            aligned with each other.
        path: The safetensors file, relative to the runs folder; empty until it is finished.
        trustworthiness: From 0 to 1, how far neighbours on the map were neighbours before; the mean of all maps.
        kept: Share of the nearest neighbours of each state that are its nearest on the map; the mean of all maps.
        stratified: Whose shares are kept where not all points are shown, "speaker" or "utterance"; empty if unknown.
        points: States that are shown, of `points_total`.
        how: How the two spaces were brought together, in words.
        attempts: How often an analysis worker began it.
        teacher_number: Whose states stand beside the student's, from 0.
    """

    id: int
    run_id: str
    side: Side
    student_layer: int | None
    teacher_layer: int | None
    step: int | None
    level: Level
    state: RequestState
    message: str
    path: str
    trustworthiness: float | None
    points: int
    points_total: int
    how: str
    seconds: float | None
    attempts: int
    created_at: datetime
    kept: float | None = None
    stratified: str = ""
    teacher_number: int = 0


@dataclass(frozen=True)
class ComparisonRecord:
    """How alike both sides are at one step, with intervals, made by the analysis worker on request.

    Attributes:
        result: See core.analysis.compare.
        attempts: How often an analysis worker began it.
        teacher_number: Whose states stand beside the student's, from 0.
    """

    id: int
    run_id: str
    side: Side
    step: int
    state: RequestState
    result: dict[str, Any] | None
    message: str
    attempts: int
    created_at: datetime
    teacher_number: int = 0


@dataclass(frozen=True)
class CheckRecord:
    """A look at settings that needs torch (parameter counts, mistakes), made by the analysis worker on request.

    Attributes:
        config: The settings as they were given, and as ``rows`` those of earlier rows that they learn from.
        config_hash: As a run's.
        measure: Whether time and memory are measured, too, which takes a while.
        result: See core.checking.check.
    """

    id: int
    config: dict[str, Any]
    config_hash: str
    measure: bool
    state: RequestState
    result: dict[str, Any] | None
    message: str
    attempts: int
    created_at: datetime
