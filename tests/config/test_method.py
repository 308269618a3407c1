"""A method's settings: what is refused before a run starts, and when each term counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from core.config import LOSSES, CrossEntropy, Geodesic, InfoNce, Loss, Mapping, Method

CE = {"kind": "cross_entropy"}


def refused(model: Any, fields: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(fields)
    return str(caught.value)


def test_a_term_that_is_told_nothing_keeps_its_weight_from_the_first_step_to_the_last() -> None:
    loss = CrossEntropy(weight=3)
    assert [loss.weight_at(step / 7) for step in range(1, 8)] == [3] * 7


def test_a_stage_begins_after_its_first_share_and_ends_with_its_last() -> None:
    loss = CrossEntropy(begins=0.25, ends=0.75)
    assert [loss.weight_at(step / 4) for step in range(1, 5)] == [0, 1, 1, 0]


def test_a_weight_rises_over_its_warmup_and_falls_to_its_final_share() -> None:
    loss = CrossEntropy(weight=2, begins=0.2, ends=0.7, warmup=0.25, final=0.1)
    # Halfway through the stage: the rise is over, and the fall is halfway from 1 to 0.1.
    assert loss.weight_at(0.45) == pytest.approx(2 * 0.55)
    # A quarter through: half the rise, a quarter of the fall.
    assert loss.weight_at(0.325) == pytest.approx(2 * 0.5 * 0.775)
    assert loss.weight_at(0.7) == pytest.approx(2 * 0.1)
    assert (loss.weight_at(0.2), loss.weight_at(0.71)) == (0, 0)


def test_contrast_decays_to_a_tenth_of_its_weight() -> None:
    loss = InfoNce(weight=5)
    assert loss.weight_at(1.0) == pytest.approx(0.5)
    assert loss.weight_at(1e-9) == pytest.approx(5)


@given(
    st.floats(0, 0.98), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.01, 10), st.floats(1e-6, 1), st.floats(0.1, 10)
)
def test_a_weight_is_never_below_zero_nor_above_its_largest_factor(
    begins: float, length: float, warmup: float, final: float, progress: float, weight: float
) -> None:
    ends = min(1.0, begins + length)
    loss = CrossEntropy(weight=weight, begins=begins, ends=ends, warmup=warmup, final=final)
    assert 0 <= loss.weight_at(progress) <= weight * max(1, final) * (1 + 1e-9)
    assert (loss.weight_at(progress) > 0) == (begins < progress <= ends)


def test_a_stage_that_ends_before_it_begins_is_refused() -> None:
    for ends in (0.3, 0.5):
        assert "or the term never counts" in refused(CrossEntropy, {"begins": 0.5, "ends": ends})


@pytest.mark.parametrize(
    ("losses", "place"),
    [
        ([{**CE, "begins": 0.2}], "1e-09"),
        ([{**CE, "ends": 0.8}], "0.8"),
        ([{**CE, "ends": 0.4}, {"kind": "soft_labels", "begins": 0.5}], "0.4"),
        # The only term that counts there has just fallen to nothing.
        ([{**CE, "ends": 0.5, "final": 0}, {"kind": "soft_labels", "begins": 0.5}], "0.5"),
        ([{**CE, "final": 0}], "1 of the run"),
    ],
)
def test_a_stretch_of_the_run_without_any_term_is_refused_with_its_place(losses: list[Any], place: str) -> None:
    said = refused(Method, {"losses": losses})
    assert "no term counts at" in said
    assert place in said


@pytest.mark.parametrize(
    "losses",
    [
        [{**CE, "ends": 0.5}, {"kind": "soft_labels", "begins": 0.5}],
        [{**CE, "ends": 0.6}, {"kind": "soft_labels", "begins": 0.3, "warmup": 0.7}],
        [{**CE, "final": 0}, {"kind": "soft_labels", "begins": 0.9}],
        [CE, {"kind": "soft_labels", "begins": 0.2, "ends": 0.3}],
    ],
)
def test_stages_that_follow_or_overlap_are_accepted(losses: list[Any]) -> None:
    assert len(Method.model_validate({"losses": losses}).losses) == 2


def test_each_kind_of_loss_may_appear_once() -> None:
    assert "remove the second cross_entropy" in refused(Method, {"losses": [CE, {**CE, "begins": 0.5}]})


def test_an_alignment_of_neither_side_is_refused() -> None:
    losses = [CE, {"kind": "geodesic", "encoder": False, "decoder": False}]
    assert "the geodesic term aligns nothing" in refused(Method, {"losses": losses})


def test_only_an_alignment_of_encoder_states_alone_needs_no_decoder_pass() -> None:
    def method(*losses: Any) -> Method:
        return Method.model_validate({"losses": losses})

    frames = {"kind": "geodesic", "decoder": False}
    assert not method(frames).needs_decoder
    assert method(frames).aligns
    assert method(frames, CE).needs_decoder
    assert method({"kind": "geodesic", "encoder": False}).needs_decoder
    assert not method(CE).aligns


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_every_loss_has_a_stage_a_meaning_a_formula_and_a_source(loss: Any) -> None:
    assert loss().weight_at(0.5) > 0
    assert loss.meaning.endswith(".")
    assert loss.formula
    assert loss.source
    assert TypeAdapter(Loss).validate_python(loss().model_dump(mode="json")) == loss()


def test_the_mapping_is_centred_linear_and_shared_unless_told_otherwise() -> None:
    # Trap: raw states are anisotropic, so that the default must not be raw.
    mapping = Method(losses=(Geodesic(),)).mapping
    assert (mapping.states, mapping.projection, mapping.sharing, mapping.basis) == (
        "centred",
        "linear",
        "shared",
        "identity",
    )


def test_a_common_width_needs_a_basis_of_its_own() -> None:
    assert "choose 'orthogonal' or 'principal'" in refused(Mapping, {"common_width": 32})
    assert Mapping(common_width=32, basis="principal").common_width == 32


@pytest.mark.parametrize(
    "fields",
    [
        {"encoder_layers": "first"},
        {"encoder_list": [-1]},
        {"projection": "cubic"},
        {"states": "scaled"},
        {"basis": "learned"},
        {"directions": 1},
        {"hidden_width": 0},
        {"projection_rank": 0},
        {"layers": "last"},
    ],
)
def test_settings_of_the_mapping_that_mean_nothing_are_refused(fields: dict[str, Any]) -> None:
    assert next(iter(fields)) in refused(Mapping, fields)


def test_transcripts_are_the_sources_unless_the_teachers_are_asked_for() -> None:
    method = Method.model_validate({"losses": [CE]})
    assert (method.transcripts, method.largest_wer) == ("reference", 0.1)
    assert Method.model_validate({"losses": [CE], "transcripts": "teacher", "largest_wer": 0}).largest_wer == 0
    for fields in ({"transcripts": "both"}, {"largest_wer": -0.1}, {"largest_wer": float("nan")}):
        assert next(iter(fields)) in refused(Method, {"losses": [CE], **fields})


def test_a_method_reads_back_from_what_it_writes() -> None:
    method = Method.model_validate(
        {
            "losses": [{**CE, "ends": 0.5}, {"kind": "geodesic", "begins": 0.5, "warmup": 0.1}],
            "mapping": {"encoder_list": [1, 3], "basis": "principal", "common_width": 64, "states": "whitened"},
            "transcripts": "teacher",
        }
    )
    assert Method.model_validate_json(method.model_dump_json()) == method
