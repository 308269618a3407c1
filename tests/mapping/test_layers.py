"""Which layers meet, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import Mapping
from core.errors import ConfigError
from core.mapping import Depth, LayerPair, layer_pairs

SPACED, LAST = Mapping(), Mapping(encoder_layers="last", decoder_layers="last")
NEXT = Mapping(encoder_layers="next_input", decoder_layers="next_input")
ONE = Depth(1, 1)


def encoder_pairs(mapping: Mapping, depth: Depth) -> list[tuple[int, int]]:
    pairs = layer_pairs(mapping, encoder=depth, decoder=ONE if depth.kept is None else Depth(1, 1, kept=(0,)))
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
    assert encoder_pairs(SPACED, Depth(student, teacher)) == expected


@given(st.integers(1, 32), st.integers(1, 32))
def test_spaced_layers_ascend_and_the_last_meets_the_last(student: int, teacher: int) -> None:
    pairs = encoder_pairs(SPACED, Depth(student, teacher))
    assert [mine for mine, _ in pairs] == list(range(student))
    theirs = [other for _, other in pairs]
    assert theirs == sorted(theirs)
    assert theirs[-1] == teacher - 1
    if student <= teacher:
        assert len(set(theirs)) == student
        assert theirs[0] >= 0


def test_only_the_last_layers_meet_where_that_is_asked() -> None:
    assert encoder_pairs(LAST, Depth(3, 6)) == [(2, 5)]


def test_frozen_encoder_layers_take_no_part_in_any_map() -> None:
    assert encoder_pairs(SPACED, Depth(3, 4, frozen=2)) == [(2, 3)]
    assert encoder_pairs(LAST, Depth(3, 4, frozen=2)) == [(2, 3)]
    assert encoder_pairs(NEXT, Depth(3, 4, frozen=2, kept=(0, 1, 3))) == [(2, 3)]
    for mapping in (SPACED, LAST, NEXT):
        assert encoder_pairs(mapping, Depth(3, 4, frozen=3, kept=(0, 1, 3))) == []


def test_encoder_and_decoder_are_mapped_each_in_its_own_way() -> None:
    mapping = Mapping(encoder_layers="last", decoder_list=(1, 2))
    assert layer_pairs(mapping, encoder=Depth(3, 4), decoder=Depth(2, 4)) == (
        LayerPair("encoder", 2, 3),
        LayerPair("decoder", 0, 1),
        LayerPair("decoder", 1, 2),
    )


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        # Layer 1 of (0, 1, 3) is followed by 3, which was trained to read what layer 2 says.
        ((0, 1, 3), [(0, 0), (1, 2), (2, 3)]),
        ((0, 3), [(0, 2), (1, 3)]),
        # After the last kept layer comes what the teacher's last layer says, wherever the cut was.
        ((0, 1), [(0, 0), (1, 3)]),
        ((2,), [(0, 3)]),
    ],
)
def test_a_kept_layer_meets_what_the_next_kept_layer_was_trained_to_read(
    kept: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    assert encoder_pairs(NEXT, Depth(len(kept), 4, kept=kept)) == expected


def test_next_inputs_of_a_student_of_its_own_are_refused_on_both_sides_at_once() -> None:
    with pytest.raises(ConfigError, match="pruned from the teacher") as caught:
        layer_pairs(NEXT, encoder=Depth(3, 4), decoder=Depth(2, 4))
    assert [problem.where for problem in caught.value.problems] == [
        "method.mapping.encoder_layers",
        "method.mapping.decoder_layers",
    ]


def test_a_list_names_a_teacher_layer_for_each_trained_layer_in_any_order() -> None:
    mapping = Mapping(encoder_list=(3, 0))
    assert encoder_pairs(mapping, Depth(3, 4, frozen=1)) == [(1, 3), (2, 0)]


def test_lists_that_do_not_fit_are_refused_with_every_reason() -> None:
    mapping = Mapping(encoder_list=(0, 4), decoder_list=(0,))
    with pytest.raises(ConfigError) as caught:
        layer_pairs(mapping, encoder=Depth(3, 4), decoder=Depth(2, 2))
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        ("method.mapping.encoder_list", "name one teacher layer for each of the 3 trained encoder layers, not 2"),
        ("method.mapping.encoder_list", "the teacher has encoder layers 0 to 3"),
        ("method.mapping.decoder_list", "name one teacher layer for each of the 2 trained decoder layers, not 1"),
    ]


def test_a_student_more_than_twice_as_deep_meets_no_layer_below_the_first() -> None:
    assert [theirs for _, theirs in encoder_pairs(SPACED, Depth(6, 2))] == [0, 0, 0, 0, 1, 1]
