"""The form of a run: what is typed comes back, right or wrong, and mistakes stand beside their fields."""

import pytest
from streamlit.testing.v1 import AppTest

from core.config import RunConfig, parse_run, read_preset

QUICK_START = {config.name: config for config in read_preset("one-voice")[1]}


def page(values: dict) -> None:  # pyright: ignore[reportMissingTypeArgument]
    """Show the form of a run; Streamlit runs this function by its text, so it imports what it needs."""
    import streamlit as st

    from app import forms
    from core.config import RunConfig, parse_run
    from core.errors import ConfigError

    filled = forms.settings_form(RunConfig, values, key="form", visible={"name": "Name", "training.steps": "Steps"})
    st.session_state["values"] = filled.values
    try:
        parse_run(filled.values)
    except ConfigError as error:
        filled.show(error.problems)


def opened(config: RunConfig) -> AppTest:
    return AppTest.from_function(page, args=(config.model_dump(mode="json"),), default_timeout=30).run()


def mistakes(form: AppTest) -> list[str]:
    return [item.value.replace("\\", "") for item in form.markdown if ":red[" in item.value]


@pytest.mark.parametrize("config", QUICK_START.values(), ids=list(QUICK_START))
def test_a_form_that_nobody_touched_is_the_run_it_was_made_from(config: RunConfig) -> None:
    form = opened(config)
    assert not form.exception
    assert parse_run(form.session_state["values"]) == config


def test_every_mistake_stands_beside_its_field_at_once() -> None:
    form = opened(QUICK_START["+ manifold"])
    form.text_input(key="form:student.pruned.encoder_layers").set_value("0, x")
    form.number_input(key="form:training.steps").set_value(0)
    form.number_input(key="form:lora.rank").set_value(9999)
    form.run()
    assert len(mistakes(form)) == 3


def test_what_was_typed_wrong_is_still_there() -> None:
    form = opened(QUICK_START["+ manifold"])
    form.text_input(key="form:student.pruned.encoder_layers").set_value("0, x").run()
    assert form.session_state["values"]["student"]["encoder_layers"] == [0, "x"]
    assert form.text_input(key="form:student.pruned.encoder_layers").value == "0, x"


def test_another_kind_brings_its_own_fields_and_the_old_ones_are_remembered() -> None:
    form = opened(QUICK_START["+ manifold"])
    form.number_input(key="form:source.generated.train").set_value(17)
    form.selectbox(key="form:source.kind").select("manifest").run()
    assert form.session_state["values"]["source"]["kind"] == "manifest"
    assert len(mistakes(form)) == 3, "each of the three manifests is asked for"
    form.selectbox(key="form:source.kind").select("generated").run()
    assert form.session_state["values"]["source"]["train"] == 17


def test_a_loss_that_is_chosen_comes_with_its_own_weight() -> None:
    form = opened(QUICK_START["LoRA + CE"])
    form.multiselect(key="form:method.losses").select("geodesic").run()
    form.number_input(key="form:method.losses.geodesic.weight").set_value(3.5).run()
    losses = parse_run(form.session_state["values"]).method.losses
    assert [(loss.kind, loss.weight) for loss in losses] == [("cross_entropy", 1.0), ("geodesic", 3.5)]


def test_an_optional_field_that_is_left_empty_is_none() -> None:
    form = opened(QUICK_START["LoRA + CE"])
    form.text_input(key="form:student.pruned.encoder_layers").set_value("").run()
    assert form.session_state["values"]["student"]["encoder_layers"] is None


def test_help_says_what_a_field_is_with_its_range_and_default() -> None:
    about = opened(QUICK_START["LoRA + CE"]).number_input(key="form:lora.rank").help.replace("\\", "")
    assert "Rank" in about
    assert "From 1 to 512." in about
    assert "Default 32." in about


def test_settings_that_may_be_none_are_asked_for_once_they_are_wanted() -> None:
    form = opened(QUICK_START["+ manifold"])
    assert not [field for field in form.number_input if "mixture" in (field.key or "")]
    form.toggle(key="form:lora.mixture.on").set_value(True).run()
    form.number_input(key="form:lora.mixture.experts").set_value(6).run()
    mixture = parse_run(form.session_state["values"]).lora.mixture
    assert mixture is not None
    assert (mixture.experts, mixture.top_k) == (6, None)
    form.number_input(key="form:lora.mixture.top_k").set_value(6).run()
    assert len(mistakes(form)) == 1
    form.toggle(key="form:lora.mixture.on").set_value(False).run()
    assert parse_run(form.session_state["values"]) == QUICK_START["+ manifold"]


def test_a_mixture_in_a_form_that_nobody_touched_stays() -> None:
    config = read_preset("mixture")[1][2]
    assert parse_run(opened(config).session_state["values"]) == config
