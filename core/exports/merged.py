"""The student with its adapters merged, as a transformers folder that any Whisper program reads."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from core.audio import SAMPLE_RATE, read_audio
from core.config import Evaluation, RunConfig
from core.errors import ConfigError, ModelError, NotFoundError, StoreError
from core.evaluation import token_cap
from core.exports.processor import write_processor
from core.families.whisper import Whisper
from core.lora import deployed
from core.paths import exists, expanded, is_file, is_folder
from core.preflight import load_student
from core.store.records import RunRecord
from core.store.store import Store
from core.teachers import Finder
from core.weights.load import load_whisper

CLIPS = 4

LONGEST_SHOWN = 80
"""Characters of a setting that are repeated."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: The model's folder.
        heard: Clips that the model on disk transcribed as the model in memory did, and their texts.
        left_out: Generation settings of the base model that no program could save again.
    """

    folder: Path
    heard: dict[Path, str]
    left_out: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What was written and how it was checked, in sentences."""
        said = f"{self.folder}: loaded again, every weight is the same"
        if self.heard:
            said += f", and it said the same on {len(self.heard)} clip{'' if len(self.heard) == 1 else 's'}."
        else:
            said += "; it was not tried on speech, because no clip of the run's job is left."
        if self.left_out:
            names = ", ".join(f"{name} = {value!r}"[:LONGEST_SHOWN] for name, value in sorted(self.left_out.items()))
            said += f" Left out of generation_config.json, because transformers refuses to save it: {names}."
        return said


def export_merged(run: RunRecord, *, store: Store, runs_folder: Path, to: Path) -> Export:
    """Write a run's best student with its adapters merged, load it again, and make sure that it says the same.

    The folder holds model.safetensors, config.json, generation_config.json, and the files of `write_processor`. It
    appears whole, after the check, or not at all. The projection is not in it: it belongs to training.

    Args:
        run: A run that has adapters.
        store: Names clips of the run's test set to listen to.
        runs_folder: Where the run's files are.
        to: A folder that does not exist yet, or is empty.

    Raises:
        ConfigError: If the target folder holds something, or the run has nothing that can be merged.
        NotFoundError: If the run has no adapters.
        ModelError: If the base model cannot be loaded, or the exported one is not the same.
        StoreError: If the disk refuses.
    """
    config = RunConfig.model_validate(run.config)
    if config.lora.mixture is not None:
        raise ConfigError(
            f"The run {run.id} ({run.name}) is a mixture of experts. Routers weigh them anew for every frame, so they "
            "cannot be merged into the weights that an export holds. Export a run without lora.mixture."
        )
    to = expanded(to).absolute()
    _require_empty(to)
    adapters = runs_folder / run.id / "adapters" / "best"
    if not is_folder(adapters):
        raise NotFoundError(f"The run {run.id} ({run.name}) has no adapters to export. Choose a run that has finished.")
    student = load_student(config, Finder(store, runs_folder, run.job_id))
    with _quiet():
        student = student.with_model(deployed(student.plain, adapters).eval())
    clips = _clips(run, store, runs_folder)
    expected = _hear(student, clips, config.evaluation)
    staging = _staging_beside(to)
    try:
        with _quiet():
            _write(student, staging)
        again = Whisper(load_whisper(str(staging)), language=config.language)
        require_same(student, again, expected=expected, heard=_hear(again, clips, config.evaluation))
        os.rename(staging, to)
    except (OSError, RuntimeError) as error:  # safetensors reports a full disk as a RuntimeError of its own
        raise StoreError(f"{to} cannot be written ({error}). Check the free space and the permissions.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Export(to, expected, student.loaded.left_out)


def require_same(student: Whisper, again: Whisper, *, expected: dict[Path, str], heard: dict[Path, str]) -> None:
    """Compare what was written with what should have been: every weight, and the text of every clip.

    Args:
        student: The merged model in memory.
        again: The one that was loaded from disk.
        expected: What the first one hears, by clip.
        heard: What the second one hears in the same clips.

    Raises:
        ModelError: If they differ.
    """
    weights, written = student.model.state_dict(), again.model.state_dict()
    differ = sorted(weights.keys() ^ written.keys()) or [
        name for name in weights if not torch.equal(weights[name], written[name])
    ]
    if differ:
        raise ModelError(
            f"The exported model differs from the trained one in {differ[0]}; nothing was kept. Try again."
        )
    for clip, text in expected.items():
        if heard[clip] != text:
            raise ModelError(
                f"The exported model hears {heard[clip]!r} in {clip}, the trained one {text!r}; nothing was kept."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep peft's advice to programmers and transformers' bars from whoever exports: they can do nothing about them."""
    bars = transformers_logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            if bars:
                transformers_logging.enable_progress_bar()


def _require_empty(folder: Path) -> None:
    try:
        taken = exists(folder) and (not is_folder(folder) or any(folder.iterdir()))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be looked at ({error.strerror}). Name a new folder.") from error
    if taken:
        raise ConfigError(f"{folder} is not an empty folder. Name a new one, so that nothing is overwritten.")


def _staging_beside(folder: Path) -> Path:
    """Return a new folder on the target's disk, so that it can be renamed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        staging.chmod(0o755)
        return staging
    except OSError as error:
        raise StoreError(f"{folder.parent} cannot be written ({error}). Check the permissions.") from error


def _clips(run: RunRecord, store: Store, runs_folder: Path) -> list[Path]:
    """Return some clips that are still there: of the run's test set, or else of what its job transcribed at all.

    A run that was interrupted has no test of its own; its teachers have.
    """
    of_job = sorted(store.evaluations(job_id=run.job_id), key=lambda each: each.test_set != "test")
    for evaluation in (*store.evaluations(run_id=run.id, test_set="test"), *of_job):
        results = store.utterance_results(evaluation.id)
        paths = dict.fromkeys(runs_folder / result.audio_path for result in results)
        there = [path for path in paths if is_file(path)]
        if there:
            return there[:CLIPS]
    return []


@torch.inference_mode()
def _hear(model: Whisper, clips: list[Path], settings: Evaluation) -> dict[Path, str]:
    texts = {}
    for clip in clips:
        audio = read_audio(clip, may_be_silent=True)
        states = model.encode_rest(model.encode_start(model.mel([audio], settings.audio_context), 0), 0)
        cap = token_cap(settings, len(audio) / SAMPLE_RATE)
        heard = model.cross_attention(states[model.encoder_layers - 1])
        (texts[clip],) = model.transcribe(heard, token_caps=[cap])
    return texts


def _write(student: Whisper, folder: Path) -> None:
    student.model.save_pretrained(str(folder), max_shard_size="5GB")
    write_processor(student.loaded, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
