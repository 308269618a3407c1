"""Which cuts a scan proposes, and what is said of the one that was made."""

import pytest

from core.config import PretrainedStudent, PrunedStudent
from core.layer_cuts import choice_in_words, cuts, layers_cut, listed, proposals, sides_cut
from core.store.records import LayerDistance, LayerScan, Side


def scan(*alone: float, side: Side = "encoder", blocks: dict[tuple[int, int], float] | None = None) -> LayerScan:
    found = {(first, last): sum(alone[first : last + 1]) for first in range(len(alone)) for last in range(len(alone))}
    found = {place: value for place, value in found.items() if place[0] <= place[1]} | (blocks or {})
    distances = tuple(LayerDistance(side, *place, value, 0.01) for place, value in found.items())
    return LayerScan("m", 15.0, 24, 70.0, 2.0, distances)


TINY = scan(0.313, 0.171, 0.207, 0.269)


def test_the_best_cut_of_each_size_is_proposed_in_the_order_of_damage() -> None:
    found = proposals(TINY, "encoder")
    assert [(cut.layers, cut.kept, cut.freeze_below) for cut in found] == [
        ((1,), (0, 2, 3), 1),
        ((1, 2), (0, 3), 1),
        ((1, 2, 3), (0,), 0),
    ]
    assert proposals(scan(0.3, 0.2, 0.3, 0.4, blocks={(2, 3): 0.1}), "encoder")[0].layers == (2, 3)


def test_a_block_is_ranked_by_its_own_distance_and_not_by_its_layers() -> None:
    turned_back = scan(0.3, 0.2, 0.25, 0.3, blocks={(2, 3): 0.1})
    assert cuts(turned_back, "encoder", 2)[0].layers == (2, 3)


def test_the_first_layer_goes_only_where_that_is_asked_for() -> None:
    useless = scan(0.01, 0.2, 0.3)
    assert all(0 in cut.kept for cut in proposals(useless, "encoder"))
    first = proposals(useless, "encoder", first_layer=True)[0]
    assert (first.layers, first.kept, first.freeze_below) == ((0,), (1, 2), 0)


@pytest.mark.parametrize(
    ("alone", "kept", "freeze_below"), [((0.3, 0.2, 0.3, 0.1), (0, 1, 2), 2), ((0.3, 0.1), (0,), 0)]
)
def test_a_cut_at_the_end_leaves_a_layer_to_be_trained(
    alone: tuple[float, ...], kept: tuple[int, ...], freeze_below: int
) -> None:
    first = cuts(scan(*alone), "encoder", 1)[0]
    assert (first.kept, first.freeze_below) == (kept, freeze_below)


def test_a_model_of_one_layer_has_nothing_to_cut() -> None:
    assert proposals(scan(0.3), "encoder") == proposals(TINY, "decoder") == []
    assert proposals(scan(0.3), "encoder", first_layer=True) == []


def test_a_decoder_freezes_nothing() -> None:
    assert proposals(scan(0.3, 0.2, side="decoder"), "decoder")[0].freeze_below is None


LEAST = "Of those that may go, layer 1 has the least (0.17)."


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([0, 2, 3], "layer 1 of 0 to 3, the least angular distance of those that may go (0.17; others 0.21 to 0.27)."),
        ([0, 1, 3], f"layer 2 of 0 to 3, angular distance 0.21. {LEAST}"),
        ([1, 2, 3], f"layer 0 of 0 to 3, angular distance 0.31. {LEAST}"),
        (
            [0, 3],
            "layers 1 and 2 of 0 to 3, the least angular distance of those that may go (0.38; the other one 0.48).",
        ),
        ([0], "layers 1, 2 and 3 of 0 to 3, angular distance 0.65."),
        (
            [0, 2],
            "layers 1 and 3 of 0 to 3, not side by side: angular distances 0.17, 0.27, each alone. Of blocks of as "
            "many, layers 1 and 2 have the least (0.38).",
        ),
    ],
)
def test_the_choice_is_told_beside_the_others(kept: list[int], said: str) -> None:
    assert choice_in_words(TINY, {"kind": "pruned", "encoder_layers": kept}) == [f"Cut: encoder {said}"]


@pytest.mark.parametrize(
    "student", [{"kind": "pretrained"}, {"encoder_layers": None}, {"encoder_layers": [0, 1, 2, 3]}]
)
def test_nothing_is_told_where_nothing_was_cut(student: dict[str, object]) -> None:
    assert choice_in_words(TINY, student) == []
    assert layers_cut(TINY, student) == {}


def test_sides_that_name_their_layers_are_measured() -> None:
    assert sides_cut(PrunedStudent(encoder_layers=(0, 1))) == ("encoder",)
    assert sides_cut(PrunedStudent(encoder_layers=(0,), decoder_layers=(0, 3))) == ("encoder", "decoder")
    assert sides_cut(PrunedStudent()) == sides_cut(PretrainedStudent(model="m")) == ()


def test_layers_are_listed_in_words() -> None:
    assert [listed([2]), listed([1, 2]), listed([0, 1, 2])] == ["layer 2", "layers 1 and 2", "layers 0, 1 and 2"]
