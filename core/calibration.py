"""Measuring the parts of a job on this machine: short real passes, steps and transcriptions of models of some shapes.

Speed does not depend on weights, so they are drawn at random; tokens and features are those of Whisper tiny.en. What is
measured is listed in core.scaling.trials. Trials are measured in turn, round by round, so that whatever else happens
on the machine meets all of them alike.
"""

import dataclasses
import datetime
import importlib.metadata
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

from core.audio import SAMPLE_RATE, write_flac
from core.config import PrunedStudent, RunConfig
from core.errors import ManifoldError
from core.estimates import crowded
from core.evaluation import Student, transcribe_set
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.lora import add_adapters
from core.memory import memory_used
from core.pacing import Paced, Unseen
from core.precision import heard_in, products_in
from core.preflight import pairs_of, point_map_of
from core.sample import nothing
from core.scaling.fit import Calibration, Kept, Point
from core.scaling.trials import MANY_STEPS, MODEL, TRIALS, Trial
from core.scaling.work import Work, kept_values
from core.side_by_side import Member, train_side_by_side
from core.sources import Utterance
from core.teacher_outputs import Prepared, Teachers, prepare_utterances, teacher_statistics
from core.training import Lesson, Watcher, train
from core.weights.load import LoadedWhisper, load_whisper

PACKAGES = ("torch", "transformers", "peft")
ROUNDS = 3


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
    loaded = load_whisper(MODEL)
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
        tokens = len(student.tokens(trial.text))

        def listen() -> list[Prepared]:
            with products_in(heard_in(config.training, self._device), self._device):
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
            return _Rival(trial, trial.work(tokens), listen)
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

            return _Rival(trial, trial.work(tokens), write)
        return self._steps(trial, tokens, student, teacher, prepared)

    def _steps(self, trial: Trial, tokens: int, student: Whisper, teacher: Whisper, prepared: list[Prepared]) -> _Rival:
        """Return the training loop of some students, step by step."""
        config = trial.config()
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
        values = kept_values(config, trial.shapes()[1], trial.clips(tokens), students=trial.students)
        return _Rival(trial, trial.work(tokens), paced, paced.close, values, sum(sizes.values()))

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
        clips = []
        for number in range(trial.batch):
            path = self._folder / f"{trial.seconds:g}-{number}.flac"
            if not path.exists():
                noise = 0.1 * draw.normal(size=round(trial.seconds * SAMPLE_RATE))
                write_flac(path, noise.clip(-1, 1).astype(np.float32))
            clips.append(Utterance(path.stem, path, trial.text, None, trial.seconds))
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
