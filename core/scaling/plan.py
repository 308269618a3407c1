"""What a job of any size takes: time by part, memory of a device, and disk.

The first device listens for all. Then each has its share of the students (`core.spread`); those that may be trained
side by side are, as in `core.companies`. Of a single student each has its part of every batch (`core.parts`). What is
left out is said in `LEFT_OUT`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.companies import companies
from core.config import PrunedStudent, RunConfig
from core.errors import ConfigError, Problem
from core.scaling.fit import Calibration
from core.scaling.shapes import FLOAT_BYTES, Shape, shapes_of
from core.scaling.work import (
    FRAME_STRIDE,
    PROBE_POINTS,
    PROBE_UTTERANCES,
    TOKENS_BESIDES_SPEECH,
    Clips,
    aligned_layers,
    kept_values,
    listening_work,
    prepare_batch,
    step_work,
    trained_parameters,
    transcription_work,
)

LEFT_OUT = "Left out: downloads, speech that is still to be made, probes and maps."
BETWEEN_DEVICES = " What devices that train one student say to each other is left out, too."
USUAL_CLIP = 10.0
USUAL_SET = 200
HALF_BYTES = 2


@dataclass(frozen=True)
class Size:
    """How large a job is to be.

    Attributes:
        hours: Of training audio.
        students: To be trained.
        epochs: How often each reads all of it.
        devices: That share them, or train a single one together.
        clip_seconds: Mean length of an utterance.
        development: Utterances that choose the checkpoint.
        test: Utterances that are read at the end.
    """

    hours: float
    students: int = 1
    epochs: float = 1.0
    devices: int = 1
    clip_seconds: float = USUAL_CLIP
    development: int = USUAL_SET
    test: int = USUAL_SET

    @property
    def train(self) -> int:
        """Utterances for training."""
        return max(1, round(3600 * self.hours / self.clip_seconds))


@dataclass(frozen=True)
class Plan:
    """What a job takes.

    Attributes:
        seconds: By part, on the device that is busy longest.
        memory: By part, of the fullest device, in bytes.
        disk: By part, in bytes.
        free: Memory that a device has in all.
        error: How far times may be off, as a fraction; see `Calibration.error`.
        device: In words, with when it was measured.
        steps: Of each student.
        companies: Numbers of students that are trained side by side, on the busiest device.
        together: How many devices train one student together.
    """

    seconds: Mapping[str, float]
    memory: Mapping[str, float]
    disk: Mapping[str, float]
    free: int
    error: float
    device: str
    steps: int
    companies: tuple[int, ...]
    together: int = 1

    @property
    def left_out(self) -> str:
        """What is not counted, in words."""
        return LEFT_OUT + (BETWEEN_DEVICES if self.together > 1 else "")

    @property
    def total_seconds(self) -> float:
        """From start to end."""
        return sum(self.seconds.values())

    @property
    def total_memory(self) -> float:
        """What is held at the fullest moment, in bytes."""
        return sum(self.memory.values())

    @property
    def total_disk(self) -> float:
        """All that is written, in bytes."""
        return sum(self.disk.values())

    def between(self, value: float) -> tuple[float, float]:
        """Return the range that a value may lie in, as far as the held-out points tell."""
        return value * max(0.0, 1 - self.error), value * (1 + self.error)


def plan(
    configs: Sequence[RunConfig], size: Size, calibration: Calibration, *, rows: Mapping[str, Shape] | None = None
) -> Plan:
    """Predict what a job takes.

    Args:
        configs: Runs that are computed together; students are made of them in turn.
        size: How large it is to be.
        calibration: What was measured.
        rows: Students of earlier rows that teach, by name.

    Raises:
        ConfigError: With every number that cannot be, and every model whose shape is not known.
    """
    problems = size_problems(configs, size)
    shapes: tuple[tuple[Shape, ...], Shape] | None = None
    try:
        shapes = shapes_of(configs[0], rows)
    except ConfigError as error:
        problems += error.problems
    if problems or shapes is None:
        raise ConfigError("This cannot be planned:", problems)
    job = _Job([configs[number % len(configs)] for number in range(size.students)], *shapes, size, calibration)
    dealt = job.dealt(min(size.devices, size.students))
    busiest = max(dealt, key=job.busy)
    return Plan(
        seconds={**job.shared_seconds(), **job.own_seconds(busiest)},
        memory=max((job.memory(each) for each in dealt), key=lambda memory: sum(memory.values())),
        disk=job.disk(processes=max(len(dealt), job.parts)),
        free=calibration.memory,
        error=calibration.error,
        device=told(calibration),
        steps=job.steps,
        companies=tuple(len(company) for company in busiest),
        together=job.parts,
    )


def told(calibration: Calibration) -> str:
    """Return where and when the parts were measured, in words."""
    many = "one thread" if calibration.threads == 1 else f"{calibration.threads} threads"
    threads = f", {many}" if calibration.device == "CPU" else ""
    busy = "; the machine had other work meanwhile, so times are too long" if calibration.busy else ""
    return f"{calibration.device}{threads}, measured at {calibration.measured_at} in {calibration.clock}{busy}"


def size_problems(configs: Sequence[RunConfig], size: Size) -> list[Problem]:
    """Return every number that cannot be."""
    problems = [
        Problem(name, f"is {value:g}; give a number above 0")
        for name, value in (("hours", size.hours), ("epochs", size.epochs), ("clip", size.clip_seconds))
        if not (value > 0 and math.isfinite(value))
    ]
    problems += [
        Problem(name, f"is {value}; give a whole number from {least}")
        for name, value, least in (
            ("students", size.students, 1),
            ("gpus", size.devices, 1),
            ("development", size.development, 1),
            ("test", size.test, 0),
        )
        if value < least
    ]
    context = min(configs[0].training.audio_context, configs[0].evaluation.audio_context)
    if size.clip_seconds > context:
        problems.append(
            Problem("clip", f"is {size.clip_seconds:g} s, and the encoder hears {context:g} s: raise audio_context")
        )
    return problems


Companies = list[list[RunConfig]]
"""What one device trains: students side by side, or one alone, one company after the other."""


class _Job:
    """A job, part by part."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        teachers: tuple[Shape, ...],
        student: Shape,
        size: Size,
        calibration: Calibration,
    ) -> None:
        self.configs, self._teachers, self._student = configs, teachers, student
        self._size, self._measured = size, calibration
        self._first = configs[0]
        self._test = size.test if self._first.evaluation.test else 0
        self._with_pseudo = any(config.method.transcripts == "teacher" for config in configs)
        self._contexts = (self._first.training.audio_context, self._first.evaluation.audio_context)
        self._batch = min(self._first.training.batch_size, size.train)
        self.steps = max(1, math.ceil(size.epochs * size.train / self._batch))
        self.parts = min(size.devices, self._batch) if size.students == 1 else 1
        # The largest part: all wait for it.
        self._at_once = math.ceil(self._batch / self.parts)

    def dealt(self, devices: int) -> list[Companies]:
        """Return what each device trains: a company goes to the one that is free first."""
        hands: list[Companies] = [[] for _ in range(devices)]
        for company in companies(self.configs, devices):
            min(hands, key=self.busy).append([self.configs[number] for number in company])
        return [hand for hand in hands if hand]

    def busy(self, hand: Companies) -> float:
        """Return how long a device trains."""
        return sum(self.own_seconds(hand).values())

    def shared_seconds(self) -> dict[str, float]:
        size, teachers = self._size, self._teachers
        train, test = self._contexts
        models = sum(shape.parameters for shape in (*teachers, self._student))
        learnt_at = self._first.training.context_of(size.clip_seconds)
        # Texts are written at the whole context: transcripts of both kinds are then learnt at another.
        again = self._with_pseudo and learnt_at != train
        ensembles = {config.ensemble.label for config in self.configs if config.ensemble.combine != "single"}
        readings = 1 + (len(ensembles) if len(teachers) > 1 else 0)
        by_teachers = sum(
            count * self._transcribe([teacher], context, begins=None)
            for count, context in (
                (size.development + (size.train if self._with_pseudo else 0), train),
                (self._test, test),
            )
            for teacher in teachers
        )
        of_students = [self._student]
        # Before training a student may write until its cap.
        before = self._transcribe(of_students, *((test,) if self._test else (train,)), cap=True, compared=True)
        return {
            "loading the models": self._measured.load_seconds * models,
            "listening": size.train * (1 + again) * self._listen(learnt_at)
            + (size.development + size.train * self._with_pseudo) * self._listen(train)
            + self._test * self._listen(test),
            "transcribing before": readings * by_teachers + (self._test or size.development) * before,
        }

    def own_seconds(self, hand: Companies) -> dict[str, float]:
        train, test = self._contexts
        students, of_students = [config for company in hand for config in company], [self._student]
        return {
            "training": sum(self._step(company[0], len(company)) for company in hand) * self.steps,
            "development sets": sum(config.training.evaluations for config in students)
            * self._size.development
            * self._transcribe(of_students, train),
            "test sets": len(students) * self._test * self._transcribe(of_students, test, compared=True),
        }

    def memory(self, hand: Companies) -> dict[str, float]:
        size, measured = self._size, self._measured
        train, test = (Clips(1, size.clip_seconds, context) for context in self._contexts)
        widest = sum(teacher.width for teacher in self._teachers) * FLOAT_BYTES
        listening = widest * max(size.development * train.frames, self._test * test.frames)
        if self._with_pseudo:
            listening = max(listening, widest * size.train * train.frames)
        training = max(
            measured.kept_bytes(
                kept_values(company[0], self._student, replace(train, count=self._at_once), students=len(company))
            )
            + 4 * FLOAT_BYTES * sum(sum(trained_parameters(one, self._student, self._teachers)) for one in company)
            for company in hand
        )
        return {
            "the process": measured.process_bytes,
            "weights": sum(teacher.weight_bytes for teacher in self._teachers) + self._student.weight_bytes,
            "prepared states": self._all_prepared(),
            # They are never held at once: listening, training, and a merged student that is tested.
            "the largest of listening, training and testing": max(listening, training, self._student.weight_bytes),
        }

    def disk(self, *, processes: int) -> dict[str, float]:
        frames = Clips(1, self._size.clip_seconds, self._contexts[0]).valid_frames / FRAME_STRIDE
        utterances = min(PROBE_UTTERANCES, self._size.development)
        each_layer = HALF_BYTES * utterances * frames
        adapters, states = 0.0, 0.0
        for config in self.configs:
            adapters += 2 * FLOAT_BYTES * sum(trained_parameters(config, self._student, self._teachers))
            trained = self._student.encoder_layers - config.freeze_below
            pairs = aligned_layers(config, self._student)[0]
            widths = trained * self._student.width + 2 * pairs * sum(teacher.width for teacher in self._teachers)
            states += PROBE_POINTS * each_layer * widths
        teacher = self._teachers[0]
        return {
            "adapters": adapters,
            "states": states + each_layer * teacher.width * teacher.encoder_layers,
            **({"handed over, while it trains": self._all_prepared()} if processes > 1 else {}),
            # The states that are held in memory, in half their precision; compact takes less, texts hardly count.
            **({} if self._first.training.teacher_outputs == "live" else {"cache": self._all_prepared() / 2}),
        }

    def _listen(self, context: float) -> float:
        """Return what one utterance takes."""
        at_once = prepare_batch(self._measured.device != "CPU")
        clips = Clips(at_once, self._size.clip_seconds, context)
        student = self._first.student
        shares = isinstance(student, PrunedStudent) and student.model is None
        kept = student.encoder_layers if isinstance(student, PrunedStudent) else None
        frozen = self._first.freeze_below
        shares = shares and (kept is None or tuple(kept[:frozen]) == tuple(range(frozen)))
        work = listening_work(self._teachers, self._student, clips, freeze_below=frozen, shares_start=shares)
        return self._measured.seconds("listening", work) / at_once

    def _transcribe(
        self,
        models: Sequence[Shape],
        context: float,
        *,
        begins: int | None = -1,
        cap: bool = False,
        compared: bool = False,
    ) -> float:
        """Return what one utterance takes; `begins` None is a teacher, whose encoder's output is there."""
        settings = self._first.evaluation
        clips = Clips(settings.batch_size, self._size.clip_seconds, context)
        steps = TOKENS_BESIDES_SPEECH + settings.tokens_per_second * self._size.clip_seconds if cap else clips.text
        first = None if begins is None else self._first.freeze_below
        work = transcription_work(models, clips, steps=steps, first=first, compared=self._teachers if compared else ())
        return self._measured.seconds("transcription", work) / settings.batch_size

    def _step(self, config: RunConfig, students: int) -> float:
        clips = Clips(self._at_once, self._size.clip_seconds, config.training.context_of(self._size.clip_seconds))
        work = step_work(config, self._teachers, self._student, clips, students=students)
        return self._measured.seconds("step", work)

    def _all_prepared(self) -> float:
        """Return the bytes of what is kept of all utterances."""
        train, test = (Clips(1, self._size.clip_seconds, context) for context in self._contexts)
        learnt = self._size.train * (2 if self._with_pseudo else 1) + self._size.development
        return learnt * self._prepared(train) + self._test * self._prepared(test)

    def _prepared(self, clips: Clips) -> float:
        """Return the bytes of what is kept of one utterance for all students."""
        encoder, decoder = 0, 0
        for config in self.configs:
            pairs = aligned_layers(config, self._student)
            encoder, decoder = max(encoder, pairs[0]), max(decoder, pairs[1])
        values = clips.frames * self._student.width
        for teacher in self._teachers:
            # The last decoder state is there anyway.
            values += teacher.width * (encoder * clips.valid_frames + max(decoder, 1) * clips.text)
        return FLOAT_BYTES * values
