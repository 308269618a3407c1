"""What the models alone can tell to be wrong with a run, said at once, and what a run makes of its models.

What only a step can show (that every loss and every adapter gets a gradient) is checked by the training loop.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from core.config import (
    SHARED_FIELDS,
    AlignmentSettings,
    CrossEntropy,
    Mapping,
    PrunedStudent,
    RunConfig,
    TokenLossSettings,
)
from core.errors import ConfigError, Problem
from core.families.whisper import Whisper, prune
from core.lora import adapted_modules, count_parameters, rank_within
from core.mapping import Depth, LayerPair, PointMap, Statistics, layer_pairs, width_problem
from core.mixture import expert_rank
from core.sources import Utterance
from core.weights.load import load_whisper


def load_models(config: RunConfig) -> tuple[Whisper, Whisper]:
    """Return teacher and student, frozen, on the CPU.

    Raises:
        ModelError: If a model cannot be found, read or trusted.
        ConfigError: If the student cannot be cut from the teacher.
    """
    first = config.teachers[0]
    teacher = Whisper(load_whisper(first.model, first.revision), language=config.language)
    if isinstance(config.student, PrunedStudent):
        student = prune(teacher, config.student)
    else:
        student = Whisper(load_whisper(config.student.model, config.student.revision), language=config.language)
    for model in (teacher, student):
        model.model.requires_grad_(False).eval()
    return teacher, student


def pairs_of(config: RunConfig, *, student: Whisper, teacher: Whisper) -> tuple[LayerPair, ...]:
    """Return the layer pairs of a run.

    Raises:
        ConfigError: If the layer map does not fit the models.
    """
    pruned = config.student if isinstance(config.student, PrunedStudent) else None
    kept = {
        side: None if pruned is None else getattr(pruned, f"{side}_layers") or range(getattr(teacher, f"{side}_layers"))
        for side in ("encoder", "decoder")
    }
    return layer_pairs(
        config.method.mapping,
        encoder=Depth(student.encoder_layers, teacher.encoder_layers, config.freeze_below, kept["encoder"]),
        decoder=Depth(student.decoder_layers, teacher.decoder_layers, 0, kept["decoder"]),
    )


def point_map_of(
    config: RunConfig, *, student: Whisper, teacher: Whisper, statistics: Statistics | None = None
) -> PointMap:
    """Return a fresh mapping; without statistics it can only be counted.

    A method that aligns nothing has none to train; its mapping serves the probes.

    Raises:
        ConfigError: If the mapping does not fit the models' widths.
    """
    mapping = config.method.mapping
    if not config.method.aligns:
        mapping = Mapping(
            projection="none" if student.width == teacher.width else "linear",
            states=mapping.states,
            directions=mapping.directions,
        )
    return PointMap(
        mapping,
        student_width=student.width,
        teacher_width=teacher.width,
        pairs=pairs_of(config, student=student, teacher=teacher),
        statistics=statistics or {},
        seed=config.seed,
    )


def within_budget(config: RunConfig, *, student: Whisper, teacher: Whisper) -> RunConfig:
    """Return the run with the rank that its budget allows; unchanged where it has none.

    Raises:
        ConfigError: If not even rank 1 fits.
    """
    if config.lora.budget is None:
        return config
    projections = _projection_parameters(config, student=student, teacher=teacher)
    left = int(config.lora.budget * count_parameters(teacher.model)) - projections
    return config.model_copy(update={"lora": rank_within(config.lora, left, modules=linear_modules(config, student))})


def linear_modules(config: RunConfig, student: Whisper) -> list[nn.Linear]:
    """Return the student's modules that get an adapter.

    Raises:
        ConfigError: If a target matches nothing.
    """
    paths = adapted_modules(student.plain, config.lora, freeze_below=config.freeze_below)
    return [cast(nn.Linear, student.plain.get_submodule(path)) for path in paths]


def model_problems(config: RunConfig, *, student: Whisper, teacher: Whisper) -> list[Problem]:
    """Return what is wrong with a run, given its models."""
    problems = []
    if len(config.teachers) > 1:
        problems.append(Problem("teachers", "this version learns from one teacher; name one"))
    if config.freeze_below > student.encoder_layers:
        problems.append(Problem("freeze_below", f"the student has {student.encoder_layers} encoder layers; lower it"))
        return problems
    try:
        adapted_modules(student.model, config.lora, freeze_below=config.freeze_below)
    except ConfigError as error:
        problems.extend(error.problems)
    problems.extend(_stage_problems(config))
    problems.extend(_token_problems(config, student=student, teacher=teacher))
    problems.extend(_mapping_problems(config, student=student, teacher=teacher))
    if not problems:
        try:
            lora = within_budget(config, student=student, teacher=teacher).lora
            if lora.mixture is not None:
                expert_rank(lora, linear_modules(config, student))
        except ConfigError as error:
            problems.extend(error.problems)
    return problems


def require_sound(configs: Sequence[RunConfig], *, student: Whisper, teacher: Whisper) -> None:
    """Raise ConfigError with every mistake of every run of a job."""
    problems = [
        Problem(f"{config.name}: {problem.where}", problem.message)
        for config in configs
        for problem in model_problems(config, student=student, teacher=teacher)
    ]
    if problems:
        raise ConfigError("The run cannot start:", problems)


def require_shared(configs: Sequence[RunConfig]) -> None:
    """Raise ConfigError when the runs of one job differ in what is computed once for all of them."""
    first = configs[0]
    problems = [
        Problem(f"{config.name}: {field}", f"differs from {first.name}; runs of one job share it: start it on its own")
        for config in configs[1:]
        for field in SHARED_FIELDS
        if getattr(config, field) != getattr(first, field)
    ]
    problems += [
        Problem(f"{config.name}: training.{field}", f"differs from {first.name}; runs of one job share it")
        for config in configs[1:]
        for field in ("audio_context", "device")
        if getattr(config.training, field) != getattr(first.training, field)
    ]
    if problems:
        raise ConfigError("These runs cannot be one job:", problems)


def require_fits(utterances: Sequence[Utterance], *, audio_context: float, field: str) -> None:
    """Raise ConfigError when a clip is longer than the audio context."""
    longer = [item for item in utterances if item.duration > audio_context]
    if longer:
        worst = max(longer, key=lambda item: item.duration)
        raise ConfigError(
            f"{len(longer)} clips are longer than {field} = {audio_context:g} s; the longest is {worst.audio_path} "
            f"with {worst.duration:.1f} s. Raise {field} (up to 30) or remove the clips."
        )


def device_of(config: RunConfig) -> torch.device:
    """Return the device that a run asks for.

    Raises:
        ConfigError: If it asks for CUDA and there is none.
    """
    wanted = config.training.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device is 'cuda', but PyTorch sees no CUDA device. Choose 'auto' or 'cpu'.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _stage_problems(config: RunConfig) -> list[Problem]:
    """Return which terms set in between two steps only, and whether none of them moves the student."""
    steps = config.training.steps
    problems = [
        Problem(
            f"method.losses.{number}",
            f"{loss.kind} counts from {loss.begins:g} to {loss.ends:g} of the run, in none of its {steps} steps: "
            "lengthen its stage, or raise training.steps",
        )
        for number, loss in enumerate(config.method.losses)
        # Of two steps, because begins * steps may be rounded down.
        if not any(loss.weight_at((int(loss.begins * steps) + step) / steps) > 0 for step in (1, 2))
    ]
    if not any(loss.reaches_student for loss in config.method.losses):
        problems.append(Problem("method.losses", "no term moves the student: add one beside projection_only"))
    return problems


def _token_problems(config: RunConfig, *, student: Whisper, teacher: Whisper) -> list[Problem]:
    """Return which losses compare token by token although the two sides' tokens differ."""
    if student.loaded is teacher.loaded:
        return []
    mine, theirs = student.loaded.tokenizer.get_vocab(), teacher.loaded.tokenizer.get_vocab()
    sizes = student.model.config.vocab_size, teacher.model.config.vocab_size
    if mine == theirs and sizes[0] == sizes[1] and student.prompt == teacher.prompt:
        return []
    shared = len(mine.items() & theirs.items())
    return [
        Problem(
            f"method.losses.{number}",
            f"{loss.kind} compares teacher and student token by token, but their token tables differ ({shared:,} of "
            f"{len(theirs):,} tokens have the same id): choose a pair with one table, or align encoder states only",
        )
        for number, loss in enumerate(config.method.losses)
        if (isinstance(loss, TokenLossSettings) and not isinstance(loss, CrossEntropy))
        or (isinstance(loss, AlignmentSettings) and loss.decoder)
    ]


def _projection_parameters(config: RunConfig, *, student: Whisper, teacher: Whisper) -> int:
    if not config.method.aligns:
        return 0
    return count_parameters(point_map_of(config, student=student, teacher=teacher))


def _mapping_problems(config: RunConfig, *, student: Whisper, teacher: Whisper) -> list[Problem]:
    """Return which layers cannot meet, and which alignments have nothing to compare."""
    if not config.method.aligns:
        return []
    try:
        pairs = pairs_of(config, student=student, teacher=teacher)
    except ConfigError as error:
        return error.problems
    problems = []
    width = width_problem(config.method.mapping, student_width=student.width, teacher_width=teacher.width)
    if width:
        problems.append(Problem("method.mapping", width))
    for number, loss in enumerate(config.method.losses):
        if isinstance(loss, AlignmentSettings) and not any(getattr(loss, pair.side) for pair in pairs):
            problems.append(
                Problem(
                    f"method.losses.{number}",
                    f"{loss.kind} has no layers to compare: all encoder layers are frozen. Lower freeze_below, or "
                    "align the decoder",
                )
            )
    return problems
