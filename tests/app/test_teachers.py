"""Several teachers in the studio: what each contributes, experts and ensembles in the table, and who may teach."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import tables, teachers
from core.ablation import ablation_table
from core.runs import RunRecord
from core.store import Store
from tests.app import sample
from tests.app.test_views import texts

OpenPage = Callable[..., AppTest]
RATES = (0.30, 0.20, 0.25)
"""Of the three experts on the test set of all conditions, as the sample pretends."""


@pytest.fixture
def runs(store: Store, runs_folder: Path) -> list[RunRecord]:
    """Store a finished job of three experts and four students, and return its runs."""
    job = store.create_job("ensemble", sample.rows("ensemble"))
    utterances = [f"test-{number:03d}" for number in range(sample.UTTERANCES)]
    found = store.runs(job_id=job.id)
    last = found[-1].group
    store.job_state(job.id, "running")
    for run in found:
        store.run_state(run.id, "running")
        store.set_parameters(run.id, sample.counts())
        sample.evaluate(store, job.id, run.id, "student", "test", 9, 0.4, utterances, group=run.group)
        store.run_progress(run.id, sample.STEPS, 60.0)
        store.run_state(run.id, "finished")
    for test_set in ("development", "test"):
        for run, rate in zip(found[:3], RATES, strict=True):
            sample.evaluate(
                store, job.id, None, "teacher", test_set, None, rate, utterances, label=run.name, group=last
            )
        for how in ("mean", "weighted, temperature 5", "best"):
            sample.evaluate(store, job.id, None, "ensemble", test_set, None, 0.15, utterances, label=how, group=last)
    for number, weight in enumerate((0.1, 0.6, 0.3)):
        values = {"weight": weight, "likeliest": 1 - weight, "agreement": 0.9, "wer": RATES[number]}
        store.add_metrics(found[-1].id, 0, {f"teacher/{number}/{name}": value for name, value in values.items()})
    store.job_state(job.id, "finished")
    return store.runs(job_id=job.id)


EXPERTS = ["expert in babble", "expert in fast speech", "expert in the outdoors"]


def test_the_run_page_tells_what_each_teacher_contributes(open_page: OpenPage, runs: list[RunRecord]) -> None:
    page = open_page("run", run=runs[-1].id, tab="Teachers")
    assert not page.exception
    table = page.dataframe[0].value
    assert list(table["Teacher"]) == EXPERTS
    assert list(table["Weight"]) == ["10.0 %", "60.0 %", "30.0 %"]
    assert list(table["Agreement"]) == ["90.0 %"] * 3
    assert list(table["WER, development"]) == ["30.0 %", "20.0 %", "25.0 %"]
    assert "For each utterance the teacher counts that finds its transcript likeliest." in texts(page)


def test_results_are_those_of_the_group_alone_and_name_their_teacher(
    open_page: OpenPage, runs: list[RunRecord]
) -> None:
    models = list(open_page("run", run=runs[-1].id, tab="Results").dataframe[0].value["Model"])
    assert {f"Teacher · {name}" for name in EXPERTS} <= set(models)
    assert "Ensemble · mean" in models
    expert = open_page("run", run=runs[0].id, tab="Results")
    assert list(expert.dataframe[0].value["Model"]) == ["Student"]


def test_a_run_with_one_teacher_has_no_page_about_teachers(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[0]
    page = open_page("run", run=run.id)
    assert not page.exception
    assert "Teachers" not in page.segmented_control[0].options
    assert not teachers.several(run.config)


def test_the_table_shows_experts_ensembles_and_students_with_intervals(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    page = open_page("ablations", job=runs[0].job_id)
    assert not page.exception
    table = page.dataframe[0].value
    assert list(table["Model"])[:6] == [
        *EXPERTS,
        "ensemble, mean",
        "ensemble, weighted, temperature 5",
        "ensemble, best",
    ]
    verdicts = dict(zip(table["Model"], table["Verdict"], strict=True))
    assert verdicts["one of several: the best teacher"] == "baseline"
    compared = table.loc[table["Verdict"] != "baseline"]
    assert len(compared) == 9
    assert all(compared["95 % interval"])
    assert set(table["Weights"]) == {150.0}
    rates, _ = tables.rates(ablation_table(store, runs[0].job_id))
    assert list(rates["role"]) == ["Teacher"] * 3 + ["Ensemble"] * 3 + ["Student"] * 4


def test_alignment_says_that_it_shows_the_first_of_several_teachers(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    for number in (0, 1):
        store.add_alignments([replace(record, teacher_number=number) for record in sample.alignments(runs[-1])])
    page = open_page("alignment", run=runs[-1].id)
    assert not page.exception
    assert "here it stands beside the first" in texts(page)


def test_the_student_of_a_finished_run_is_offered_as_a_teacher(open_page: OpenPage, runs: list[RunRecord]) -> None:
    page = open_page("new_run", launch="one")
    assert not page.exception
    (teacher,) = [box for box in page.selectbox if box.label == "Teacher"]
    assert f"expert in babble · {runs[0].id}" in teacher.options
    (number,) = [box for box in page.number_input if box.label == "Number of teachers"]
    page = number.set_value(2).run()
    assert not page.exception
    assert "2 teachers. All teachers count alike: 50.0 % each." in texts(page)


def test_rows_that_teach_are_sent_along_when_a_row_is_checked(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    page = open_page("new_run", preset="ensemble", launch="whole")
    assert not page.exception
    (check,) = [button for button in page.button if button.label == "Check"]
    check.click().run()
    asked = []
    while (record := store.claim_check()) is not None:
        asked.append(record)
        store.finish_check(record.id, {"problems": []})
    assert [len(record.config.get("rows", ())) for record in asked] == [0, 0, 0, 3, 3, 3, 3]
    assert [row["name"] for row in asked[-1].config["rows"]] == EXPERTS
    # What is measured so is found again by the settings of the run alone.
    assert asked[-1].config_hash == runs[-1].config_hash or asked[-1].config["name"] == runs[-1].name
