"""Home: the list of runs, what is looked for in it, and what is done with those that are ticked."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import best
from core.runs import RunRecord
from core.store import Store
from tests.app import sample
from tests.app.test_views import texts

OpenPage = Callable[..., AppTest]


@pytest.fixture
def runs(store: Store, runs_folder: Path) -> list[RunRecord]:
    return sample.add_finished_job(store, runs_folder)


def listed(page: AppTest) -> list[str]:
    return list(page.dataframe[0].value["Id"])


def press(page: AppTest, label: str) -> AppTest:
    return next(button for button in page.button if button.label == label).click().run()


def tick(page: AppTest, *run_ids: str) -> AppTest:
    """Tick runs in the list, as the browser reports it."""
    shown = listed(page)
    selection: dict[str, Any] = {"rows": [shown.index(run_id) for run_id in run_ids], "columns": [], "cells": []}
    page.session_state[key(page)] = {"selection": selection}
    return page.run()


def key(page: AppTest) -> str:
    """Return the key of the list, which is another table where it has other rows, or once it was unticked."""
    unticked = page.session_state["times unticked"] if "times unticked" in page.session_state else 0  # noqa: SIM401
    return f"runs:{unticked}:{hash(tuple(listed(page)))}"


def test_an_address_says_what_is_looked_for(open_page: OpenPage, store: Store, runs: list[RunRecord]) -> None:
    store.change_tags([runs[1].id, runs[3].id], add=["to report"])
    store.set_notes(runs[2].id, "Diverged at step 40")
    assert listed(open_page("runs", search="DIVERGED")) == [runs[2].id]
    assert listed(open_page("runs", search="", tags="to report")) == [runs[1].id, runs[3].id]
    assert listed(open_page("runs", tags="to report", search="manifold")) == [runs[3].id]
    page = open_page("runs", search="", tags="", states="failed,running")
    assert listed(page) == []
    assert "No runs of 4" in texts(page)


def test_a_search_finds_what_is_typed_and_an_empty_one_all(open_page: OpenPage, runs: list[RunRecord]) -> None:
    page = open_page("runs")
    page.text_input[0].set_value("cosine").run()
    assert listed(page) == [runs[2].id]
    page.text_input[0].set_value("").run()
    assert len(listed(page)) == 4


def test_what_is_ticked_stays_ticked_when_a_run_comes_on_top(
    open_page: OpenPage, store: Store, runs_folder: Path, runs: list[RunRecord]
) -> None:
    page = tick(open_page("runs"), runs[1].id, runs[2].id)
    assert "2 runs ticked" in texts(page)
    (new,) = sample.add_job(store, runs_folder, "failed", "The disk is full.")
    page.run()
    assert listed(page)[0] == new.id
    rows = page.session_state[key(page)]["selection"]["rows"]
    assert [listed(page)[row] for row in rows] == [runs[1].id, runs[2].id]


def test_what_is_ticked_stays_ticked_while_it_is_not_looked_for(open_page: OpenPage, runs: list[RunRecord]) -> None:
    page = tick(open_page("runs"), runs[1].id)
    page.text_input[0].set_value("cosine").run()
    assert listed(page) == [runs[2].id]
    assert "**One run ticked**, not shown" in [item.value for item in page.markdown]
    tick(page, runs[2].id)
    assert "**2 runs ticked**, 1 not shown" in [item.value for item in page.markdown]
    page.text_input[0].set_value("").run()
    assert "**2 runs ticked**" in [item.value for item in page.markdown]
    press(page, "Untick")
    assert "No run ticked" in texts(page)


def test_the_list_is_as_it_was_left_after_another_page(open_page: OpenPage, runs: list[RunRecord]) -> None:
    page = open_page("runs")
    page.text_input[0].set_value("cosine").run()
    page.switch_page("views/new_run.py").run()
    page.query_params.clear()
    page.switch_page("views/runs.py").run()
    assert listed(page) == [runs[2].id]
    assert page.text_input[0].value == "cosine"


def test_a_run_goes_to_the_bin_and_comes_back(open_page: OpenPage, store: Store, runs: list[RunRecord]) -> None:
    page = press(tick(open_page("runs"), runs[0].id), "Move to the bin")
    assert runs[0].id not in listed(page)
    page = open_page("runs", bin="yes")
    assert page.title[0].value == "Bin"
    assert listed(page) == [runs[0].id]
    press(tick(page, runs[0].id), "Restore")
    assert len(store.summaries()) == 4


def test_a_run_at_work_stays_out_of_the_bin_and_says_why(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    (run,) = sample.add_job(store, runs_folder, "running")
    page = press(tick(open_page("runs"), run.id), "Move to the bin")
    assert "Stop the job first" in texts(page)
    assert store.run(run.id).deleted_at is None


def test_ticked_runs_are_tagged_together_and_one_of_them_gets_notes(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    store.change_tags([runs[0].id], add=["old", "both"])
    store.change_tags([runs[1].id], add=["both"])
    page = tick(open_page("runs"), runs[0].id, runs[1].id)
    tags = next(item for item in page.multiselect if item.label == "Tags of all ticked runs")
    assert tags.value == ["both"]
    tags.set_value(["old"])
    press(page, "Save the tags")
    assert [store.run(run.id).tags for run in runs[:2]] == [("old",), ("old",)]
    page = tick(open_page("runs"), runs[0].id)
    next(item for item in page.text_area if item.label == "Notes").set_value("a *note*")
    press(page, "Save the notes")
    assert store.run(runs[0].id).notes == "a *note*"


def test_a_thousand_runs_are_all_in_the_list(open_page: OpenPage, store: Store) -> None:
    configs = sample.rows("one-voice") * 25
    for number in range(10):
        store.create_job(f"job-{number}", configs)
    page = open_page("runs", search="job-7")
    assert not page.exception
    assert len(listed(page)) == 100
    assert "100 runs of 1000, newest first" in texts(page)


def test_a_worse_run_does_not_hide_the_best_on_its_set_and_is_named(
    open_page: OpenPage, store: Store, runs_folder: Path, runs: list[RunRecord]
) -> None:
    worse = sample.add_read_run(store, "lr one", 0.9, before=0.4)
    page = open_page("runs")
    best = min(record.wer for run in runs for record in store.evaluations(run_id=run.id, test_set="test"))
    shown = {item.label: item.value for item in page.metric}
    assert shown["WER ↓, test set"] == f"{100 * best:.1f} %"
    (rate,) = [record.wer for record in store.evaluations(run_id=worse.id)]
    said = texts(page)
    assert f"{runs[3].name} of quickstart · the best of 5 runs on this test set" in said
    assert f"Worse than the student before training: lr one ({100 * rate:.1f} %)." in said


def test_of_sets_that_cannot_stand_side_by_side_the_largest_is_in_front_and_another_can_be_chosen(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    for number in range(3):
        sample.add_read_run(store, f"elsewhere {number}", 0.01, heard=(f"other-{number}-a", f"other-{number}-b"))
    page = open_page("runs")
    said = texts(page)
    assert f"{runs[3].name} of quickstart · the best of 4 runs on this test set" in said
    assert said.count("Another test set") == 2
    judged = next(item for item in page.selectbox if item.label == "Judged on")
    assert judged.options[0].startswith("Test set of 237 words · 4 runs")
    judged.set_value(judged.options[1]).run()
    assert page.query_params["set"]
    assert re.search(r"^elsewhere \d · the only run on this test set$", texts(page), re.MULTILINE)
    assert open_page("runs", set=page.query_params["set"]).metric[0].value == page.metric[0].value


def test_a_trial_of_six_steps_is_never_the_best(open_page: OpenPage, store: Store) -> None:
    sample.add_read_run(store, "a trial", 0.01, steps=6)
    page = open_page("runs")
    assert not page.metric
    assert "Only trials of fewer than 20 steps so far" in texts(page)
    sample.add_read_run(store, "a run", 0.5)
    page = open_page("runs")
    assert "a run · the only run on this test set, one trial of a few steps left out" in texts(page)
    sample.add_read_run(store, "a long one", 0.6, steps=20_000)
    assert "a long one · the only run on this test set, 2 trials of a few steps left out" in texts(open_page("runs"))


def test_when_no_run_is_better_than_before_training_nothing_was_learned(open_page: OpenPage, store: Store) -> None:
    sample.add_read_run(store, "worse", 0.9, before=0.3)
    page = open_page("runs")
    assert [item.value for item in page.header] == ["Nothing learned so far"]
    sample.add_read_run(store, "better", 0.1, before=0.3)
    assert "Best so far" in [item.value for item in open_page("runs").header]


def test_of_a_set_in_which_nothing_is_said_no_run_is_the_best(store: Store) -> None:
    run = sample.add_read_run(store, "a run", 0.3, before=0.0)
    records = store.evaluations(job_id=run.job_id)
    (found,) = best.best(records, {run.id: run.steps})
    assert [record.run_id for record in found.worse] == [run.id]
    silent = [replace(record, words=0, wer=math.inf) for record in records]
    assert best.best(silent, {run.id: run.steps}) == []


def test_trouble_stays_when_another_job_finishes_and_goes_when_the_same_run_has(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    (failed,) = sample.add_job(store, runs_folder, "failed", "The disk is full. Make room.")
    sample.add_read_run(store, "another", 0.5)
    page = open_page("runs")
    assert "The disk is full." in texts(page)
    assert "Make room." not in texts(page)
    sample.add_read_run(store, failed.name, 0.5)
    assert "The disk is full." not in texts(open_page("runs"))


def test_many_that_ended_badly_do_not_fill_the_page(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    for _ in range(5):
        sample.add_job(
            store, runs_folder, "failed", "These lines are wrong:\n" + "\n".join("a mistake" for _ in range(12))
        )
    page = open_page("runs")
    assert [item.value.replace("\\", "") for item in page.error] == ["a job that is failed: These lines are wrong."] * 3
    assert "2 more ended badly" in texts(page)


def test_a_job_in_the_queue_says_what_it_waits_for_and_nothing_else(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    sample.add_job(store, runs_folder, "running")
    sample.add_job(store, runs_folder, "queued")
    page = open_page("runs")
    told = [bar.proto.text.replace("\\", "") for bar in page.get("progress")]
    assert told[0] == "Waits for a job that is running, which is training."
    assert "42 %" in told[1]
    assert "Asked for just now." in texts(page)


def test_as_many_runs_can_be_compared_from_the_list_as_beside_each_other(open_page: OpenPage, store: Store) -> None:
    store.create_job("many", sample.rows("one-voice") * 13)
    page = open_page("runs")
    tick(page, *listed(page)[:50])
    assert "can be compared" not in texts(page)
    tick(page, *listed(page)[:51])
    assert "At most 50 can be compared." in texts(page)


def test_the_best_is_looked_for_among_all_runs_however_old(open_page: OpenPage, store: Store) -> None:
    heard = ["test-000", "test-001"]
    old = sample.add_read_run(store, "the old best", 0.1, heard=heard)
    for number in range(60):
        sample.add_read_run(store, f"run {number}", 0.9, heard=heard)
    assert f"{old.name} · the best of 61 runs on this test set" in texts(open_page("runs"))
