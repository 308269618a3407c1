"""A run's page: its curves, and what it took beside what was expected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.store import Store
from tests.app import sample
from tests.app.test_views import texts

OpenPage = Callable[..., AppTest]


def test_what_happened_stands_beside_what_was_expected(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    run = sample.add_finished_job(store, runs_folder)[3]
    states = runs_folder / run.id / "states"
    states.mkdir(parents=True)
    (states / "step-0.safetensors").write_bytes(bytes(3_500_000))
    page = open_page("run", run=run.id, tab="Costs")
    table = page.dataframe[0].value
    assert table.set_index("What").T.to_dict("list") == {
        "One step": ["0.50 s", "0.57 s", "1.14"],
        "Training": ["1 min 20 s", "1 min 31 s", "1.14"],
        "Peak memory": ["1.9 GB", "2.1 GB", "1.10"],
        "Disk": ["7.0 MB", "3.5 MB", "0.50"],
    }
    parameters = page.dataframe[1].value
    shares = dict(zip(parameters["Part"], parameters["Of the teacher"], strict=True))
    assert shares["Trained together"] == "0.89 %"
    assert shares["Student, without tables of tokens and positions"] == "38.99 %"


def test_a_run_that_nobody_measured_shows_what_it_took(open_page: OpenPage, store: Store) -> None:
    run = sample.add_staged_run(store)
    page = open_page("run", run=run.id, tab="Costs")
    assert list(page.dataframe[0].value.columns) == ["What", "Happened"]
    assert "Nothing was measured before this run started." in texts(page)


@pytest.fixture
def charts(open_page: OpenPage, store: Store) -> dict[str, dict[str, Any]]:
    """Return the charts of a run in stages by what they say they show."""
    page = open_page("run", run=sample.add_staged_run(store).id, tab="Curves")
    assert not page.exception
    said = texts(page)
    assert "**Loss: CKA** · 1 − CKA" in said
    assert "**Loss: Cross entropy** · nats per token · from step 81" in said
    assert "**Loss: InfoNCE** · nats per point · to step 120" in said
    specs = [json.loads(item.proto.spec) for item in page.get("vega_lite_chart")]
    return {spec["description"].split(" by step")[0]: spec for spec in specs}


def test_a_term_has_one_colour_in_all_charts_and_its_steps_stand_on_the_axis_of_the_run(
    charts: dict[str, dict[str, Any]],
) -> None:
    shares = charts["Share of each term"]["encoding"]["color"]["scale"]
    colours = dict(zip(shares["domain"], shares["range"], strict=True))
    assert list(colours) == ["Cross entropy", "CKA", "Geodesic", "InfoNCE"]
    for name, colour in colours.items():
        encoding = charts[f"Loss: {name}"]["layer"][0]["encoding"]
        assert encoding["color"]["scale"]["range"][0] == colour
        assert encoding["x"]["scale"]["domain"] == [0, sample.STEPS]
