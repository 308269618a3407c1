"""Measuring the parts of a job on this machine: short real passes, steps and transcriptions of models of some shapes.

Speed does not depend on weights, so they are drawn at random; tokens and features are those of Whisper tiny.en. Wide
models get few layers: what a layer takes is found as well from two as from thirty-two. Points are measured in turn,
round by round, so that whatever else the machine does meets all of them alike.
"""

import dataclasses
import datetime
import importlib.metadata
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

from core.audio import SAMPLE_RATE, write_flac
from core.config import PrunedStudent, RunConfig, parse_run
from core.errors import ManifoldError
from core.estimates import crowded
from core.evaluation import TOKENS_BESIDES_SPEECH, Student, transcribe_set
from core.families.whisper import Whisper, prune
from core.lora import add_adapters
from core.memory import memory_used
from core.pacing import Paced, Unseen
from core.preflight import pairs_of, point_map_of
from core.sample import nothing
from core.scaling.fit import Calibration, Kept, Point
from core.scaling.shapes import Shape
from core.scaling.work import TOKENS_PER_SECOND, Clips, Work, kept_values, listening_work, step_work, transcription_work
from core.side_by_side import Member, train_side_by_side
from core.sources import Utterance
from core.teacher_outputs import Prepared, Teachers, prepare_utterances, teacher_statistics
from core.training import Lesson, Watcher, train
from core.weights.load import LoadedWhisper, load_whisper

PACKAGES = ("torch", "transformers", "peft")
ROUNDS = 3
MANY_STEPS = 100_000
TEXT = "the quick brown fox jumps over the lazy dog and finds the cat asleep beside the warm stove"

ENCODER = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
QUERIES_VALUES = ("q_proj", "v_proj")
TOKENS = [{"kind": "cross_entropy"}, {"kind": "soft_labels"}]
STATES = [*TOKENS, {"kind": "geodesic", "weight": 8, "decoder": False}]


@dataclass(frozen=True)
class Trial:
    """A configuration that is measured.

    Attributes:
        part: Of a job.
        shape: Of the teacher: width, encoder layers, decoder layers.
        kept: Encoder and decoder layers of the student.
        batch: Utterances.
        seconds: Of audio in each.
        context: That the encoder sees, in seconds.
        frozen: Encoder layers of the student that are computed once.
        encoder: Which modules of the encoder are adapted.
        decoder: And of the decoder.
        rank: Of the adapters.
        losses: Terms of a step.
        students: Side by side.
        compared: Whether a transcribing student is compared with its teacher, too.
        held_out: Whether it is predicted, not fitted.
    """

    part: str
    shape: tuple[int, int, int]
    kept: tuple[int, int]
    batch: int
    seconds: float
    context: float
    frozen: int = 0
    encoder: tuple[str, ...] = ()
    decoder: tuple[str, ...] = ()
    rank: int = 8
    losses: Sequence[Mapping[str, object]] = ()
    students: int = 1
    compared: bool = False
    held_out: bool = False

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        width, encoder, decoder = self.shape
        said = f"width {width}, {encoder}+{decoder} layers, {self.batch} of {self.seconds:g} s in {self.context:g} s"
        if self.part == "listening":
            return said
        said = f"width {width}, {self.kept[0]}+{self.kept[1]} layers, {said.split(', ', 2)[2]}"
        if self.part == "transcription":
            return said
        where = " and ".join(name for name in ("encoder", "decoder") if getattr(self, name))
        many = f", {self.students} students" if self.students > 1 else ""
        return f"{said}, {self.frozen} frozen, rank {self.rank} in the {where}{many}"

    @property
    def clips(self) -> Clips:
        """What goes through it."""
        return Clips(self.batch, self.seconds, self.context)

    def config(self) -> RunConfig:
        """Return the run that it is a part of."""
        return parse_run(
            {
                "student": {
                    "kind": "pruned",
                    "encoder_layers": _evenly(self.kept[0], self.shape[1], self.frozen),
                    "decoder_layers": _evenly(self.kept[1], self.shape[2], 0),
                },
                "freeze_below": self.frozen,
                "lora": {
                    "rank": self.rank,
                    "alpha": self.rank,
                    "encoder_targets": self.encoder,
                    "decoder_targets": self.decoder or (() if self.encoder else QUERIES_VALUES),
                },
                "method": {"losses": self.losses or TOKENS, "mapping": {"encoder_layers": "spaced"}},
                "training": {
                    "steps": MANY_STEPS,
                    "batch_size": self.batch,
                    "audio_context": self.context,
                    "learning_rate": 1e-5,
                },
                "evaluation": {"batch_size": self.batch, "audio_context": self.context},
            }
        )


def _evenly(kept: int, of: int, frozen: int) -> tuple[int, ...]:
    """Return which layers of a teacher a student keeps: its first ones, which are frozen, and its last ones."""
    return (*range(min(frozen, kept)), *range(of - (kept - min(frozen, kept)), of))


TINY, BASE, WIDE = (384, 4, 4), (512, 6, 6), (1024, 2, 2)
_STEPS = (
    Trial("step", TINY, (3, 4), 2, 3, 15, frozen=2, encoder=ENCODER, rank=32, losses=STATES),
    Trial("step", TINY, (3, 4), 8, 4, 5, frozen=2, encoder=ENCODER, rank=16, losses=TOKENS),
    Trial("step", TINY, (4, 4), 2, 8, 30, encoder=QUERIES_VALUES, decoder=QUERIES_VALUES),
    Trial("step", TINY, (4, 4), 1, 2, 2, frozen=4, decoder=QUERIES_VALUES),
    Trial("step", TINY, (4, 2), 4, 8, 10, frozen=4, decoder=QUERIES_VALUES, students=8),
    Trial("step", TINY, (4, 4), 8, 10, 10, frozen=4, decoder=("q_proj",)),
    Trial("step", BASE, (6, 4), 2, 5, 5, encoder=QUERIES_VALUES, decoder=QUERIES_VALUES, losses=STATES),
    Trial("step", BASE, (5, 4), 2, 10, 15, frozen=3, encoder=ENCODER, rank=32, losses=STATES),
    Trial("step", BASE, (6, 4), 2, 8, 10, frozen=6, decoder=QUERIES_VALUES, students=4),
    Trial("step", BASE, (6, 6), 6, 4, 5, frozen=6, decoder=ENCODER),
    Trial("step", WIDE, (2, 2), 1, 5, 10, frozen=1, encoder=ENCODER, losses=STATES),
    Trial("step", WIDE, (2, 2), 1, 10, 15, frozen=2, decoder=QUERIES_VALUES, students=2),
    Trial("step", TINY, (4, 4), 4, 6, 15, frozen=2, encoder=ENCODER, rank=16, losses=STATES, held_out=True),
    Trial("step", TINY, (3, 4), 3, 9, 20, frozen=1, encoder=ENCODER, rank=8, losses=TOKENS, held_out=True),
    Trial("step", TINY, (4, 3), 6, 5, 8, frozen=4, decoder=QUERIES_VALUES, students=3, held_out=True),
    Trial("step", BASE, (4, 3), 4, 7, 10, frozen=2, encoder=ENCODER, rank=16, losses=STATES, held_out=True),
    Trial("step", BASE, (6, 4), 4, 9, 10, frozen=6, decoder=QUERIES_VALUES, rank=16, students=6, held_out=True),
    Trial("step", BASE, (6, 6), 3, 12, 15, encoder=QUERIES_VALUES, decoder=QUERIES_VALUES, rank=4, held_out=True),
    Trial("step", (768, 4, 3), (4, 3), 2, 8, 10, frozen=2, encoder=ENCODER, rank=32, losses=STATES, held_out=True),
)
_LISTENING = (
    Trial("listening", TINY, (4, 4), 1, 2, 2),
    Trial("listening", TINY, (4, 4), 8, 4, 5),
    Trial("listening", TINY, (4, 4), 4, 10, 15),
    Trial("listening", TINY, (4, 4), 2, 20, 30),
    Trial("listening", BASE, (6, 6), 4, 5, 5),
    Trial("listening", BASE, (6, 6), 2, 12, 15),
    Trial("listening", BASE, (6, 6), 1, 25, 30),
    Trial("listening", WIDE, (2, 2), 2, 5, 5),
    Trial("listening", WIDE, (2, 2), 2, 12, 15),
    Trial("listening", TINY, (4, 4), 8, 8, 10, held_out=True),
    Trial("listening", BASE, (6, 6), 6, 8, 10, held_out=True),
    Trial("listening", BASE, (6, 6), 2, 16, 20, held_out=True),
    Trial("listening", (768, 4, 4), (4, 4), 3, 8, 10, held_out=True),
    Trial("listening", (1280, 3, 3), (3, 3), 2, 10, 15, held_out=True),
)
_TRANSCRIPTION = (
    Trial("transcription", TINY, (4, 4), 1, 2, 5, frozen=1),
    Trial("transcription", TINY, (3, 4), 16, 3, 15, frozen=2, compared=True),
    Trial("transcription", TINY, (4, 2), 4, 4, 30, frozen=1),
    Trial("transcription", TINY, (4, 4), 2, 8, 10, frozen=4),
    Trial("transcription", BASE, (6, 6), 4, 3, 5, frozen=1),
    Trial("transcription", BASE, (6, 4), 8, 2, 15, frozen=3, compared=True),
    Trial("transcription", BASE, (6, 6), 1, 5, 30, frozen=6, compared=True),
    Trial("transcription", WIDE, (2, 2), 4, 3, 10, frozen=1, compared=True),
    Trial("transcription", TINY, (3, 4), 8, 4, 15, frozen=2, compared=True, held_out=True),
    Trial("transcription", BASE, (6, 6), 4, 4, 15, frozen=2, held_out=True),
    Trial("transcription", BASE, (5, 3), 12, 2, 10, frozen=5, compared=True, held_out=True),
    Trial("transcription", (768, 4, 3), (4, 3), 4, 3, 15, frozen=2, held_out=True),
)
TRIALS = (*_STEPS, *_LISTENING, *_TRANSCRIPTION)


def measure_parts(
    device: torch.device,
    *,
    clock: Callable[[], float] = time.perf_counter,
    rounds: int = ROUNDS,
    trials: Sequence[Trial] = TRIALS,
    advance: Callable[[str, int, int], None] = lambda part, done, total: None,
) -> Calibration:
    """Measure the parts of a job on a device, those that are fitted and those that are held out.

    Args:
        device: Where.
        clock: Gives seconds: of the wall, as jobs take them, or of the processor, which others disturb less.
        rounds: How often each trial is measured; the median counts. One more round does not count.
        trials: What is measured.
        advance: Told the part, and how many of its rounds are done.
    """
    busy, process_bytes = crowded(), memory_used(device)
    began = clock()
    loaded = load_whisper("openai/whisper-tiny.en")
    load_seconds = (clock() - began) / sum(weight.numel() for weight in loaded.model.parameters())
    points: list[Point] = []
    kept: list[Kept] = []
    with tempfile.TemporaryDirectory() as name:
        bench = _Bench(loaded, device, Path(name))
        for part in dict.fromkeys(trial.part for trial in trials):
            of_part = [trial for trial in trials if trial.part == part]
            rivals = [bench.rival(trial) for trial in of_part]
            seconds: list[list[float]] = [[] for _ in rivals]
            for number in range(rounds + 1):
                advance(part, number, rounds + 1)
                for rival, taken in zip(rivals, seconds, strict=True):
                    began = clock()
                    rival.act()
                    bench.wait()
                    taken.append(clock() - began)
            for rival, taken in zip(rivals, seconds, strict=True):
                trial = rival.trial
                points.append(Point(trial.name, part, rival.work, statistics.median(taken[1:]), trial.held_out))
                kept += [Kept(trial.name, rival.values, rival.size, trial.held_out)] if rival.values else []
                rival.close()
            bench.forget()
    cuda = device.type == "cuda"
    return Calibration(
        device=torch.cuda.get_device_name(device) if cuda else "CPU",
        clock="seconds of the wall" if clock is time.perf_counter else "seconds of the processor",
        threads=torch.get_num_threads(),
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        busy=busy or crowded(),
        points=tuple(points),
        kept=tuple(kept),
        load_seconds=load_seconds,
        process_bytes=process_bytes,
        memory=torch.cuda.mem_get_info(device)[1] if cuda else psutil.virtual_memory().total,
    )


@dataclass
class _Rival:
    """A trial that can be run again and again.

    Attributes:
        trial: Which.
        work: How much one time is.
        act: Does it once.
        close: Ends it.
        values: Kept by a step for its gradients, see `kept_values`.
        size: The same, as it was seen, in bytes.
    """

    trial: Trial
    work: Work
    act: Callable[[], object]
    close: Callable[[], None] = lambda: None
    values: dict[str, float] = dataclasses.field(default_factory=dict)
    size: float = 0.0


class _Bench:
    """Models of any shape, clips of any length, and trials of them."""

    def __init__(self, loaded: LoadedWhisper, device: torch.device, folder: Path) -> None:
        self._loaded, self._device, self._folder = loaded, device, folder
        self._models: dict[tuple[int, int, int], Whisper] = {}

    def forget(self) -> None:
        """Let the models go."""
        self._models.clear()

    def wait(self) -> None:
        """Wait until the device has computed what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def rival(self, trial: Trial) -> _Rival:
        """Return a trial with all that it needs."""
        config, teacher = trial.config(), self._teacher(trial.shape)
        assert isinstance(config.student, PrunedStudent)
        student = _unlike(prune(teacher, config.student), trial.frozen)
        utterances = self._speech(trial)
        # Words are counted as tokens, as they are read.
        clips = dataclasses.replace(trial.clips, tokens=len(student.tokens(utterances[0].text)))
        width, encoder, decoder = trial.shape
        whole = Shape(width, encoder, decoder, vocabulary=len(teacher.vocabulary))
        own = dataclasses.replace(whole, encoder_layers=trial.kept[0], decoder_layers=trial.kept[1])

        def listen() -> list[Prepared]:
            return prepare_utterances(
                utterances,
                teachers=[teacher],
                student=student,
                freeze_below=config.freeze_below,
                pairs=pairs_of(config, student=student, teachers=[teacher]) if config.method.aligns else (),
                audio_context=trial.context,
                keep_teacher_encoder=False,
                batch_size=trial.batch,
                advance=nothing,
            )

        if trial.part == "listening":
            work = listening_work([whole], own, clips, freeze_below=trial.frozen, shares_start=True)
            return _Rival(trial, work, listen)
        prepared = listen()
        if trial.part == "transcription":
            compared = Teachers((teacher,)) if trial.compared else None

            def write() -> None:
                transcribe_set(
                    prepared,
                    listener=Student(student, config.freeze_below),
                    settings=config.evaluation,
                    teachers=compared,
                    audio_context=trial.context,
                    advance=nothing,
                )

            steps = TOKENS_BESIDES_SPEECH + int(config.evaluation.tokens_per_second * trial.seconds)
            with_teacher = [whole] if trial.compared else []
            work = transcription_work([own], clips, steps=steps, first=trial.frozen, compared=with_teacher)
            return _Rival(trial, work, write)
        return self._steps(trial, config, student, teacher, prepared, (whole, own), clips)

    def _steps(
        self,
        trial: Trial,
        config: RunConfig,
        student: Whisper,
        teacher: Whisper,
        prepared: list[Prepared],
        shapes: tuple[Shape, Shape],
        clips: Clips,
    ) -> _Rival:
        """Return the training loop of some students, step by step."""
        pairs = pairs_of(config, student=student, teachers=[teacher]) if config.method.aligns else ()
        lesson = Lesson(prepared, pairs, Teachers((teacher,)))
        of_states = teacher_statistics(prepared) if config.method.aligns else ()

        def member(config: RunConfig, watcher: Watcher) -> Member:
            adapted = add_adapters(student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
            point_map = point_map_of(config, student=student, teachers=[teacher], statistics=of_states)
            point_map.to(self._device)
            return Member(config, student.with_model(adapted), point_map, lesson, watcher)

        def loop(watcher: Watcher, steps: int = MANY_STEPS) -> None:
            short = config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})
            if trial.students == 1:
                one = member(short, watcher)
                train(short, student=one.student, point_map=one.point_map, lesson=lesson, watcher=watcher)
            else:
                last = trial.students - 1
                members = [member(short, watcher if place == last else Unseen()) for place in range(trial.students)]
                train_side_by_side(members, frozen=student, failed=_refuse)

        sizes: dict[int, int] = {}
        weights = {weight.untyped_storage().data_ptr() for model in (student, teacher) for weight in _weights(model)}

        def keep(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loop(Unseen(), steps=1)
        paced = Paced(loop)
        work = step_work(config, [shapes[0]], shapes[1], clips, students=trial.students)
        values = kept_values(config, shapes[1], clips, students=trial.students)
        return _Rival(trial, work, paced, paced.close, values, sum(sizes.values()))

    def _teacher(self, shape: tuple[int, int, int]) -> Whisper:
        """Return a model of a shape with random weights, on the device."""
        if shape not in self._models:
            width, encoder, decoder = shape
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = WhisperForConditionalGeneration(
                    WhisperConfig(
                        **{
                            **self._loaded.model.config.to_dict(),
                            "d_model": width,
                            "encoder_layers": encoder,
                            "decoder_layers": decoder,
                            "num_hidden_layers": encoder,
                            "encoder_attention_heads": width // 64,
                            "decoder_attention_heads": width // 64,
                            "encoder_ffn_dim": 4 * width,
                            "decoder_ffn_dim": 4 * width,
                        }
                    )
                )
            model.set_attn_implementation("sdpa")
            made = dataclasses.replace(self._loaded, model=model.eval().requires_grad_(False))
            self._models[shape] = Whisper(made, language="en").to(self._device)
        return self._models[shape]

    def _speech(self, trial: Trial) -> list[Utterance]:
        """Return clips of noise with texts of the usual length."""
        draw = np.random.default_rng(0)
        words = max(1, round(TOKENS_PER_SECOND * trial.seconds))
        text = " ".join(islice(cycle(TEXT.split()), words))
        clips = []
        for number in range(trial.batch):
            path = self._folder / f"{trial.seconds:g}-{number}.flac"
            if not path.exists():
                noise = 0.1 * draw.normal(size=round(trial.seconds * SAMPLE_RATE))
                write_flac(path, noise.clip(-1, 1).astype(np.float32))
            clips.append(Utterance(path.stem, path, text, None, trial.seconds))
        return clips


@torch.no_grad()
def _unlike(student: Whisper, frozen: int) -> Whisper:
    """Return a student whose last layers are changed: one that is all of its teacher has nothing to learn."""
    changed = [student.decoder, *([student.encoder] if frozen < student.encoder_layers else [])]
    for side in changed:
        side.layers[-1].get_submodule("fc2").get_parameter("weight").mul_(2)
    return student


def _weights(model: Whisper) -> list[Tensor]:
    return list(model.model.parameters())


def _refuse(number: int, error: ManifoldError) -> None:
    raise error
