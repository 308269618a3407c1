"""The point map: student and teacher states of a layer pair into the aligned space, point by point."""

from collections.abc import Mapping as Dictionary
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.config import Mapping
from core.errors import ConfigError
from core.mapping.layers import LayerPair
from core.mapping.projections import projection
from core.mapping.statistics import StateStatistics, principal_basis
from core.precision import in_own_precision
from core.seeds import stream

Statistics = Dictionary[tuple[str, int], StateStatistics]
"""Of the teacher's states by (side, layer)."""


class PointMap(nn.Module):
    """Takes paired states of both sides into the aligned space.

    Its parameters are the projections; everything of the teacher's side is fixed by the teacher's statistics.

    Attributes:
        basis: Of the common space, [teacher_width, common]; None where that is the teacher's own.
    """

    basis: Tensor | None

    def __init__(
        self,
        mapping: Mapping,
        *,
        student_width: int,
        teacher_width: int,
        pairs: tuple[LayerPair, ...],
        statistics: Statistics,
        seed: int,
    ) -> None:
        """Start at the identity.

        Args:
            mapping: How.
            student_width: Of every student state.
            teacher_width: Of every teacher state.
            pairs: Layers that meet.
            statistics: Of the teacher's layers; may be empty to count parameters only.
            seed: Of the random parts.

        Raises:
            ConfigError: If there is no projection and the widths differ, or the common space is too wide.
        """
        super().__init__()
        problem = width_problem(mapping, student_width=student_width, teacher_width=teacher_width)
        if problem:
            raise ConfigError(f"method.mapping: {problem}")
        self._states = mapping.states
        common = mapping.common_width or teacher_width
        known = [statistics[pair.side, pair.teacher] for pair in pairs] if statistics else []
        self.register_buffer("basis", _basis(mapping, teacher_width, common, known, seed), persistent=False)
        start = torch.eye(teacher_width, student_width)
        if self.basis is not None:
            start = self.basis.T @ start
        names = ["shared"] if mapping.sharing == "shared" else [_name(pair) for pair in pairs]
        generator = stream(seed, "projection")
        self._shared = mapping.sharing == "shared"
        self.projections = nn.ModuleDict({name: projection(mapping, start, generator) for name in names})
        for pair, statistic in zip(pairs, known, strict=False):
            seen = statistic if self.basis is None else statistic.through(self.basis)
            self.register_buffer(f"mean_{_name(pair)}", seen.mean, persistent=False)
            if mapping.states == "whitened":
                self.register_buffer(f"white_{_name(pair)}", seen.whitening(mapping.directions), persistent=False)

    def forward(
        self,
        pair: LayerPair,
        *,
        student: Float[Tensor, "points student_width"],
        teacher: Float[Tensor, "points teacher_width"],
    ) -> tuple[Float[Tensor, "points common"], Float[Tensor, "points common"]]:
        """Return both sides in the aligned space, in float32; no gradient flows into the teacher.

        Args:
            pair: Whose states they are.
            student: States of one layer.
            teacher: States of the layer that it meets, same points.
        """
        with in_own_precision(student.device):
            student, teacher = student.float(), teacher.float().detach()
            student = self.projections["shared" if self._shared else _name(pair)](student)
            if self.basis is not None:
                teacher = teacher @ self.basis
            if self._states != "raw":
                mean = self.get_buffer(f"mean_{_name(pair)}")
                student, teacher = student - mean, teacher - mean
            if self._states == "whitened":
                white = self.get_buffer(f"white_{_name(pair)}")
                student, teacher = student @ white, teacher @ white
        return student, teacher


class PointMaps(nn.Module):
    """A point map for each of several teachers, with projections of its own."""

    def __init__(self, maps: Sequence[PointMap]) -> None:
        """Put them together, in the order of the teachers."""
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(
        self,
        pair: LayerPair,
        *,
        student: Float[Tensor, "points student_width"],
        teacher: Float[Tensor, "points teacher_width"],
    ) -> tuple[Float[Tensor, "points common"], Float[Tensor, "points common"]]:
        """Return both sides in the space of the pair's teacher; see PointMap."""
        return self.maps[pair.of](pair, student=student, teacher=teacher)


def width_problem(mapping: Mapping, *, student_width: int, teacher_width: int) -> str:
    """Return what is wrong with a mapping's widths, or nothing."""
    if mapping.projection == "none" and student_width != teacher_width:
        return (
            f"projection is 'none', but student states are {student_width} wide and teacher states {teacher_width}; "
            "choose 'linear'"
        )
    if (mapping.common_width or 0) > teacher_width:
        return f"common_width is {mapping.common_width}, more than the teacher's {teacher_width}; lower it"
    return ""


def _basis(mapping: Mapping, width: int, common: int, known: list[StateStatistics], seed: int) -> Tensor | None:
    """Return orthonormal columns that span the common space, or None for the teacher's own."""
    match mapping.basis:
        case "orthogonal":
            return torch.linalg.qr(torch.randn(width, common, generator=stream(seed, "basis")))[0]
        case "principal":
            # Without statistics only the shape matters.
            return principal_basis(known, common) if known else torch.eye(width, common)
        case "identity":
            return None


def _name(pair: LayerPair) -> str:
    return f"{pair.side}_{pair.student}_{pair.teacher}"
