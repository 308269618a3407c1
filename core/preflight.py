"""What the models alone can tell to be wrong with a run, said at once, and what a run makes of its models.

What only a step can show (that every loss and every adapter gets a gradient) is checked by the training loop.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from core.config import (
    Ensemble,
    Mapping,
    PrunedStudent,
    RunConfig,
)
from core.errors import ConfigError, Problem
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.lora import adapted_modules, count_parameters, rank_within
from core.mapping import Depth, LayerPair, PointMap, PointMaps, Statistics, layer_pairs, width_problem
from core.mixture import expert_rank
from core.weights.load import describe_whisper, load_whisper

Find = Callable[[str, str | None, str], Whisper]
"""Finds a model by name, revision and language."""


def find_pretrained(model: str, revision: str | None, language: str) -> Whisper:
    """Return a model from a folder, the Hub or a package.

    Raises:
        ModelError: If it cannot be found, read or trusted.
    """
    return Whisper(load_whisper(model, revision), language=language)


def find_asleep(model: str, revision: str | None, language: str) -> Whisper:
    """Return the same model without its weights, which are read when it wakes.

    Raises:
        ModelError: If it cannot be found, read or trusted.
    """
    return Whisper(describe_whisper(model, revision), language=language)


def load_models(config: RunConfig, find: Find = find_pretrained) -> tuple[tuple[Whisper, ...], Whisper]:
    """Return teachers and student, frozen, on the CPU; teachers that are found asleep stay so.

    Raises:
        ModelError: If a model cannot be found, read or trusted.
        ConfigError: If the student cannot be cut from the teacher.
    """
    teachers = tuple(find(teacher.model, teacher.revision, config.language) for teacher in config.teachers)
    student = load_student(config, find, first_teacher=teachers[0])
    for model in (*teachers, student):
        model.model.requires_grad_(False).eval()
    return teachers, student


def load_student(config: RunConfig, find: Find = find_pretrained, *, first_teacher: Whisper | None = None) -> Whisper:
    """Return the student as it is before training, on the CPU; `first_teacher` spares loading it again.

    A student that is cut from a model that is asleep needs that model's weights: they are read, and all that was cut
    off is let go at once. The model itself sleeps on.
    """
    student = config.student
    if not isinstance(student, PrunedStudent):
        return _source_of(config, find, first_teacher).wake()
    return prune(load_source(config, find, first_teacher=first_teacher), student)


def load_source(config: RunConfig, find: Find = find_pretrained, *, first_teacher: Whisper | None = None) -> Whisper:
    """Return what a student is cut from, with its weights; a model that is asleep sleeps on, and this is a copy."""
    source = _source_of(config, find, first_teacher)
    return source.with_model(source.loaded.read(), source.revision) if source.asleep else source


def describe_student(config: RunConfig, find: Find) -> Whisper:
    """Return the student as it is before training without its weights, where `find` finds models asleep."""
    student, source = config.student, _source_of(config, find)
    return prune(source, student) if isinstance(student, PrunedStudent) else source


def _source_of(config: RunConfig, find: Find, first_teacher: Whisper | None = None) -> Whisper:
    """Return the model that the student is, or is cut from."""
    student, first = config.student, config.teachers[0]
    if not isinstance(student, PrunedStudent):
        return find(student.model, student.revision, config.language)
    if student.model is not None:
        return find(student.model, None, config.language)
    return first_teacher or find(first.model, first.revision, config.language)


def pairs_of(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> tuple[LayerPair, ...]:
    """Return the layer pairs of a run, teacher by teacher; states that meet a mean of teachers meet it alone.

    Decoder states of a teacher with another token table are states of other points: they meet nobody.

    Raises:
        ConfigError: If the layer map does not fit the models.
    """
    met = teachers[:1] if config.ensemble.states == "mean" else teachers
    pairs: list[LayerPair] = []
    for number, teacher in enumerate(met):
        alike = same_tokens(student, teacher)
        pairs += [
            dataclasses.replace(pair, of=number)
            for pair in _pairs_with(config, student=student, teacher=teacher)
            if alike or pair.side == "encoder"
        ]
    return tuple(pairs)


def all_pairs(configs: Sequence[RunConfig], *, student: Whisper, teachers: Sequence[Whisper]) -> tuple[LayerPair, ...]:
    """Return every layer pair of some runs, of every teacher: what is kept of what the teachers say."""
    each = [config.model_copy(update={"ensemble": Ensemble()}) for config in configs]
    return tuple(
        dict.fromkeys(pair for config in each for pair in pairs_of(config, student=student, teachers=teachers))
    )


def ensembles_of(configs: Sequence[RunConfig], *, teachers: Sequence[Whisper]) -> list[Ensemble]:
    """Return the ensembles that some runs learn from, each once; those that can write a text together.

    A mean of probabilities needs one token table; a single teacher is no ensemble.
    """
    if len(teachers) == 1:
        return []
    alike = all(same_tokens(teachers[0], other) for other in teachers[1:])
    found = {config.ensemble.label: config.ensemble for config in configs if config.ensemble.combine != "single"}
    return [each for each in found.values() if alike or each.combine == "best"]


def _pairs_with(config: RunConfig, *, student: Whisper, teacher: Whisper) -> tuple[LayerPair, ...]:
    kept: dict[str, Sequence[int] | None] = {"encoder": None, "decoder": None}
    if isinstance(config.student, PrunedStudent):
        for side in kept:
            depth = getattr(teacher, f"{side}_layers")
            layers = getattr(config.student, f"{side}_layers") or range(depth)
            # The layers that are kept have numbers of the model that the student was cut from.
            if max(layers) < depth and len(layers) == getattr(student, f"{side}_layers"):
                kept[side] = layers
    return layer_pairs(
        config.method.mapping,
        encoder=Depth(student.encoder_layers, teacher.encoder_layers, config.freeze_below, kept["encoder"]),
        decoder=Depth(student.decoder_layers, teacher.decoder_layers, 0, kept["decoder"]),
    )


def point_map_of(
    config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper], statistics: Sequence[Statistics] = ()
) -> PointMap | PointMaps:
    """Return a fresh mapping, with a projection for each teacher; without statistics it can only be counted.

    A method that aligns nothing has none to train; its mapping serves the probes.

    Args:
        config: The run.
        student: Its width counts.
        teachers: All of them.
        statistics: Of each teacher's states, or of their mean where states meet that.

    Raises:
        ConfigError: If the mapping does not fit the models' widths.
    """
    pairs = pairs_of(config, student=student, teachers=teachers)
    maps = []
    for number, teacher in enumerate(teachers[:1] if config.ensemble.states == "mean" else teachers):
        mapping = config.method.mapping
        if not config.method.aligns:
            mapping = Mapping(
                projection="none" if student.width == teacher.width else "linear",
                states=mapping.states,
                directions=mapping.directions,
            )
        maps.append(
            PointMap(
                mapping,
                student_width=student.width,
                teacher_width=teacher.width,
                pairs=tuple(pair for pair in pairs if pair.of == number),
                statistics=statistics[number] if statistics else {},
                seed=config.seed,
            )
        )
    return maps[0] if len(maps) == 1 else PointMaps(maps)


def same_tokens(student: Whisper, teacher: Whisper) -> bool:
    """Return whether two models read and write the same tokens, one by one, with the same ids."""
    if student.loaded is teacher.loaded:
        return True
    sizes = student.model.config.vocab_size, teacher.model.config.vocab_size
    mine, theirs = student.loaded.vocabulary, teacher.loaded.vocabulary
    return mine == theirs and sizes[0] == sizes[1] and student.prompt == teacher.prompt


def within_budget(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> RunConfig:
    """Return the run with the rank that its budget allows, of the largest teacher; unchanged where it has none.

    Raises:
        ConfigError: If not even rank 1 fits.
    """
    if config.lora.budget is None:
        return config
    projections = _projection_parameters(config, student=student, teachers=teachers)
    left = int(config.lora.budget * max(count_parameters(teacher.model) for teacher in teachers)) - projections
    return config.model_copy(update={"lora": rank_within(config.lora, left, modules=linear_modules(config, student))})


def linear_modules(config: RunConfig, student: Whisper) -> list[nn.Linear]:
    """Return the student's modules that get an adapter.

    Raises:
        ConfigError: If a target matches nothing.
    """
    paths = adapted_modules(student.plain, config.lora, freeze_below=config.freeze_below)
    return [cast(nn.Linear, student.plain.get_submodule(path)) for path in paths]


def model_problems(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> list[Problem]:
    """Return what is wrong with a run, given its models."""
    problems = []
    if config.freeze_below > student.encoder_layers:
        problems.append(Problem("freeze_below", f"the student has {student.encoder_layers} encoder layers; lower it"))
        return problems
    try:
        adapted_modules(student.model, config.lora, freeze_below=config.freeze_below)
    except ConfigError as error:
        problems.extend(error.problems)
    problems.extend(_stage_problems(config))
    problems.extend(_reads_problems(config, student=student, teachers=teachers))
    problems.extend(_ensemble_problems(config, teachers=teachers))
    problems.extend(_token_problems(config, student=student, teachers=teachers))
    problems.extend(_mapping_problems(config, student=student, teachers=teachers))
    if not problems:
        try:
            lora = within_budget(config, student=student, teachers=teachers).lora
            if lora.mixture is not None:
                expert_rank(lora, linear_modules(config, student))
        except ConfigError as error:
            problems.extend(error.problems)
    return problems


def require_sound(configs: Sequence[RunConfig], *, student: Whisper, teachers: Sequence[Whisper]) -> None:
    """Raise ConfigError with every mistake of every run of a job."""
    problems = [
        Problem(f"{config.name}: {problem.where}", problem.message)
        for config in configs
        for problem in model_problems(config, student=student, teachers=teachers)
    ]
    if problems:
        raise ConfigError("The run cannot start:", problems)


def device_of(config: RunConfig) -> torch.device:
    """Return the device that a run asks for.

    Raises:
        ConfigError: If it asks for CUDA and there is none.
    """
    wanted = config.training.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device is 'cuda', but PyTorch sees no CUDA device. Choose 'auto' or 'cpu'.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def devices_of(config: RunConfig) -> list[torch.device]:
    """Return the devices over which the runs of a job may be spread; a CPU stands for as many as are asked for.

    Raises:
        ConfigError: If it asks for CUDA and there is none.
    """
    device, most = device_of(config), config.training.devices
    if device.type == "cpu":
        return [device] * most
    return [torch.device("cuda", number) for number in range(min(most, torch.cuda.device_count()))]


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


def _reads_problems(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> list[Problem]:
    """Return which losses read what the models' family does not give."""
    given = student.gives.intersection(*(teacher.gives for teacher in teachers))
    return [
        Problem(
            f"method.losses.{number}",
            f"{loss.kind} reads {', '.join(sorted(loss.reads - given)).replace('_', ' ')}, which these models do not "
            "give: choose another loss",
        )
        for number, loss in enumerate(config.method.losses)
        if not loss.reads <= given
    ]


def _ensemble_problems(config: RunConfig, *, teachers: Sequence[Whisper]) -> list[Problem]:
    """Return why the teachers' states have no common mean, where one is asked for."""
    shapes = {(each.width, each.encoder_layers, each.decoder_layers) for each in teachers}
    if config.ensemble.states == "per_teacher" or len(shapes) == 1:
        return []
    listed = "; ".join(f"{wide} wide, {above} and {below} layers" for wide, above, below in sorted(shapes))
    message = f"teachers of different shapes ({listed}) have no common mean: choose 'per_teacher'"
    return [Problem("ensemble.states", message)]


def _token_problems(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> list[Problem]:
    """Return which losses compare token by token although the two sides' tokens differ."""
    mine = student.loaded.vocabulary
    problems = []
    for settings, teacher in zip(config.teachers, teachers, strict=False):
        if same_tokens(student, teacher):
            continue
        theirs = teacher.loaded.vocabulary
        who = "teacher" if len(teachers) == 1 else f"the teacher '{settings.label}'"
        problems += [
            Problem(
                f"method.losses.{number}",
                f"{loss.kind} compares {who} and student token by token, but their token tables differ "
                f"({len(mine.items() & theirs.items()):,} of {len(theirs):,} tokens have the same id): choose a pair "
                "with one table, or learn from encoder states or the teacher's transcripts only",
            )
            for number, loss in enumerate(config.method.losses)
            if "logits" in loss.reads or loss.aligns("decoder")
        ]
    return problems


def _projection_parameters(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> int:
    if not config.method.aligns:
        return 0
    return count_parameters(point_map_of(config, student=student, teachers=teachers))


def _mapping_problems(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> list[Problem]:
    """Return which layers cannot meet, and which alignments have nothing to compare."""
    if not config.method.aligns:
        return []
    try:
        pairs = pairs_of(config, student=student, teachers=teachers)
    except ConfigError as error:
        return error.problems
    mapping = config.method.mapping
    widths = [width_problem(mapping, student_width=student.width, teacher_width=each.width) for each in teachers]
    problems = [Problem("method.mapping", message) for message in dict.fromkeys(widths) if message]
    for number, loss in enumerate(config.method.losses):
        frozen = not any(pair.side == "encoder" for pair in pairs)
        if "states" in loss.reads and frozen and not loss.aligns("decoder"):
            problems.append(
                Problem(
                    f"method.losses.{number}",
                    f"{loss.kind} has no layers to compare: all encoder layers are frozen. Lower freeze_below, or "
                    "align the decoder",
                )
            )
    return problems
