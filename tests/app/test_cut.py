"""Where the teacher was cut: the chart and its table on a run's page, and a line above the ablation table."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import layer_charts
from core.store import RunRecord, Store
from tests.app import sample
from tests.app.test_views import texts

OpenPage = Callable[..., AppTest]

CHOSEN = {"kind": "pruned", "encoder_layers": [0, 2, 3]}


@pytest.fixture
def run(store: Store, runs_folder: Path) -> RunRecord:
    return sample.add_finished_job(store, runs_folder)[0]


def test_a_run_shows_every_layer_and_which_was_cut(open_page: OpenPage, store: Store, run: RunRecord) -> None:
    page = open_page("run", run=run.id, tab="Results")
    assert not page.exception
    assert "Where the teacher was cut" in texts(page)
    kept = run.config["student"]["encoder_layers"]
    gone = [layer for layer in range(4) if layer not in kept]
    (chart,) = [json.loads(item.proto.spec) for item in page.get("vega_lite_chart")]
    for layer, distance in enumerate(("0.310", "0.170", "0.210", "0.270")):
        assert f"layer {layer} {distance}{' (cut)' if layer in gone else ''}" in chart["description"]
    table = page.dataframe[-1].value
    assert table["It was"].tolist() == ["cut" if layer in gone else "kept" for layer in range(4)]
    assert table["Angular distance"].tolist() == pytest.approx([0.31, 0.17, 0.21, 0.27])
    assert "24 training clips, 72 s" in texts(page)
    assert "in 2\\.5 s before training" in texts(page) or "in 2.5 s before training" in texts(page)


def test_the_choice_stands_above_the_ablation_table(open_page: OpenPage, run: RunRecord) -> None:
    page = open_page("ablations", job=run.job_id)
    assert "Cut: encoder layer" in texts(page)


def test_a_job_that_measured_nothing_says_nothing(open_page: OpenPage, store: Store) -> None:
    run = sample.add_read_run(store, "older", 0.3)
    assert store.layer_scan(run.job_id) is None
    assert "Where the teacher was cut" not in texts(open_page("run", run=run.id, tab="Results"))
    assert "Cut:" not in texts(open_page("ablations", job=run.job_id))


def test_a_cut_layer_bears_the_word_and_not_the_colour_alone() -> None:
    frame = layer_charts.single_layers(sample.scan(), "encoder", CHOSEN)
    assert frame["what"].tolist() == ["kept", "cut", "kept", "kept"]
    spec = layer_charts.distances(frame, description="").to_dict()
    (data,) = spec["datasets"].values()
    assert [row["said"] for row in data] == ["", "cut", "", ""]
    assert [row["low"] for row in data] == pytest.approx([0.308, 0.168, 0.208, 0.268])
