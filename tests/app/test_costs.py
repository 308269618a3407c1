import dataclasses

import pytest

from app import costs, terms
from core.config import LOSSES
from core.store import Store
from tests.app import sample


def test_shares_are_of_all_teachers_and_of_the_largest_where_there_are_several() -> None:
    one = costs.parameters(sample.counts())
    assert list(one.columns) == ["Part", "Parameters", "Of the teacher"]
    two = dataclasses.replace(sample.counts(), teacher=2 * 37_184_640)
    frame = costs.parameters(two).set_index("Part")
    assert list(frame.loc["Adapters: trained, deployed"])[1:] == ["0.25 %", "0.50 %"]


def test_counts_of_an_older_run_leave_out_what_it_did_not_count() -> None:
    old = dataclasses.replace(
        sample.counts(), largest_teacher=None, student_non_embedding=None, teacher_flops=None, student_flops=None
    )
    assert len(costs.parameters(old)) == 5
    assert costs.computation(old) is None


def test_layers_with_the_same_adapters_are_told_together() -> None:
    modules = [f"model.decoder.layers.{layer}.{name}" for layer in (0, 1) for name in ("q_proj", "v_proj")]
    said = costs.adapted(["model.encoder.layers.2.fc1", *modules], 8)
    assert said == ("5 modules get an adapter of rank 8 (encoder layer 2: fc1; decoder layers 0, 1: q_proj, v_proj).")


def test_experts_are_told_with_their_number_and_rank() -> None:
    said = costs.adapted(["model.encoder.layers.2.fc1"], 30, {"number": 4, "rank": 7})
    assert said == "One module gets 4 experts of rank 7 and a router (encoder layer 2: fc1)."


def test_parameters_that_a_frame_goes_through_are_told_where_experts_are_left_out() -> None:
    stored = sample.counts().student
    dense, sparse = (dataclasses.replace(sample.counts(), student_active=active) for active in (stored, stored - 1000))
    name = "Student, active for one frame or token"
    assert name not in set(costs.parameters(dense)["Part"])
    assert name in set(costs.parameters(sparse)["Part"])


def test_a_run_that_ended_early_is_compared_by_its_steps_alone(store: Store) -> None:
    run = dataclasses.replace(sample.add_staged_run(store), step=40, seconds=30.0, estimate=sample.ESTIMATE)
    frame = costs.outcome(run, disk=None)
    assert frame is not None
    assert list(frame["Happened"]) == ["0.75 s", "–", "–", "–"]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_term_has_a_unit(loss: type) -> None:
    assert terms.UNITS[loss.model_fields["kind"].default]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_term_says_in_which_steps_it_counts() -> None:
    assert terms.stage({"begins": 0.0, "ends": 1.0}, 160) == ""
    assert terms.stage({"begins": 0.5, "ends": 1.0}, 160) == "from step 81"
    assert terms.stage({"begins": 0.25, "ends": 0.5}, 40) == "steps 11 to 20"
    assert terms.stage({"ends": 0.3}, 10) == "to step 3"


def test_what_the_cache_knew_is_told_and_nothing_where_nobody_asked() -> None:
    values = {"cache/utterances": 120.0, "cache/found": 40.0, "cache/bytes_before": 3e6, "cache/bytes_after": 9.5e6}
    said = costs.kept(values)
    assert said == (
        "Teacher outputs: 40 of 120 utterances were in the cache, which held 3.0 MB before and 9.5 MB after."
    )
    assert costs.kept({"cache/found": 40.0}) is None
