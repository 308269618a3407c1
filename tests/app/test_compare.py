"""Compare: what sets runs apart, and error rates only where they were measured alike."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.runs import RunRecord
from core.store import Store
from tests.app import sample
from tests.app.test_views import texts

OpenPage = Callable[..., AppTest]


@pytest.fixture
def runs(store: Store, runs_folder: Path) -> list[RunRecord]:
    return sample.add_finished_job(store, runs_folder)


def address(runs: list[RunRecord]) -> str:
    return ",".join(run.id for run in runs)


def test_runs_stand_side_by_side_with_their_differences_alone(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    page = open_page("compare", runs=address([runs[0], runs[3]]))
    assert not page.exception
    numbers, settings = (table.value for table in page.dataframe)
    assert list(numbers["Run"]) == [runs[0].name, runs[3].name]
    rates = [store.evaluations(run_id=run.id, test_set="test")[0].wer for run in (runs[0], runs[3])]
    assert list(numbers["test"]) == [100 * rate for rate in rates]
    assert list(numbers.columns[:5]) == ["Run", "test", "real", "development", "State"]
    assert list(settings["Setting"]) == ["method.losses.soft_labels", "method.losses.geodesic"]
    assert list(settings.columns) == ["Setting", runs[0].name, runs[3].name]
    assert page.query_params["runs"] == address([runs[0], runs[3]])


def test_a_run_has_one_colour_in_all_charts(open_page: OpenPage, runs: list[RunRecord]) -> None:
    page = open_page("compare", runs=address(runs), curves="loss/geodesic,loss/total")
    charts = [json.loads(item.proto.spec) for item in page.get("vega_lite_chart")]
    assert [chart["description"].split(" by step")[0] for chart in charts] == ["Loss: geodesic", "Loss: total"]
    scales = [chart["layer"][0]["encoding"]["color"]["scale"] for chart in charts]
    assert scales[0] == scales[1]
    assert scales[0]["domain"] == [run.name for run in runs]


def test_runs_of_one_name_are_told_apart(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    first, second = (sample.add_job(store, runs_folder, "failed")[0] for _ in range(2))
    page = open_page("compare", runs=address([first, second]))
    assert list(page.dataframe[0].value["Run"]) == [f"+ manifold · {run.id}" for run in (first, second)]
    assert "these runs have the same settings" in texts(page)


def test_rates_that_were_measured_differently_are_refused_with_what_differs(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    record = next(item for item in store.evaluations(run_id=runs[1].id) if item.test_set == "test")
    other = {**asdict(replace(record, normaliser="none", test_set_hash="another set")), "step": record.step}
    store.add_evaluation(**{name: value for name, value in other.items() if name != "id"})
    page = open_page("compare", runs=address(runs[:3]))
    said = page.error[0].value.replace("\\", "")
    assert "test set, normaliser" in said
    assert "none (+ logit KD)" in said
    assert (
        "test set, utterances** differs: 237 words (LoRA + CE, + cosine); 237 words, but other clips or texts" in said
    )
    assert "another set" not in said
    assert "test" not in page.dataframe[0].value.columns
    assert "development" in page.dataframe[0].value.columns


def test_more_runs_than_fifty_are_cut_and_that_is_said(open_page: OpenPage, store: Store) -> None:
    runs = [run for _ in range(13) for run in store.runs(job_id=store.create_job("a", sample.rows("one-voice")).id)]
    page = open_page("compare", runs=address(runs))
    assert not page.exception
    assert "The address names 52 runs. The first 50 are shown." in texts(page)
    assert list(page.dataframe[0].value["Id"]) == [run.id for run in runs[:50]]


def test_it_says_of_how_many_words_each_set_is(open_page: OpenPage, runs: list[RunRecord]) -> None:
    said = texts(open_page("compare", runs=address(runs[:2])))
    assert re.search(r"^Test set: \d+ words, Real set: \d+ words, Development set: \d+ words\.", said, re.MULTILINE), (
        said
    )


def test_a_run_in_the_bin_is_still_compared(open_page: OpenPage, store: Store, runs: list[RunRecord]) -> None:
    store.put_in_bin([runs[0].id])
    page = open_page("compare", runs=address(runs[:2]))
    assert list(page.dataframe[0].value["Id"]) == [run.id for run in runs[:2]]
    assert any("in the bin" in option for option in page.multiselect[0].options)


def test_fewer_than_two_are_asked_for_more(open_page: OpenPage, runs: list[RunRecord]) -> None:
    assert "Choose at least two runs" in texts(open_page("compare", runs=runs[0].id))


def test_runs_that_are_not_there_are_left_out_and_the_others_are_compared(
    open_page: OpenPage, runs: list[RunRecord]
) -> None:
    page = open_page("compare", runs=f"nope,{address(runs[:2])},gone")
    assert list(page.dataframe[0].value["Id"]) == [run.id for run in runs[:2]]
    (said,) = [item.value.replace("\\", "") for item in page.warning]
    assert said == "The address names runs that are not here: 'nope', 'gone'."


def test_only_what_means_the_same_in_every_objective_is_drawn_unasked(
    open_page: OpenPage, runs: list[RunRecord]
) -> None:
    page = open_page("compare", runs=address([runs[0], runs[3]]))
    assert len(page.get("vega_lite_chart")) == 1
    assert "different objectives" not in texts(page)
    page.multiselect[1].set_value(["development/wer", "loss/total"]).run()
    assert "different objectives" in texts(page)


def test_a_curve_that_is_read_later_has_its_place_while_a_run_is_at_work(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    runs = [sample.add_job(store, runs_folder, state)[0] for state in ("failed", "running")]
    page = open_page("compare", runs=address(runs))
    assert not page.exception
    assert page.multiselect[1].value == ["development/wer"]
    (chart,) = page.get("vega_lite_chart")
    assert json.loads(chart.proto.spec)["description"] == "Development: WER by step. Last: nothing so far."
    store.run_state(runs[1].id, "finished")
    assert "development/wer" not in open_page("compare", runs=address(runs)).multiselect[1].options


def test_a_long_name_leaves_room_for_the_numbers(open_page: OpenPage, runs: list[RunRecord]) -> None:
    tables = open_page("compare", runs=address(runs)).dataframe
    pinned = [json.loads(table.proto.columns)[name] for table, name in zip(tables, ("Run", "Setting"), strict=True)]
    assert [column["width"] for column in pinned] == [180, 180]
