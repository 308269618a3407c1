"""Which layers meet, worked out by hand, and the way of states into the aligned space."""

from typing import Any

import pytest
import torch
from beartype import beartype
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError, jaxtyped

from core.config import Mapping
from core.errors import ConfigError
from core.mapping import LayerPair, PointMap, layer_pairs

SPACED, LAST = Mapping(), Mapping(layers="last")
NO_PROJECTION = Mapping(projection="none")


def encoder_pairs(mapping: Mapping, student: int, teacher: int, *, freeze_below: int = 0) -> list[tuple[int, int]]:
    pairs = layer_pairs(
        mapping,
        student_encoder=student,
        student_decoder=1,
        teacher_encoder=teacher,
        teacher_decoder=1,
        freeze_below=freeze_below,
    )
    return [(pair.student, pair.teacher) for pair in pairs if pair.side == "encoder"]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        # Counted from 1: 4/3 = 1.33 -> 1, 8/3 = 2.67 -> 3, 4.
        (3, 4, [(0, 0), (1, 2), (2, 3)]),
        # 1.5 -> 2, 3, 4.5 -> 5, 6: halves go up.
        (4, 6, [(0, 1), (1, 2), (2, 4), (3, 5)]),
        (2, 4, [(0, 1), (1, 3)]),
        (1, 4, [(0, 3)]),
        (4, 4, [(0, 0), (1, 1), (2, 2), (3, 3)]),
        # A student may have more layers: 0.67 -> 1, 1.33 -> 1, 2.
        (3, 2, [(0, 0), (1, 0), (2, 1)]),
    ],
)
def test_layers_are_spaced_as_worked_out_by_hand(student: int, teacher: int, expected: list[tuple[int, int]]) -> None:
    assert encoder_pairs(SPACED, student, teacher) == expected


@given(st.integers(1, 32), st.integers(1, 32))
def test_spaced_layers_ascend_and_the_last_meets_the_last(student: int, teacher: int) -> None:
    pairs = encoder_pairs(SPACED, student, teacher)
    assert [mine for mine, _ in pairs] == list(range(student))
    theirs = [other for _, other in pairs]
    assert theirs == sorted(theirs)
    assert theirs[-1] == teacher - 1
    if student <= teacher:
        assert len(set(theirs)) == student
        assert theirs[0] >= 0


def test_only_the_last_layers_meet_where_that_is_asked() -> None:
    assert encoder_pairs(LAST, 3, 6) == [(2, 5)]


def test_frozen_encoder_layers_take_no_part_and_the_decoder_is_never_frozen() -> None:
    pairs = layer_pairs(
        SPACED, student_encoder=3, student_decoder=2, teacher_encoder=4, teacher_decoder=4, freeze_below=2
    )
    assert pairs == (LayerPair("encoder", 2, 3), LayerPair("decoder", 0, 1), LayerPair("decoder", 1, 3))
    assert encoder_pairs(SPACED, 3, 4, freeze_below=3) == []


def sides(student_width: int, teacher_width: int, **options: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "student": torch.randn(5, student_width, generator=generator, **options),
        "teacher": torch.randn(5, teacher_width, generator=generator, **options),
        "mean": torch.randn(teacher_width, generator=generator),
    }


@pytest.mark.parametrize("mapping", [SPACED, NO_PROJECTION])
def test_a_map_starts_at_the_identity_less_the_teachers_mean(mapping: Mapping) -> None:
    given_sides = sides(6, 6)
    student, teacher = PointMap(mapping, student_width=6, teacher_width=6)(**given_sides)
    assert torch.allclose(student, given_sides["student"] - given_sides["mean"])
    assert torch.allclose(teacher, given_sides["teacher"] - given_sides["mean"])


def test_raw_states_keep_their_origin() -> None:
    given_sides = sides(6, 6)
    student, teacher = PointMap(Mapping(states="raw"), student_width=6, teacher_width=6)(**given_sides)
    assert torch.allclose(student, given_sides["student"])
    assert torch.allclose(teacher, given_sides["teacher"])


def test_a_narrower_student_starts_in_the_first_directions_of_the_teacher() -> None:
    given_sides = sides(4, 6)
    student, _ = PointMap(Mapping(states="raw"), student_width=4, teacher_width=6)(**given_sides)
    assert torch.allclose(student[:, :4], given_sides["student"])
    assert not student[:, 4:].any()


def test_unequal_widths_without_a_projection_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"4 wide and teacher states 6\..*'shared'"):
        PointMap(NO_PROJECTION, student_width=4, teacher_width=6)


def test_only_the_projection_is_trainable_and_it_is_one_matrix() -> None:
    shared = PointMap(SPACED, student_width=4, teacher_width=6)
    assert [parameter.shape for parameter in shared.parameters()] == [(6, 4)]
    assert list(PointMap(NO_PROJECTION, student_width=6, teacher_width=6).parameters()) == []


def test_no_gradient_flows_into_the_teacher() -> None:
    given_sides = sides(6, 6)
    given_sides["student"].requires_grad_()
    given_sides["teacher"].requires_grad_()
    point_map = PointMap(SPACED, student_width=6, teacher_width=6)
    student, teacher = point_map(**given_sides)
    (student * teacher).sum().backward()
    assert given_sides["teacher"].grad is None
    assert given_sides["student"].grad is not None
    assert point_map.projection is not None
    assert point_map.projection.weight.grad is not None


def test_the_map_works_in_float32_also_within_autocast() -> None:
    point_map = PointMap(SPACED, student_width=6, teacher_width=6)
    given_sides = sides(6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student, teacher = point_map(**given_sides)
    assert student.dtype == teacher.dtype == torch.float32
    assert torch.equal(student, point_map(**given_sides)[0])
    halved = point_map(**sides(6, 6, dtype=torch.bfloat16))
    assert halved[0].dtype == torch.float32


def test_shapes_are_types() -> None:
    forward = jaxtyped(typechecker=beartype)(PointMap.forward)
    point_map = PointMap(SPACED, student_width=6, teacher_width=6)
    forward(point_map, **sides(6, 6))
    wrong = sides(6, 6) | {"mean": torch.zeros(5)}
    with pytest.raises(TypeCheckError):
        forward(point_map, **wrong)
