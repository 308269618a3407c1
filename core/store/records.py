"""What the store hands out: one frozen record per row. Times are timezone-aware UTC."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from core.store.costs import Estimate

State = Literal["queued", "starting", "running", "stopping", "finished", "failed", "stopped", "interrupted"]
"""States of a job and of a run. "finished" is a recorded event, never the death of a process."""

ACTIVE: tuple[State, ...] = ("queued", "starting", "running", "stopping")
"""States in which something may still happen; all others are endings and never change again."""

RequestState = Literal["queued", "running", "finished", "failed"]
Subject = Literal["teacher", "ensemble", "student_before", "student"]
Side = Literal["encoder", "decoder"]
Stage = Literal["before", "during", "after"]
Level = Literal["utterances", "points"]


def probe_folder(job_id: str, group: int) -> str:
    """Return where a group of runs keeps its probe and its teachers' states, relative to the runs folder."""
    return f"jobs/{job_id}" + (f"/group-{group}" if group else "")


def teacher_states(number: int) -> str:
    """Return the name of the file with a teacher's probe states, in `probe_folder`."""
    return f"teacher_states{f'.of{number}' if number else ''}.safetensors"


def config_hash(config: dict[str, Any]) -> str:
    """Return what settings are found by: the first 16 hex digits of the SHA-256 of their JSON, keys in order."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True)
class JobRecord:
    """What a launcher holds: one process that works through one or more runs.

    Attributes:
        boot_id: Boot of the machine in which `pid` is meant.
        process_started: Start of the process, in seconds after the boot; with pid and boot its identity.
        stage: What the worker does now, in words; `done` of `total` steps of it are done.
        eta_seconds: Time until the job ends, in seconds, as far as the worker can tell.
        message: How it ended, in a sentence; empty while all is well.
        expectation: What whoever started it expected, in their words; it never changes. Empty where nothing was said.
        queued_at: When it was queued, in seconds since `boot_id` (core.boot); None of older jobs, as in the next two.
        advanced_at: When it last got on with its work, the same way.
        stop_by: When it is killed, once it was asked to stop, the same way.
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
    expectation: str = ""
    queued_at: float | None = None
    advanced_at: float | None = None
    stop_by: float | None = None

    @property
    def active(self) -> bool:
        """Whether something may still happen."""
        return self.state in ACTIVE


@dataclass(frozen=True)
class RunRecord:
    """One student of a job.

    Attributes:
        position: Place in its job from 0; the first of a group is its baseline.
        method: Label of its method.
        config: The settings as they were given; they never change.
        config_hash: Of `config`, see the function of that name.
        step: Optimiser steps done, of `steps`.
        seconds: Training time, in seconds.
        estimate: What it was expected to take, where it was measured before it started.
        peak_memory: Largest memory of the device while it trained, in bytes; None before it is known.
        tags: Words that people gave it, to find it by.
        notes: What people wrote about it.
        deleted_at: When it was put in the bin; None while it is not there.
        group: Which group of its job it belongs to, from 0; see core.config.groups.
        precision: What it multiplies in, "bfloat16" for instance; None before it is known.
        advanced_at: When it last got on with its work, as a job's.
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
    estimate: Estimate | None = None
    peak_memory: int | None = None
    tags: tuple[str, ...] = ()
    notes: str = ""
    deleted_at: datetime | None = None
    group: int = 0
    precision: str | None = None
    advanced_at: float | None = None

    @property
    def probe_folder(self) -> str:
        """Where the probe that it shares with its group is, relative to the runs folder."""
        return probe_folder(self.job_id, self.group)

    @property
    def active(self) -> bool:
        """Whether something may still happen."""
        return self.state in ACTIVE

    @property
    def step_seconds(self) -> float | None:
        """Training time per step so far, in seconds."""
        return self.seconds / self.step if self.seconds is not None and self.step else None


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, each storage counted once, and what the models compute.

    Attributes:
        teacher: All of all teachers.
        student: All of the student that is deployed: adapters merged, or a mixture's experts and routers beside.
        adapters: Low-rank adapters, or a mixture's experts and routers; trained and deployed.
        projections: Maps from student to teacher width; trained, discarded.
        largest_teacher: All of the largest teacher. None in this and the next three: the run is older than the count.
        student_non_embedding: Of the student without tables of tokens and positions.
        teacher_flops: Floating-point operations of all teachers per second of audio, see core.counting.
        student_flops: The same for the student.
        student_active: Parameters of the student that one frame or token goes through: all but the experts that a
            router leaves out. None: the run is older than the count.
    """

    teacher: int
    student: int
    adapters: int
    projections: int
    largest_teacher: int | None = None
    student_non_embedding: int | None = None
    teacher_flops: float | None = None
    student_flops: float | None = None
    student_active: int | None = None

    @property
    def trainable(self) -> int:
        """Adapters and projections together."""
        return self.adapters + self.projections

    @property
    def share_of_teacher(self) -> float:
        """Trainable parameters as a fraction of all teachers'."""
        return self.trainable / self.teacher

    def shares(self, parameters: int) -> tuple[float, float | None]:
        """Return a number of parameters as fractions of all teachers' and of the largest teacher's."""
        return parameters / self.teacher, parameters / self.largest_teacher if self.largest_teacher else None


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
        run_id: None for teachers, ensembles and the student before training, which belong to the job.
        label: Which teacher, or how the ensemble combines them; empty for students.
        group: Which group of the job's runs it belongs to, from 0; see core.config.groups.
        test_set: "development", "test", or the stem of an extra manifest.
        audio_context: Audio that the encoder saw, in seconds.
        wer: Word errors over reference words, a fraction; `cer` the same for characters.
        heldout_kl: KL(teacher || student) at temperature 1, in nats per valid token, on reference tokens.
        heldout_kl_tokens: Of so many of the teacher's likeliest tokens and one class for all others, which is less;
            None: of all tokens.
        real_time_factor: Time of the encoder, whole, and of decoding over audio time.
        seconds: Time that the evaluation took.
        memory: Bytes of the weights that are needed; None before it was counted.
        encoder_layers: Of the model, and `decoder_layers` alike; None of several models, and before they were counted.
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
    label: str = ""
    group: int = 0
    memory: int | None = None
    heldout_kl_tokens: int | None = None
    encoder_layers: int | None = None
    decoder_layers: int | None = None


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
        teacher_number: Which teacher's layer it is, from 0.
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
    teacher_number: int = 0


@dataclass(frozen=True)
class LayerDistance:
    """How much some consecutive layers turn the residual stream.

    Attributes:
        first: First of the layers, from 0; `last` the last of them, the same for a single layer.
        distance: Mean angular distance between what enters the first and what leaves the last: arccos(cosine) / pi, 0
            to 1.
        standard_error: Of the mean, over clips.
    """

    side: Side
    first: int
    last: int
    distance: float
    standard_error: float


@dataclass(frozen=True)
class LayerScan:
    """The angular distances of a model's layers, from one forward pass over some clips.

    Attributes:
        model: Its name.
        audio_context: Seconds that the encoder saw.
        clips: How many; `audio_seconds` of speech together.
        seconds: That the pass took.
        distances: Of every layer and every block of consecutive layers, of the sides that were measured.
    """

    model: str
    audio_context: float
    clips: int
    audio_seconds: float
    seconds: float
    distances: tuple[LayerDistance, ...]

    def depth(self, side: Side) -> int:
        """Return how many layers of a side were measured; 0 where none was."""
        return max((each.last + 1 for each in self.distances if each.side == side), default=0)
