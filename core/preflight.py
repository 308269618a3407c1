"""Everything that can be known to be wrong before a run starts, said at once; and what a run would train.

The static part needs the models' weights but no audio. What only a first step can show (that every loss and every
adapter gets a gradient) is checked by the training loop in its first step.
"""

from collections.abc import Sequence
from typing import Any

import torch

from core.config import SHARED_FIELDS, AlignmentSettings, PrunedStudent, RunConfig, SoftLabels, parse_run
from core.errors import ConfigError, ManifoldError, ModelError, Problem
from core.families.whisper import Whisper, prune
from core.lora import adapted_modules, add_adapters, count_parameters
from core.mapping import LayerPair, PointMap, layer_pairs
from core.sources import Utterance
from core.store.records import ParameterCounts
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
    """Return the layer pairs of a run."""
    return layer_pairs(
        config.method.mapping,
        student_encoder=student.encoder_layers,
        student_decoder=student.decoder_layers,
        teacher_encoder=teacher.encoder_layers,
        teacher_decoder=teacher.decoder_layers,
        freeze_below=config.freeze_below,
    )


def point_map_of(config: RunConfig, *, student: Whisper, teacher: Whisper) -> PointMap:
    """Return a fresh mapping; it only has a projection when the method compares states."""
    mapping = config.method.mapping
    if not config.method.aligns:
        mapping = mapping.model_copy(update={"projection": "none" if student.width == teacher.width else "shared"})
    return PointMap(mapping, student_width=student.width, teacher_width=teacher.width)


def parameter_counts(config: RunConfig, *, student: Whisper, teacher: Whisper) -> ParameterCounts:
    """Count what a run would train, each storage once, by building it."""
    adapted = add_adapters(student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    projections = 0
    if config.method.aligns:
        projections = count_parameters(point_map_of(config, student=student, teacher=teacher))
    return ParameterCounts(
        teacher=count_parameters(teacher.model),
        student=count_parameters(student.model),
        adapters=count_parameters(adapted, only_trainable=True),
        projections=projections,
    )


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
    problems.extend(_token_problems(config, student=student, teacher=teacher))
    problems.extend(_mapping_problems(config, student=student, teacher=teacher))
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


def check(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what the New run page shows before launching: mistakes, parameter counts, and what is adapted.

    Args:
        fields: A RunConfig as plain dictionaries.

    Returns:
        ``problems`` (list of where and message), and when the models could be read ``parameters`` (teacher, student,
        adapters, projections, share_of_teacher), ``adapted`` (module paths) and ``origin`` (where the weights are).
    """
    try:
        config = parse_run(fields)
        teacher, student = load_models(config)
        problems = model_problems(config, student=student, teacher=teacher)
    except ConfigError as error:
        problems = error.problems or [Problem("", error.summary)]
        return {"problems": [vars(problem) for problem in problems]}
    except ManifoldError as error:
        return {"problems": [{"where": "teachers" if isinstance(error, ModelError) else "", "message": str(error)}]}
    result: dict[str, Any] = {"problems": [vars(problem) for problem in problems], "origin": teacher.loaded.origin}
    if not problems:
        counts = parameter_counts(config, student=student, teacher=teacher)
        result["parameters"] = {**vars(counts), "share_of_teacher": counts.share_of_teacher}
        result["adapted"] = adapted_modules(student.model, config.lora, freeze_below=config.freeze_below)
    return result


def device_of(config: RunConfig) -> torch.device:
    """Return the device that a run asks for.

    Raises:
        ConfigError: If it asks for CUDA and there is none.
    """
    wanted = config.training.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device is 'cuda', but PyTorch sees no CUDA device. Choose 'auto' or 'cpu'.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


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
        if isinstance(loss, SoftLabels) or (isinstance(loss, AlignmentSettings) and loss.decoder)
    ]


def _mapping_problems(config: RunConfig, *, student: Whisper, teacher: Whisper) -> list[Problem]:
    """Return which alignments have nothing to compare."""
    problems = []
    if config.method.aligns and config.method.mapping.projection == "none" and student.width != teacher.width:
        problems.append(
            Problem("method.mapping.projection", f"'none' needs equal widths, not {student.width} and {teacher.width}")
        )
    pairs = pairs_of(config, student=student, teacher=teacher)
    for number, loss in enumerate(config.method.losses):
        if isinstance(loss, AlignmentSettings) and loss.encoder and not any(pair.side == "encoder" for pair in pairs):
            problems.append(
                Problem(
                    f"method.losses.{number}.encoder",
                    "all encoder layers are frozen, so their alignment reaches no deployed weight: lower freeze_below, "
                    "or set encoder to false",
                )
            )
    return problems
