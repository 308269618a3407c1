"""A run's page: its curves, and what it took beside what was expected."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import starts
from core.boot import uptime
from core.launchers.process import identify
from core.launchers.slots import CPU, device_slots, take_slot
from core.runs import Studio
from core.store import Store
from core.store.records import State
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
    assert "**Loss: CKA** · 1 − debiased CKA" in said
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


def test_utterances_stand_worst_best_or_most_improved_first(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[1]

    def rates(order: str) -> list[float]:
        page = open_page("run", run=run.id, tab="Utterances", order=order)
        assert not page.exception
        table = page.dataframe[0].value
        return list(table["Before"] - table["WER"] if order == "improved" else table["WER"])

    assert rates("worst") == sorted(rates("worst"), reverse=True)
    assert rates("best") == sorted(rates("worst"))
    improved = rates("improved")
    assert improved == sorted(improved, reverse=True)
    assert len(set(improved)) > 1


def test_most_improved_is_not_offered_where_nothing_was_heard_before(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[1]
    unread = next(record for record in store.evaluations(run_id=run.id) if record.test_set == "real")
    page = open_page("run", run=run.id, tab="Utterances", evaluation=str(unread.id))
    assert "Before" not in page.dataframe[0].value.columns
    (order,) = [item for item in page.button_group if item.key == "choice:order"]
    assert (order.value, order.options) == ("worst", ["Worst", "Best"])


def test_settings_say_what_sets_a_run_apart_in_its_job(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    runs = sample.add_finished_job(store, runs_folder)
    page = open_page("run", run=runs[3].id, tab="Settings")
    assert list(page.dataframe[0].value["Setting"]) == ["method.losses.soft_labels", "method.losses.geodesic"]
    assert "the baseline of its job" in texts(open_page("run", run=runs[0].id, tab="Settings"))


def test_files_are_listed_with_the_command_that_exports_the_student(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[3]
    adapters = runs_folder / run.id / "adapters" / "step-000160"
    adapters.mkdir(parents=True)
    (adapters / "adapter_model.safetensors").write_bytes(bytes(2_000_000))
    (adapters.parent / "best").symlink_to(adapters.name)
    page = open_page("run", run=run.id, tab="Files")
    table = page.dataframe[0].value
    sizes = dict(zip(table["File"], table["Size"], strict=True))
    assert sizes["adapters/step-000160/adapter_model.safetensors"] == "2.0 MB"
    assert not [name for name in sizes if name.startswith("adapters/best")]
    assert page.code[0].value.startswith(f"manifold export {run.id} --to student")


def test_a_run_in_the_bin_says_so_and_comes_back(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    run = sample.add_finished_job(store, runs_folder)[3]
    store.put_in_bin([run.id])
    page = open_page("run", run=run.id)
    assert "This run is in the bin." in texts(page)
    next(button for button in page.button if button.label == "Restore").click().run()
    assert store.run(run.id).deleted_at is None


def test_the_angle_at_the_last_probe_stands_in_front(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    run = sample.add_finished_job(store, runs_folder)[3]
    shown = {item.label: item.value for item in open_page("run", run=run.id).metric}
    assert shown["Mean angle ↓"] == "29.6°"


def test_a_log_that_did_not_come_along_is_said_to_be_elsewhere(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[0]
    log = runs_folder / "jobs" / run.job_id / "log.txt"
    assert "The last lines of" in texts(open_page("run", run=run.id, tab="Log"))
    log.unlink()
    page = open_page("run", run=run.id, tab="Log")
    assert "The log stayed where the job ran." in texts(page)
    assert not page.code


def test_a_run_that_ended_before_its_first_step_says_so(open_page: OpenPage, store: Store) -> None:
    job = store.create_job("early", sample.rows("quickstart")[:1])
    (run,) = store.runs(job_id=job.id)
    store.job_state(job.id, "running")
    store.run_state(run.id, "running")
    store.add_metrics(run.id, 0, {"data/utterances": 240.0})
    assert "Curves appear with the first step." in texts(open_page("run", run=run.id))
    store.run_state(run.id, "stopped")
    store.job_state(job.id, "stopped")
    assert "This run ended before its first step." in texts(open_page("run", run=run.id))


@pytest.mark.parametrize(
    ("message", "opened"), [("The disk is full. Make room.", False), ("The job's log has the details.", True)]
)
def test_the_log_is_open_where_the_sentence_sends_to_it(
    open_page: OpenPage, store: Store, runs_folder: Path, message: str, opened: bool
) -> None:
    (run,) = sample.add_job(store, runs_folder, "failed", message)
    (shown,) = [item for item in open_page("run", run=run.id).expander if item.label == "The end of its log"]
    assert shown.proto.expanded == opened


def test_the_axis_of_a_run_that_trains_stands_still(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    ends = {}
    for state in ("running", "stopped"):
        (run,) = sample.add_job(store, runs_folder, state)
        spec = json.loads(open_page("run", run=run.id).get("vega_lite_chart")[0].proto.spec)
        ends[state] = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert ends == {"running": [0, sample.STEPS], "stopped": [0, 60]}


def test_a_run_that_waits_says_for_what(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    worker = identify(os.getpid())
    assert worker is not None
    job = store.create_job("two", sample.rows("quickstart")[:2])
    store.job_started(job.id, worker.pid, worker.boot_id, worker.started)
    store.job_state(job.id, "running")
    first, second = store.runs(job_id=job.id)
    assert "This run begins when models and speech are ready." in texts(open_page("run", run=first.id))
    assert "This run waits for the job's runs before it." in texts(open_page("run", run=second.id))


@pytest.mark.parametrize("page", ["run", "runs"])
def test_a_run_that_gets_on_with_nothing_is_said_to_stand_still(
    open_page: OpenPage, store: Store, runs_folder: Path, page: str
) -> None:
    (run,) = sample.add_job(store, runs_folder, "running")
    store.advanced(run.job_id, [run.id], uptime())
    assert not open_page(page, run=run.id).warning
    store.advanced(run.job_id, [run.id], uptime() - 3600)
    (said,) = open_page(page, run=run.id).warning
    assert said.value.startswith("No step for 60 min, where one took")


def test_the_buttons_that_stop_a_job_stay_in_their_place_while_it_goes_on(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    def place(block: Any, path: tuple[int, ...] = ()) -> tuple[int, ...]:
        for number, child in getattr(block, "children", {}).items():
            if getattr(child, "label", "") == "Stop":
                return (*path, number)
            if found := place(child, (*path, number)):
                return found
        return ()

    (waits,) = sample.add_job(store, runs_folder, "queued")
    before = place(open_page("run", run=waits.id).main)
    (works,) = sample.add_job(store, runs_folder, "running")
    assert before
    assert place(open_page("run", run=works.id).main) == before


def test_many_lines_of_an_ending_are_cut_and_the_log_has_the_rest(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    message = "\n".join(["The manifest is wrong:", *(f"line {number}" for number in range(11))])
    (run,) = sample.add_job(store, runs_folder, "failed", message)
    (shown,) = open_page("run", run=run.id).error
    assert shown.value.split("  \n") == ["The manifest is wrong\\:", "line 0", "line 1", "and 9 more, in the log"]


@pytest.mark.parametrize("ending", ["failed", "interrupted", "stopped"])
def test_a_run_that_did_not_finish_is_started_again_as_it_was(
    open_page: OpenPage, store: Store, runs_folder: Path, ending: State
) -> None:
    (run,) = sample.add_job(store, runs_folder, ending, "It did not finish.")
    turn = take_slot(device_slots(), CPU)
    assert turn is not None
    with turn:
        page = open_page("run", run=run.id)
        (again,) = [button for button in page.button if button.label == "Start it again"]
        again.click().run()
        (job,) = [job for job in store.jobs() if job.id != run.job_id]
        Studio(store.url, runs_folder).stop(job.id, now=True)
    (new,) = store.runs(job_id=job.id)
    assert (job.name, new.config) == (store.job(run.job_id).name, run.config)
    assert page.query_params["run"] == new.id


def test_a_run_that_finished_or_is_at_work_is_not_started_again(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    runs = [sample.add_finished_job(store, runs_folder)[0], *sample.add_job(store, runs_folder, "running")]
    for run in runs:
        assert "Start it again" not in [button.label for button in open_page("run", run=run.id).button]


def test_a_run_starts_again_with_the_runs_whose_students_it_needs(store: Store) -> None:
    job = store.create_job("ensemble", sample.rows("ensemble"))
    runs = store.runs(job_id=job.id)
    needed = [row for row in starts.rows_needed(starts.parse_run(runs[-1].config))]
    assert needed
    assert [config.name for config in starts.again(runs[-1], runs)] == [
        run.name for run in runs if run.name in (*needed, runs[-1].name)
    ]


def test_what_of_a_run_from_elsewhere_stayed_there_is_said_in_files(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[3]
    (runs_folder / run.id / "states").mkdir()
    said = texts(open_page("run", run=run.id, tab="Files"))
    assert "did not train here. What did not come with it: adapters." in said
    (here,) = sample.add_job(store, runs_folder, "failed")
    assert "did not train here" not in texts(open_page("run", run=here.id, tab="Files"))


def test_a_run_at_work_shows_what_it_trains_and_reads_as_soon_as_it_is_stored(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    (run,) = sample.add_job(store, runs_folder, "queued")
    worker = identify(os.getpid())
    assert worker is not None
    store.job_started(run.job_id, worker.pid, worker.boot_id, worker.started)
    store.job_state(run.job_id, "running")
    store.run_state(run.id, "running")
    page = open_page("run", run=run.id)
    assert {item.label: item.value for item in page.metric}["Trained, of the teacher"] == "–"
    store.set_parameters(run.id, sample.counts())
    store.add_metrics(run.id, 1, {"loss/total": 3.0})
    store.run_progress(run.id, 1, 0.5)
    page.run()
    assert {item.label: item.value for item in page.metric}["Trained, of the teacher"] == "0.50 %"
    # The place of what is read later is there from the first step on.
    assert "Word error rate, development set" in texts(page)
    assert "Not read so far." in texts(page)
    store.add_metrics(run.id, 1, {"development/wer": 0.25})
    page.run()
    assert "Not read so far." not in texts(page)
    (spec,) = [
        json.loads(chart.proto.spec) for chart in page.get("vega_lite_chart") if "Word error rate" in chart.proto.spec
    ]
    assert spec["description"] == "Word error rate, development set by step. Last: 25."


def heard(page: AppTest) -> str:
    """Return which clip a page plays."""
    assert not page.exception
    (player,) = page.get("audio")
    return player.proto.alt


def test_an_address_says_which_utterance_is_heard_else_it_is_the_first(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[1]
    page = open_page("run", run=run.id, tab="Utterances")
    listed = list(page.dataframe[0].value["Utterance"])
    assert heard(page) == f"Utterance {listed[0]}"
    assert "utterance" not in page.query_params
    for wanted, said in ((listed[5], listed[5]), ("nobody", listed[0])):
        page = open_page("run", run=run.id, tab="Utterances", utterance=wanted)
        assert heard(page) == f"Utterance {said}"


def test_the_utterance_that_is_heard_stays_in_another_order(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[1]
    page = open_page("run", run=run.id, tab="Utterances")
    worst = list(page.dataframe[0].value["Utterance"])
    page.query_params["utterance"] = worst[5]
    assert heard(page.run()) == f"Utterance {worst[5]}"
    for order in ("best", "worst"):
        page.segmented_control(key="choice:order").set_value(order).run()
        assert page.query_params["order"] == order
        assert (list(page.dataframe[0].value["Utterance"]) == worst) == (order == "worst")
        assert heard(page) == f"Utterance {worst[5]}"
        assert page.query_params["utterance"] == worst[5]
