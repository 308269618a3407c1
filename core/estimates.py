"""What a run will take in time, memory and disk: some real steps of it on the real device, before it starts.

On a sample of its job (core.sample) a run makes a few steps of the one training loop, with every term at work, and one
probe; all else is counted from that. Nothing is kept: files go to a folder that is thrown away.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from core.checkpoints import save_adapters
from core.config import RunConfig
from core.families.whisper import Whisper
from core.launchers.gpus import visible_gpus
from core.launchers.slots import CPU, device_slots, slot_taken
from core.lora import add_adapters
from core.mapping import PointMap, PointMaps
from core.memory import PeakMemory, memory_free, memory_used
from core.paths import first_there
from core.preflight import devices_of, pairs_of, point_map_of, within_budget
from core.probes import ProbeSet, every_layer
from core.pseudo_labels import training_set
from core.recording import Recorder
from core.sample import Sample, filled, nothing, timed
from core.scaling.work import PROBE_POINTS, PROBE_UTTERANCES
from core.store import Estimate, Store
from core.teacher_outputs import teachers_of, weighed
from core.training import Lesson, train
from core.watching import RunWatcher

WARM_STEPS = 2
"""First steps, which are slower and are left out."""

TIMED_STEPS = 5
LONGEST_SECONDS = 20.0
"""After this long, one step besides the warm ones is enough."""


def measure(
    config: RunConfig, sample: Sample, *, runs_folder: Path, folder: Path, load_seconds: float = 0.0
) -> Estimate:
    """Make a few steps of a run and count what the whole of it will take.

    Args:
        config: The run.
        sample: Of its job.
        runs_folder: Where it will be kept.
        folder: For what is written now.
        load_seconds: What loading the models took.

    Raises:
        GradientPathError: If a term or an adapter learns nothing.
        NotFiniteError: If the loss is not finite.
        ConfigError: If there is nothing to learn from.
    """
    device = sample.student.device
    free = memory_free(device) + memory_used(device)
    with PeakMemory(device) as memory:
        steps, step_seconds, probe_seconds, state_bytes, adapter_bytes = _practise(config, sample, folder)
    training_seconds = step_seconds * config.training.steps
    train_size, development, test = sample.sizes
    devices = len(devices_of(config))
    transcribed = config.training.evaluations * development * sample.development.after
    tested = test * (sample.test.after + sample.test.divergence)
    teacher_state_bytes = _size(folder / "teacher")
    return Estimate(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        steps=steps,
        step_seconds=step_seconds,
        training_seconds=training_seconds,
        run_seconds=training_seconds + PROBE_POINTS * probe_seconds + transcribed + tested,
        shared_seconds=load_seconds + sample.shared_seconds,
        transcribe_seconds=sample.test.after,
        peak_memory=memory.peak + sample.prepared_bytes,
        listening_memory=memory_used(device) + sample.prepared_bytes + sample.listening_bytes,
        memory_free=free,
        audio_bytes=sample.audio_bytes,
        teacher_state_bytes=teacher_state_bytes,
        adapter_bytes=2 * adapter_bytes,
        state_bytes=PROBE_POINTS * state_bytes,
        disk_free=_disk_free(runs_folder),
        busy=any(slot_taken(device_slots(), name) for name in _slots_of(device)) or crowded(),
        devices=devices,
        parts=min(devices, config.training.batch_size, train_size),
    )


def all_terms_at_once(config: RunConfig, *, steps: int) -> RunConfig:
    """Return a short run in which every term counts from the first step to the last, whatever its stage."""
    whole = {"begins": 0.0, "ends": 1.0, "warmup": 0.0, "final": 1.0}
    losses = tuple(loss.model_copy(update=whole) for loss in config.method.losses)
    return config.model_copy(
        update={
            "method": config.method.model_copy(update={"losses": losses}),
            "training": config.training.model_copy(update={"steps": steps}),
        }
    )


def _slots_of(device: torch.device) -> list[str]:
    """Return what a job holds that works on devices of this kind."""
    return [CPU] if device.type == "cpu" else visible_gpus()


def crowded() -> bool:
    """Return whether others want the processor, too: steps then take several times longer."""
    return psutil.getloadavg()[0] > (os.cpu_count() or 1) + 1


class Stopwatch:
    """Watches a training loop for the time of its steps, and lets it stop after a while.

    Attributes:
        seconds: Of each step.
    """

    def __init__(self, longest_seconds: float) -> None:
        self.seconds: list[float] = []
        self._longest = longest_seconds
        self._began = time.perf_counter()

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Note how long a step took; its metrics were read from the device, so it is over."""
        self.seconds.append(seconds)

    def pause(self, step: int) -> None:
        """Go on, unless enough was seen.

        Raises:
            Enough: If it takes too long.
        """
        if len(self.seconds) > WARM_STEPS and time.perf_counter() - self._began > self._longest:
            raise Enough


class Enough(Exception):
    """The stopwatch has seen enough."""


def _practise(config: RunConfig, sample: Sample, folder: Path) -> tuple[int, float, float, int, int]:
    """Return how many steps were timed, the seconds of one and of a probe, and the bytes of its states and adapters."""
    config = within_budget(config, student=sample.student, teachers=sample.teachers)
    adapted = add_adapters(sample.student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    student = sample.student.with_model(adapted)
    even = [0.0] * len(sample.teachers)
    teachers, of_states = teachers_of(
        config.ensemble,
        models=sample.teachers,
        statistics=sample.statistics,
        train=sample.train,
        read=sample.train,
        wers=even,
    )
    point_map = point_map_of(config, student=sample.student, teachers=sample.teachers, statistics=of_states)
    point_map.to(sample.student.device)
    pairs = pairs_of(config, student=sample.student, teachers=sample.teachers)
    # A handful of utterances says nothing about how many the filter will leave.
    method = config.method.model_copy(update={"largest_wer": float("inf")})
    size = min(config.training.batch_size, sample.sizes[0])
    learnt = weighed(training_set(method, sample.train, sample.pseudo), config.ensemble, even)
    # A batch has one context: some steps of each, which count as often as there are utterances of it.
    contexts = Counter(item.audio_context for item in learnt)
    steps, step_seconds = 0, 0.0
    for context, count in sorted(contexts.items()):
        watch = Stopwatch(LONGEST_SECONDS / len(contexts))
        of_one_length = filled([item for item in learnt if item.audio_context == context], size)
        with suppress(Enough):
            train(
                all_terms_at_once(config, steps=WARM_STEPS + TIMED_STEPS),
                student=student,
                point_map=point_map,
                lesson=Lesson(of_one_length, pairs, teachers),
                watcher=watch,
            )
        timed_steps = watch.seconds[WARM_STEPS:]
        steps += len(timed_steps)
        step_seconds += statistics.median(timed_steps) * count / len(learnt)
    # A probe has one context, too: that of its longest utterance.
    context, frozen = max(contexts), config.freeze_below
    longest = [item for item in sample.train if item.audio_context == context]
    probed = filled(longest, min(PROBE_UTTERANCES, sample.sizes[1]))
    of_job = ProbeSet(probed, sample.pairs, sample.statistics, context, frozen)
    heard = {
        number: [every_layer(item.utterance, teacher=sample.teachers[number], audio_context=context) for item in probed]
        for number in of_job.met
    }
    of_job.save_teachers(folder / "teacher", teachers=heard, student=sample.student, runs_folder=folder)
    probe = ProbeSet(teachers.met(probed), pairs, of_states, context, frozen)
    fresh = Path(tempfile.mkdtemp(dir=folder))
    saved = save_adapters(fresh, model=adapted, point_map=point_map, step=0, names=("last",))
    seconds, states = _probe_once(config, probe, student=student, point_map=point_map, folder=folder)
    return steps, step_seconds, seconds, states, _size(saved)


def _probe_once(
    config: RunConfig, probe: ProbeSet, *, student: Whisper, point_map: PointMap | PointMaps, folder: Path
) -> tuple[float, int]:
    """Return how long a run's probe takes, and the bytes of the states that it stores."""
    store = Store.open(f"sqlite:///{folder / 'practice.db'}")
    try:
        run = store.runs(job_id=store.create_job("practice", [config]).id)[0]
        watcher = RunWatcher(
            run,
            config,
            student=student,
            point_map=point_map,
            development=(),
            probe=probe,
            recorder=Recorder(run.job_id, store, folder, config, advance=nothing),
            advance=nothing,
        )
        _, seconds = timed(lambda: watcher.pause(0))
    finally:
        store.close()
    return seconds, _size(folder / run.id / "states")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _disk_free(folder: Path) -> int:
    return shutil.disk_usage(first_there(folder)).free
