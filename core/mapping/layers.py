"""The layer map: which student layer meets which teacher layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.config import Mapping
from core.errors import ConfigError, Problem

Side = Literal["encoder", "decoder"]
SIDES: tuple[Side, ...] = ("encoder", "decoder")


@dataclass(frozen=True)
class LayerPair:
    """A student layer and the teacher layer that it meets, both from 0.

    Attributes:
        of: Which teacher's layer it is, from 0.
    """

    side: Side
    student: int
    teacher: int
    of: int = 0

    @property
    def place(self) -> str:
        """Where results of the pair are kept: ``encoder.2-3``, of a further teacher ``encoder.2-3.of1``."""
        return f"{self.side}.{self.student}-{self.teacher}" + (f".of{self.of}" if self.of else "")


@dataclass(frozen=True)
class Depth:
    """How deep the two models are on one side.

    Attributes:
        student: Number of layers.
        teacher: Number of layers.
        frozen: Student layers below this number are never trained; they meet nobody.
        kept: The teacher layers that a pruned student is made of; None for a student of its own.
    """

    student: int
    teacher: int
    frozen: int = 0
    kept: Sequence[int] | None = None


def layer_pairs(mapping: Mapping, *, encoder: Depth, decoder: Depth) -> tuple[LayerPair, ...]:
    """Return the pairs of both sides, encoder first.

    Raises:
        ConfigError: If a list does not fit the models, or the map needs a pruned student and it is none.
    """
    pairs: list[LayerPair] = []
    problems: list[Problem] = []
    for side, depth in zip(SIDES, (encoder, decoder), strict=True):
        try:
            pairs += [LayerPair(side, mine, theirs) for mine, theirs in _pairs(mapping, side, depth)]
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError("These layers cannot meet:", problems)
    return tuple(pairs)


def _pairs(mapping: Mapping, side: Side, depth: Depth) -> list[tuple[int, int]]:
    trained = range(depth.frozen, depth.student)
    listed: tuple[int, ...] | None = getattr(mapping, f"{side}_list")
    if listed is not None:
        return list(zip(trained, _fitting(listed, side, depth), strict=True))
    match getattr(mapping, f"{side}_layers"):
        case "last":
            met = {depth.student - 1: depth.teacher - 1}
        case "next_input":
            met = _next_inputs(side, depth)
        case _:
            met = _spaced(depth)
    return [(layer, met[layer]) for layer in trained if layer in met]


def _spaced(depth: Depth) -> dict[int, int]:
    """Return round(l * teacher / student) for every layer l, counted from 1; halves go up, the last meets the last.

    After Distil-Whisper (Gandhi et al. 2023, arXiv 2311.00430, app. D.2).
    """
    student, teacher = depth.student, depth.teacher
    met = {layer: (2 * layer * teacher + student) // (2 * student) for layer in range(1, student + 1)}
    # A student more than twice as deep has layers nearer to the teacher's input than to its first layer.
    return {layer - 1: max(1, theirs) - 1 for layer, theirs in met.items()}


def _next_inputs(side: Side, depth: Depth) -> dict[int, int]:
    """Return for each kept layer the teacher layer whose output the next kept layer was trained to read."""
    if depth.kept is None:
        raise ConfigError(
            "",
            [
                Problem(
                    f"method.mapping.{side}_layers",
                    "next_input needs a student that is pruned from the teacher; choose spaced or last",
                )
            ],
        )
    following = [*(layer - 1 for layer in depth.kept[1:]), depth.teacher - 1]
    return dict(enumerate(following))


def _fitting(listed: tuple[int, ...], side: Side, depth: Depth) -> tuple[int, ...]:
    problems = []
    trained = depth.student - depth.frozen
    if len(listed) != trained:
        problems.append(f"name one teacher layer for each of the {trained} trained {side} layers, not {len(listed)}")
    if any(layer >= depth.teacher for layer in listed):
        problems.append(f"the teacher has {side} layers 0 to {depth.teacher - 1}")
    if problems:
        raise ConfigError("", [Problem(f"method.mapping.{side}_list", message) for message in problems])
    return listed
