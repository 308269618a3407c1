"""A handful of a job's utterances, heard as the job will hear them, and what that took.

What a job does once for all its runs is measured here once: making speech, the teacher's pass over it, transcribing.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import torch

from core.config import Manifest, RunConfig
from core.evaluation import Listener, MostConfident, Student, Together, normaliser_for, transcribe_set
from core.families.whisper import Whisper
from core.layer_cuts import CLIPS as SCANNED
from core.layer_cuts import sides_cut
from core.listening import by_context
from core.mapping import LayerPair, Statistics
from core.precision import heard_in, products_in
from core.preflight import all_pairs, ensembles_of
from core.pseudo_labels import PseudoLabelled, pseudo_labelled
from core.scaling.work import prepare_batch
from core.shared import alike, require_usable, test_sets
from core.sources import Splits, Utterance, is_ready, prepare
from core.teacher_outputs import (
    Prepared,
    Teachers,
    prepare_utterances,
    teacher_statistics,
    without_teacher_encoder,
)

CLIPS = 6
"""Distinct utterances that are listened to; larger batches hold them again and again, which takes as long."""

T = TypeVar("T")


@dataclass(frozen=True)
class Speed:
    """Seconds that one utterance takes at an audio context, in batches as a job has them.

    Attributes:
        listen: The pass of teachers and frozen layers.
        teacher: Transcribing with all teachers and their ensembles, whose encoder output is there.
        before: Transcribing with the student before training, which may go on until its cap.
        after: Transcribing with a student that stops where the teacher does.
        divergence: Comparing with the teachers on reference tokens.
    """

    listen: float
    teacher: float
    before: float
    after: float
    divergence: float


@dataclass(frozen=True)
class Sample:
    """A handful of utterances of a job, as its runs will see them, and what they took.

    Attributes:
        teachers: On the device.
        student: On the device, without adapters.
        train: At the training context, without the teachers' encoder output.
        pseudo: The same audio with the teachers' transcripts, where a run asks for them.
        pairs: All layer pairs of the job.
        statistics: Of each teacher's states.
        sizes: Utterances of training, development, and all test sets.
        shared_seconds: What the job does once.
        development: At the training context.
        test: At the evaluation context.
        audio_bytes: Of audio that is still to be made.
        prepared_bytes: Memory for what the job keeps of all its utterances.
        listening_bytes: Memory for the teachers' encoder output of its largest evaluation set, besides.
    """

    teachers: tuple[Whisper, ...]
    student: Whisper
    train: list[Prepared]
    pseudo: list[PseudoLabelled]
    pairs: tuple[LayerPair, ...]
    statistics: tuple[Statistics, ...]
    sizes: tuple[int, int, int]
    shared_seconds: float
    development: Speed
    test: Speed
    audio_bytes: int
    prepared_bytes: int
    listening_bytes: int


def take_sample(
    configs: Sequence[RunConfig],
    *,
    student: Whisper,
    teachers: tuple[Whisper, ...],
    runs_folder: Path,
    folder: Path,
) -> Sample:
    """Listen to a handful of a job's utterances and time it.

    Args:
        configs: The runs of the job, sound as far as their models tell.
        student: On the device of the runs.
        teachers: There, too.
        runs_folder: Where audio that is made already is found.
        folder: For what is made now.

    Raises:
        DataError: With every row of a manifest that cannot be used.
        ConfigError: If clips are longer than the audio context.
    """
    config = configs[0]
    splits, sizes, speech_seconds, audio_bytes = _speech(config, runs_folder=runs_folder, folder=folder)
    tests = test_sets(config, splits)
    require_usable(config, splits, tests, student=student)
    extra = sum(len(items) for name, items in tests.items() if name != "test")
    sizes = (sizes[0], sizes[1], sizes[2] + extra if config.evaluation.test else 0)
    pairs = all_pairs(configs, student=student, teachers=teachers)
    at_once = prepare_batch(student.device.type == "cuda")

    def listen(utterances: Sequence[Utterance], audio_context: float) -> list[Prepared]:
        learnt = audio_context <= config.training.audio_context
        precision = heard_in(config.training, student.device) if learnt else torch.float32
        with products_in(precision, student.device):
            return prepare_utterances(
                utterances,
                teachers=teachers,
                student=student,
                freeze_below=config.freeze_below,
                pairs=pairs,
                audio_context=audio_context,
                keep_teacher_encoder=True,
                batch_size=at_once,
                advance=nothing,
            )

    def speed(items: list[Prepared], seconds: float, audio_context: float) -> Speed:
        return _speed(
            items,
            config=config,
            student=student,
            teachers=teachers,
            ensembles=len(ensembles_of(configs, teachers=teachers)),
            listen=seconds,
            audio_context=audio_context,
        )

    clips = _evenly(splits.train, CLIPS)
    listen(clips[:1], config.training.audio_context)  # what is done for the first time takes longer
    whole = filled(clips, at_once * math.ceil(len(clips) / at_once))
    heard, seconds = timed(lambda: listen(whole, config.training.audio_context))
    development = speed(heard, seconds / len(heard), config.training.audio_context)
    again, seconds = timed(lambda: listen(whole, config.evaluation.audio_context))
    test = speed(again, seconds / len(again), config.evaluation.audio_context)
    pseudo: list[PseudoLabelled] = []
    if any(each.method.transcripts == "teacher" for each in configs):
        pseudo = pseudo_labelled(
            heard[: len(clips)],
            transcribe=lambda items: transcribe_set(
                items,
                listener=MostConfident(teachers),
                settings=config.evaluation,
                audio_context=config.training.audio_context,
                advance=nothing,
            ),
            listen=lambda items: by_context(items, config.training, listen),
            normaliser=normaliser_for(config),
        )
    encoder_bytes, kept = _mean_bytes(again, whole=True), _mean_bytes(heard)
    learnt = 2 * sizes[0] if pseudo else sizes[0]
    train_set = without_teacher_encoder(heard[: len(clips)])
    if config.training.length_buckets > 1:
        train_set = without_teacher_encoder(by_context(clips, config.training, listen))
    scanned = min(SCANNED, sizes[0]) if sides_cut(config.student) else 0
    return Sample(
        teachers=teachers,
        student=student,
        train=train_set,
        pseudo=pseudo,
        pairs=pairs,
        statistics=teacher_statistics(train_set, read=[item for item in train_set if item.utterance.text]),
        sizes=sizes,
        shared_seconds=speech_seconds
        + scanned * development.listen
        + _shared_seconds(sizes, development, test, with_pseudo=bool(pseudo)),
        development=development,
        test=test,
        audio_bytes=audio_bytes,
        prepared_bytes=round(kept * (learnt + sizes[1]) + _mean_bytes(again) * sizes[2]),
        listening_bytes=round(encoder_bytes * max(sizes[1:])),
    )


def filled(items: Sequence[T], count: int) -> list[T]:
    """Return so many items, again and again in their order."""
    return list(islice(cycle(items), count))


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work returns, and its seconds."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def nothing(count: int) -> None:
    """Take note of no progress."""


def _speech(config: RunConfig, *, runs_folder: Path, folder: Path) -> tuple[Splits, tuple[int, int, int], float, int]:
    """Return utterances, how many the job will have in each set, and time and bytes of what is still to be made."""
    source, data = config.source, runs_folder / "data"
    if isinstance(source, Manifest) or is_ready(source, data):
        splits, seconds = timed(lambda: prepare(source, data, lambda done, total: None))
        return splits, (len(splits.train), len(splits.development), len(splits.test)), seconds, 0
    sizes = (source.train, source.development, source.test)
    few = source.model_copy(update={"train": min(CLIPS, source.train), "development": 1, "test": 1})
    # The first clip waits for the voice to be loaded, so it is told apart from the others.
    began, moments = time.perf_counter(), list[float]()
    splits = prepare(few, folder / "data", lambda done, total: moments.append(time.perf_counter()))
    made = [*splits.train, *splits.development, *splits.test]
    each = (moments[len(made) - 1] - moments[0]) / (len(made) - 1)
    size = statistics.mean(item.audio_path.stat().st_size for item in made)
    return splits, sizes, moments[0] - began + each * (sum(sizes) - 1), round(size * sum(sizes))


def _speed(
    items: list[Prepared],
    *,
    config: RunConfig,
    student: Whisper,
    teachers: tuple[Whisper, ...],
    ensembles: int,
    listen: float,
    audio_context: float,
) -> Speed:
    """Return how long transcribing takes, with the batch size of the run."""
    batch = filled(items, config.evaluation.batch_size)

    def transcribe(listener: Listener, compared: Teachers | None = None) -> float:
        _, seconds = timed(
            lambda: transcribe_set(
                batch,
                listener=listener,
                settings=config.evaluation,
                teachers=compared,
                audio_context=audio_context,
                advance=nothing,
            )
        )
        return seconds

    @torch.inference_mode()
    def encode() -> float:
        began = time.perf_counter()
        states = student.encode_rest(torch.stack([item.start for item in batch]), config.freeze_below)
        float(states[student.encoder_layers - 1].sum())  # wait for the device
        return time.perf_counter() - began

    of_teacher = transcribe(Together(teachers[:1], (0,), (1.0,)))
    before = transcribe(Student(student, config.freeze_below))
    whole = transcribe(Student(student, config.freeze_below), alike(teachers, student=student))
    after, divergence = min(before, encode() + of_teacher), max(0.0, whole - before)
    # An ensemble reads with every teacher, as all teachers do that are measured one by one.
    of_all = of_teacher * len(teachers) * (1 + ensembles)
    return Speed(listen, *(seconds / len(batch) for seconds in (of_all, before, after, divergence)))


def _shared_seconds(sizes: tuple[int, int, int], development: Speed, test: Speed, *, with_pseudo: bool) -> float:
    """Return what listening, and transcribing with teacher and student before, will take."""
    learnt, chosen, tested = sizes
    seconds = (learnt + chosen) * development.listen + tested * test.listen
    seconds += chosen * development.teacher + tested * test.teacher
    if with_pseudo:
        seconds += learnt * (development.teacher + development.listen)
    if tested:
        return seconds + tested * (test.before + test.divergence)
    return seconds + chosen * (development.before + development.divergence)


def _evenly(utterances: Sequence[Utterance], most: int) -> list[Utterance]:
    """Return some utterances, from the shortest to the longest; with transcripts where there are any."""
    ordered = sorted([item for item in utterances if item.text] or utterances, key=lambda item: item.duration)
    count = min(most, len(ordered))
    return [ordered[round(index * (len(ordered) - 1) / max(1, count - 1))] for index in range(count)]


def _mean_bytes(prepared: Sequence[Prepared], *, whole: bool = False) -> float:
    """Return the memory of an utterance's tensors; `whole`: of the teachers' whole encoder output alone."""
    tensors = [
        [each.encoder for each in item.teachers]
        if whole
        else [item.start, *(states for each in item.teachers for states in each.states.values())]
        for item in prepared
    ]
    sizes = [each.numel() * each.element_size() for of_item in tensors for each in of_item if each is not None]
    return sum(sizes) / len(prepared)
