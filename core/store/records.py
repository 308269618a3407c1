"""What the store hands out: one frozen record per row. Times are timezone-aware UTC."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

State = Literal["queued", "starting", "running", "stopping", "finished", "failed", "stopped", "interrupted"]
"""States of a job and of a run. "finished" is a recorded event, never the death of a process."""

ACTIVE: tuple[State, ...] = ("queued", "starting", "running", "stopping")
"""States in which something may still happen; all others are endings and never change again."""

RequestState = Literal["queued", "running", "finished", "failed"]
Subject = Literal["teacher", "student_before", "student"]
Side = Literal["encoder", "decoder"]
Stage = Literal["before", "during", "after"]
Level = Literal["utterances", "points"]


@dataclass(frozen=True)
class JobRecord:
    """What a launcher holds: one process that works through one or more runs.

    Attributes:
        boot_id: Boot of the machine in which `pid` is meant.
        process_started: Start of the process, in seconds after the boot; with pid and boot its identity.
        stage: What the worker does now, in words; `done` of `total` steps of it are done.
        eta_seconds: Time until the job ends, in seconds, as far as the worker can tell.
        message: How it ended, in a sentence; empty while all is well.
    """

    id: str
    name: str
    state: State
    launcher: str
    pid: int | None
    boot_id: str | None
    process_started: float | None
    heartbeat_at: datetime | None
    log_path: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    stage: str
    done: int
    total: int
    eta_seconds: float | None
    message: str
    stop_requested: bool

    @property
    def active(self) -> bool:
        """Whether something may still happen."""
        return self.state in ACTIVE


@dataclass(frozen=True)
class RunRecord:
    """One student of a job.

    Attributes:
        position: Place in its job from 0; the run at 0 is the baseline.
        method: Label of its method.
        config: The settings as they were given; they never change.
        config_hash: First 16 hex digits of the SHA-256 of `config`.
        step: Optimiser steps done, of `steps`.
        seconds: Training time, in seconds.
    """

    id: str
    job_id: str
    position: int
    name: str
    method: str
    state: State
    config: dict[str, Any]
    config_hash: str
    seed: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    step: int
    steps: int
    seconds: float | None
    message: str

    @property
    def active(self) -> bool:
        """Whether something may still happen."""
        return self.state in ACTIVE


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, each storage counted once.

    Attributes:
        teacher: All of the teacher.
        student: All of the student that is deployed, adapters merged.
        adapters: Low-rank adapters; trained, merged into the student.
        projections: Maps from student to teacher width; trained, discarded.
    """

    teacher: int
    student: int
    adapters: int
    projections: int

    @property
    def trainable(self) -> int:
        """Adapters and projections together."""
        return self.adapters + self.projections

    @property
    def share_of_teacher(self) -> float:
        """Trainable parameters as a fraction of the teacher's."""
        return self.trainable / self.teacher


@dataclass(frozen=True)
class Metric:
    """One value of one curve; `value` may be NaN or infinite."""

    run_id: str
    name: str
    step: int
    value: float


@dataclass(frozen=True)
class EvaluationRecord:
    """One model on one test set.

    Attributes:
        run_id: None for the teacher and the student before training, which belong to the job.
        test_set: "development", "test", or the stem of an extra manifest.
        audio_context: Audio that the encoder saw, in seconds.
        wer: Word errors over reference words, a fraction; `cer` the same for characters.
        heldout_kl: KL(teacher || student) at temperature 1, in nats per valid token, on reference tokens.
        real_time_factor: Decoding time over audio time.
        seconds: Time that the evaluation took.
    """

    id: int
    job_id: str
    run_id: str | None
    subject: Subject
    test_set: str
    test_set_hash: str
    step: int | None
    audio_context: float
    normaliser: str
    decoding: str
    wer: float
    cer: float
    substitutions: int
    deletions: int
    insertions: int
    words: int
    heldout_kl: float | None
    real_time_factor: float
    seconds: float


@dataclass(frozen=True)
class UtteranceResult:
    """One utterance of an evaluation, normalised texts.

    Attributes:
        position: Place in the test set, from 0.
        words: Words of the reference.
        duration: Length of the audio, in seconds.
        audio_path: Absolute, or relative to the runs folder.
    """

    utterance_id: str
    position: int
    reference: str
    hypothesis: str
    substitutions: int
    deletions: int
    insertions: int
    words: int
    speaker: str | None
    duration: float
    audio_path: str

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions


@dataclass(frozen=True)
class AlignmentRecord:
    """How alike the states of one student layer and one teacher layer are.

    Attributes:
        points: Number of paired states that were measured.
        linear_cka: Debiased linear CKA, at most 1.
        geodesic_angle: Mean angle between paired states, in radians.
        mutual_knn: Share of the `neighbours` nearest neighbours that both sides have in common.
    """

    run_id: str
    step: int
    stage: Stage
    side: Side
    student_layer: int
    teacher_layer: int
    points: int
    linear_cka: float
    geodesic_angle: float
    mutual_knn: float
    neighbours: int


@dataclass(frozen=True)
class MapRecord:
    """A joint two-dimensional UMAP of student and teacher states, made by the analysis worker on request.

    Attributes:
        path: The safetensors file, relative to the runs folder; empty until it is finished.
        trustworthiness: Share of neighbourhoods that the map keeps, from 0 to 1.
        points: States that are shown, of `points_total`.
        how: How the two spaces were brought together, in words.
        attempts: How often an analysis worker began it.
    """

    id: int
    run_id: str
    side: Side
    student_layer: int
    teacher_layer: int
    step: int
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


@dataclass(frozen=True)
class CheckRecord:
    """A look at settings that needs torch (parameter counts, mistakes), made by the analysis worker on request."""

    id: int
    config: dict[str, Any]
    state: RequestState
    result: dict[str, Any] | None
    message: str
    attempts: int
    created_at: datetime
