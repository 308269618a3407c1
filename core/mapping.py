"""Layer map and point map: which student layer meets which teacher layer, and through which projection.

    student states --projection--> - teacher mean --\
                                                     > compared point by point on the sphere
    teacher states ---------------> - teacher mean --/

The projection lives outside the student: it is trained and counted, and discarded at export.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.config import Mapping
from core.errors import ConfigError

Side = Literal["encoder", "decoder"]


@dataclass(frozen=True)
class LayerPair:
    """A student layer and the teacher layer that it meets, both from 0."""

    side: Side
    student: int
    teacher: int


def layer_pairs(
    mapping: Mapping,
    *,
    student_encoder: int,
    student_decoder: int,
    teacher_encoder: int,
    teacher_decoder: int,
    freeze_below: int,
) -> tuple[LayerPair, ...]:
    """Return the pairs of both sides, encoder first. Encoder layers that are frozen in the student take no part.

    Args:
        mapping: The layer map.
        student_encoder: Number of layers; likewise the next three.
        student_decoder: See above.
        teacher_encoder: See above.
        teacher_decoder: See above.
        freeze_below: Student encoder layers below this number are frozen.
    """
    pairs: list[LayerPair] = []
    sides: tuple[tuple[Side, int, int], ...] = (
        ("encoder", student_encoder, teacher_encoder),
        ("decoder", student_decoder, teacher_decoder),
    )
    for side, student, teacher in sides:
        for student_layer, teacher_layer in _side_pairs(mapping.layers, student, teacher):
            if side == "decoder" or student_layer >= freeze_below:
                pairs.append(LayerPair(side, student_layer, teacher_layer))
    return tuple(pairs)


def _side_pairs(layers: str, student: int, teacher: int) -> list[tuple[int, int]]:
    if layers == "last":
        return [(student - 1, teacher - 1)]
    # Counted from 1, layer l of the student meets round(l * teacher / student); halves go up; the last meets the last.
    return [(layer - 1, (2 * layer * teacher + student) // (2 * student) - 1) for layer in range(1, student + 1)]


class PointMap(nn.Module):
    """Takes paired states of both sides into the aligned space.

    Only the projection is trainable. Two trainable sides would collapse to constants, so the teacher's side is fixed:
    the identity, less the teacher's mean state of the layer.
    """

    def __init__(self, mapping: Mapping, *, student_width: int, teacher_width: int) -> None:
        """Start at the identity (the first rows and columns of it where widths differ).

        Raises:
            ConfigError: If there is no projection and the widths differ.
        """
        super().__init__()
        self.centred = mapping.states == "centred"
        self.projection: nn.Linear | None = None
        if mapping.projection == "shared":
            self.projection = nn.Linear(student_width, teacher_width, bias=False)
            nn.init.eye_(self.projection.weight)
        elif student_width != teacher_width:
            raise ConfigError(
                f"method.mapping.projection is 'none', but student states are {student_width} wide and teacher "
                f"states {teacher_width}. Choose 'shared'."
            )

    def forward(
        self,
        *,
        student: Float[Tensor, "points student_width"],
        teacher: Float[Tensor, "points teacher_width"],
        mean: Float[Tensor, " teacher_width"],
    ) -> tuple[Float[Tensor, "points teacher_width"], Float[Tensor, "points teacher_width"]]:
        """Return both sides in the aligned space, in float32; no gradient flows into the teacher.

        Args:
            student: States of one layer.
            teacher: States of the layer that it meets, same points.
            mean: The teacher's mean state of that layer.
        """
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = student.float(), teacher.float().detach()
            if self.projection is not None:
                student = self.projection(student)
            if self.centred:
                student, teacher = student - mean, teacher - mean
        return student, teacher
