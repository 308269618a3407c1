"""The work of a job: what its runs share, once; then run by run: train, keep the best, and measure.

    models -> audio -> teacher and frozen layers (once) -> teacher and student before
           -> for each run: adapters -> training -> merged student -> test set
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core.alignment.records import alignment_records
from core.checkpoints import Name, save_adapters
from core.config import RunConfig
from core.errors import ConfigError, ManifoldError, Stopped
from core.evaluation import Transcription, decoding_description, transcribe_set
from core.families.whisper import Whisper
from core.lora import add_adapters, merged
from core.mapping import LayerPair
from core.preflight import (
    device_of,
    load_models,
    pairs_of,
    parameter_counts,
    point_map_of,
    require_fits,
    require_shared,
    require_sound,
)
from core.probes import ProbeSet, probe_steps, save_student
from core.progress import Progress
from core.sources import Utterance, prepare
from core.sources.manifest import read_manifest
from core.store.records import RunRecord, Subject, UtteranceResult
from core.store.store import Store
from core.teacher_outputs import Prepared, prepare_utterances, state_means
from core.training import Lesson, train
from core.wer import NORMALISER

PROBE_UTTERANCES = 24
PROBE_POINTS = 8
PREPARE_BATCH = 8


@dataclass(frozen=True)
class Cost:
    """Relative costs of the parts of a job, for its progress bar: seconds on two CPU cores with Whisper tiny."""

    prepare: float = 0.3
    step: float = 0.08
    transcribe: float = 0.15


@dataclass
class Job:
    """A job under way.

    Attributes:
        id: Of its row.
        runs: The run rows, in order, with their configurations.
        store: Where results go.
        runs_folder: Where files go.
        progress: Told of all work; raises Stopped.
    """

    id: str
    runs: list[tuple[RunRecord, RunConfig]]
    store: Store
    runs_folder: Path
    progress: Progress

    @property
    def first(self) -> RunConfig:
        """The first run's configuration: all runs agree in what is shared."""
        return self.runs[0][1]


def run_job(job_id: str, *, store: Store, runs_folder: Path, stop: Callable[[], bool]) -> None:
    """Do the whole work of a job.

    Args:
        job_id: A job whose rows exist.
        store: Where results go.
        runs_folder: Where files go.
        stop: Says whether the user asked to stop.

    Raises:
        Stopped: If the user asked to stop; what was done is stored.
        ManifoldError: If it cannot go on, with what to do.
    """
    runs = [(run, RunConfig.model_validate(run.config)) for run in store.runs(job_id=job_id)]
    runs.sort(key=lambda item: item[0].position)
    configs = [config for _, config in runs]
    require_shared(configs)
    device = device_of(configs[0])
    progress = Progress(
        total=_total_cost(configs),
        report=lambda stage, done, total, left: store.progress(job_id, stage, done, total, left),
        stop=stop,
    )
    job = Job(job_id, runs, store, runs_folder, progress)
    progress.begin("Loading the models")
    teacher, student = load_models(configs[0])
    require_sound(configs, student=student, teacher=teacher)
    for model in (teacher, student):
        model.model.to(device)
    shared = _share(job, student=student, teacher=teacher)
    _evaluate_before(job, shared)
    failures = []
    for run, config in runs:
        try:
            _run(job, shared, run, config)
        except Stopped:
            raise
        except ManifoldError as error:
            # One run that goes wrong does not take the others with it.
            store.run_state(run.id, "failed", str(error))
            failures.append(f"{run.name}: {error}")
    if failures:
        raise ManifoldError("\n".join(failures))


@dataclass
class Shared:
    """What is computed once for all runs.

    Attributes:
        teacher: Frozen.
        student: Frozen, as it is before any run.
        train: With the teacher's outputs at the training context.
        development: The same for the set that chooses the checkpoint.
        tests: Test sets by name, at the evaluation context.
        means: The teacher's mean states over the training set.
    """

    teacher: Whisper
    student: Whisper
    train: list[Prepared]
    development: list[Prepared]
    tests: dict[str, list[Prepared]]
    means: dict[tuple[str, int], torch.Tensor]
    probe: ProbeSet


def _share(job: Job, *, student: Whisper, teacher: Whisper) -> Shared:
    config = job.first
    job.progress.begin("Preparing the speech")
    splits = prepare(config.source, job.runs_folder / "data", lambda done, total: job.progress.advance(0))
    tests: dict[str, Sequence[Utterance]] = {"test": splits.test}
    for path in config.evaluation.extra_tests:
        tests[Path(path).stem] = read_manifest(Path(path))
    context = config.training.audio_context
    require_fits([*splits.train, *splits.development], audio_context=context, field="training.audio_context")
    for utterances in tests.values():
        require_fits(utterances, audio_context=config.evaluation.audio_context, field="evaluation.audio_context")
    pairs = tuple(
        dict.fromkeys(pair for _, each in job.runs for pair in pairs_of(each, student=student, teacher=teacher))
    )

    def run_teacher(utterances: Sequence[Utterance], audio_context: float, whole: bool) -> list[Prepared]:
        return prepare_utterances(
            utterances,
            teacher=teacher,
            student=student,
            freeze_below=config.freeze_below,
            pairs=pairs,
            audio_context=audio_context,
            keep_teacher_encoder=whole,
            batch_size=PREPARE_BATCH,
            advance=lambda count: job.progress.advance(count * Cost.prepare),
        )

    job.progress.begin("Listening with the teacher")
    train_set = run_teacher(splits.train, context, False)
    development = run_teacher(splits.development, context, False)
    means = state_means(train_set)
    probe = ProbeSet(development[:PROBE_UTTERANCES], pairs, means, context, config.freeze_below)
    probe.save_teacher(job.runs_folder / "jobs" / job.id)
    prepared_tests = {}
    for name, utterances in tests.items():
        job.progress.begin(f"Listening with the teacher ({name})")
        prepared = run_teacher(utterances, config.evaluation.audio_context, True)
        job.progress.begin(f"Transcribing with the teacher ({name})")
        _evaluate(
            job,
            prepared,
            model=teacher,
            teacher=None,
            subject="teacher",
            test_set=name,
            run=None,
            step=None,
        )
        # The teacher's encoder output is large and is needed no more.
        prepared_tests[name] = [dataclasses.replace(item, teacher_encoder=None) for item in prepared]
    return Shared(teacher, student, train_set, development, prepared_tests, means, probe)


def _evaluate_before(job: Job, shared: Shared) -> None:
    for name, prepared in shared.tests.items():
        job.progress.begin(f"Transcribing with the student before training ({name})")
        _evaluate(
            job,
            prepared,
            model=shared.student,
            teacher=shared.teacher,
            subject="student_before",
            test_set=name,
            run=None,
            step=None,
        )


def _run(job: Job, shared: Shared, run: RunRecord, config: RunConfig) -> None:
    """Train one run, keep its best adapters, and measure the merged student on the test sets."""
    job.store.run_state(run.id, "running")
    folder = job.runs_folder / run.id
    counts = parameter_counts(config, student=shared.student, teacher=shared.teacher)
    job.store.set_parameters(run.id, counts)
    device = next(shared.teacher.model.parameters()).device
    adapted = add_adapters(shared.student.model, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    student = shared.student.with_model(adapted)
    point_map = point_map_of(config, student=shared.student, teacher=shared.teacher).to(device)
    pairs = pairs_of(config, student=shared.student, teacher=shared.teacher)
    watcher = RunWatcher(job, shared, run, config, student=student, point_map=point_map, pairs=pairs)
    lesson = Lesson(shared.train, pairs, shared.means, shared.teacher)
    job.progress.begin(f"Training {run.name}")
    train(config, student=student, point_map=point_map, lesson=lesson, watcher=watcher)
    deployed = shared.student.with_model(merged(shared.student.model, folder / "adapters" / "best").to(device).eval())
    for name, prepared in shared.tests.items():
        job.progress.begin(f"Transcribing with {run.name} ({name})")
        _evaluate(
            job,
            prepared,
            model=deployed,
            teacher=shared.teacher,
            subject="student",
            test_set=name,
            run=run,
            step=watcher.best_step,
        )
    job.store.run_state(run.id, "finished")
