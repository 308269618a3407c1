"""RunConfig: everything that defines a run."""

import math
from pathlib import PurePath
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from core.config.base import Name, Settings
from core.config.ensemble import Ensemble
from core.config.method import Method
from core.config.models import Lora, PrunedStudent, Student, Teacher
from core.config.sources import GeneratedSpeech, Source


class Training(Settings):
    """The optimisation."""

    steps: int = Field(default=150, ge=1, le=1_000_000, description="Optimiser steps.")
    batch_size: int = Field(default=8, ge=1, le=1024, description="Utterances per step.")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Peak rate of AdamW.")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the rate rises linearly.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW's decay, on matrices only.")
    clip: float = Field(
        default=1.0, gt=0, le=1000, description="Largest gradient norm; adapters and projections separately."
    )
    audio_context: float = Field(
        default=15.0, ge=2, le=30, description="Audio that the encoder sees, in seconds; clips are padded or refused."
    )
    length_buckets: int = Field(
        default=1,
        ge=1,
        le=16,
        description=(
            "To how many lengths clips are padded in training, evenly spaced up to audio_context; those of a batch "
            "have one length. More save time; the encoder then learns at shorter contexts than it is tested at."
        ),
    )
    evaluations: int = Field(
        default=3,
        ge=1,
        le=100,
        description="How often the development set is transcribed, evenly spread; the best is kept.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description=(
            "auto: bfloat16 where the device is fast in it (a GPU since Ampere; a CPU with AVX512-BF16 where a short "
            "measurement says so), float16 on other GPUs, float32 on other CPUs. What is learnt from is heard in it, "
            "too, unless it is kept for other jobs; error rates are measured in float32."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: the first CUDA device, else the CPU."
    )
    devices: int = Field(
        default=1,
        ge=1,
        le=64,
        description=(
            "Most devices of that kind that the job's runs are spread over, a process each; fewer where there are not "
            "so many. A single run is trained by all of them together, each on its part of every batch, to what one "
            "would make of it, but for rounding and what dropout draws. One, as each holds the models and the "
            "training set. On a CPU the processes share its threads."
        ),
    )
    teacher_outputs: Literal["live", "cached", "compact"] = Field(
        default="live",
        description=(
            "live: the teachers are run for each job. cached: what they say is kept on disk for all jobs, states in "
            "bfloat16, and a job that finds it runs no teacher. compact: the same, but of a single teacher's logits "
            "only its likeliest tokens and what they leave over, at most 32: a fifth of the space, and a divergence "
            "that falls short where they hold little of the probability, as at temperatures above 1."
        ),
    )

    def context_of(self, seconds: float) -> float:
        """Return what a training clip of this length is padded to, in seconds: the shortest bucket that holds it."""
        buckets = [
            # Whole tenths: an encoder frame is 0.02 s.
            math.ceil(round(10 * self.audio_context * number / self.length_buckets, 6)) / 10
            for number in range(1, self.length_buckets)
        ]
        return next((bucket for bucket in buckets if seconds <= bucket), self.audio_context)


class Evaluation(Settings):
    """How the result is measured."""

    audio_context: float = Field(
        default=30.0, ge=2, le=30, description="Audio context of the reported rows, in seconds."
    )
    batch_size: int = Field(default=16, ge=1, le=1024, description="Utterances decoded together.")
    tokens_per_second: float = Field(
        default=8.0,
        gt=0,
        le=50,
        description="Decoding stops at 10 tokens plus this many per second of audio, so that loops end.",
    )
    normaliser: Literal["auto", "english", "open-asr-leaderboard", "whisper", "basic"] = Field(
        default="auto",
        description=(
            "What makes words of a text before they are compared. auto: english for English, basic for other "
            "languages. english: the Open ASR Leaderboard's rules with digits and typographic apostrophes kept. "
            "open-asr-leaderboard: as it counts since August 2026. whisper: Whisper's English normaliser as published. "
            "basic: case and punctuation dropped, marks kept; characters are counted in languages without spaces."
        ),
    )
    test: bool = Field(
        default=True,
        description="Read the test sets at the end; false leaves them unread, to tune on the development set.",
    )
    extra_tests: tuple[str, ...] = Field(
        default=(), description="Manifests that are transcribed too, each reported on its own, never pooled."
    )

    @field_validator("extra_tests")
    @classmethod
    def _names_differ(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        names = [PurePath(path).stem for path in paths]
        taken = sorted({name for name in names if name in ("test", "development") or names.count(name) > 1})
        if taken:
            raise ValueError(
                f"a test set is called by its file's name, and {', '.join(taken)} would stand for two; rename the file"
            )
        return paths


class RunConfig(Settings):
    """Everything that defines a run. A YAML or JSON file with these fields is a run."""

    name: Name = Field(default="run", min_length=1, max_length=120, description="What the run is called in lists.")
    family: Literal["whisper"] = Field(default="whisper", description="Architecture of teachers and student.")
    teachers: tuple[Teacher, ...] = Field(
        default=(Teacher(),), min_length=1, description="Frozen models to learn from."
    )
    ensemble: Ensemble = Field(default=Ensemble(), description="How several teachers become one.")
    student: Student = Field(
        default=PrunedStudent(encoder_layers=(0, 1, 3)), description="The model that is trained and deployed."
    )
    lora: Lora = Field(default=Lora(), description="Adapters.")
    freeze_below: int = Field(
        default=2,
        ge=0,
        le=128,
        validate_default=True,
        description="Student encoder layers below this number stay as they are; their output is computed once.",
    )
    language: str = Field(
        default="en", min_length=2, max_length=8, description="Language of the speech, as Whisper writes it."
    )
    source: Source = Field(default=GeneratedSpeech(), description="Where the speech comes from.")
    method: Method = Field(description="How the student learns.")
    training: Training = Field(default=Training(), description="The optimisation.")
    evaluation: Evaluation = Field(default=Evaluation(), description="How the result is measured.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of initialisation and data order.")

    @field_validator("evaluation")
    @classmethod
    def _normaliser_of_the_language(cls, evaluation: Evaluation, info: ValidationInfo) -> Evaluation:
        language = info.data.get("language", "en")
        if language != "en" and evaluation.normaliser not in ("auto", "basic"):
            raise ValueError(
                f"normaliser is '{evaluation.normaliser}', which is for English, but the language is '{language}'; "
                "choose 'auto' or 'basic'"
            )
        return evaluation

    @field_validator("freeze_below")
    @classmethod
    def _within_the_student(cls, layers: int, info: ValidationInfo) -> int:
        # A student that is wrong itself is not there; its own mistake is told.
        student = info.data.get("student")
        kept = student.encoder_layers if isinstance(student, PrunedStudent) else None
        if kept is not None and layers > len(kept):
            raise ValueError(f"is {layers}, but the student keeps {len(kept)} encoder layers; lower it")
        return layers
