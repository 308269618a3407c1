"""Several teachers in the studio: what each contributes, experts and ensembles in the table, and who may teach."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import ablation_tables, teachers, text
from core.ablation import ablation_table
from core.runs import RunRecord, UtteranceResult, word_difference
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
    verdicts = dict(ablation_tables.verdicts(ablation_table(store, runs[0].job_id)))
    assert verdicts["one of several: the best teacher"] == "baseline"
    compared = table.loc[[verdicts[name] != "baseline" for name in table["Model"]]]
    assert len(compared) == 9
    assert all(compared["difference [95 %]"].str.contains("[", regex=False))
    assert set(table["MB"]) == {150.0}
    rates, _ = ablation_tables.rates(ablation_table(store, runs[0].job_id))
    assert list(rates["role"]) == ["Teacher"] * 3 + ["Ensemble"] * 3 + ["Student"] * 4


def beside(store: Store, run: RunRecord, *numbers: int) -> None:
    """Store how alike a run's states are to those of some of its teachers, the less the further down they stand."""
    for number in numbers:
        cka = 0.9 - number / 10
        found = [replace(each, teacher_number=number, linear_cka=cka) for each in sample.alignments(run)]
        store.add_alignments(found)


def test_alignment_shows_the_student_beside_the_teacher_that_is_chosen(
    open_page: OpenPage, store: Store, runs_folder: Path, runs: list[RunRecord]
) -> None:
    run, utterances = runs[-1], [f"test-{number:03d}" for number in range(sample.UTTERANCES)]
    beside(store, run, 0, 1)
    (runs_folder / run.probe_folder).mkdir(parents=True)
    sample.write_probe(runs_folder, run.probe_folder.removeprefix("jobs/"), utterances)
    heard: list[UtteranceResult] = []
    for number in (0, 1):
        sample.add_map(store, runs_folder, run, sample.STEPS, "utterances", teacher_number=number)
        rates = store.evaluations(job_id=run.job_id, test_set="development")
        (own,) = [each.id for each in rates if each.label == EXPERTS[number]]
        heard.append(store.utterance_results(own)[3])
    assert heard[0].hypothesis != heard[1].hypothesis
    figures = []
    for number, cka in (("0", "0.90"), ("1", "0.80")):
        page = open_page("alignment", run=run.id, map="one", teacher=number, point=heard[0].utterance_id)
        assert not page.exception
        (choice,) = [box for box in page.selectbox if box.label == "Teacher"]
        assert choice.options == ["1 · expert in babble", "2 · expert in fast speech"]
        assert page.query_params["teacher"] == number
        said = heard[int(number)]
        assert f"WER teacher {text.percent(said.errors / said.words)}" in texts(page)
        shown = text.marked(word_difference(said.reference, said.hypothesis))
        assert f"**Teacher**  \n{shown}" in texts(page)
        (measures,) = [each.value for each in page.dataframe if "Measure" in each.value]
        assert measures.iloc[0]["Before"] == cka
        figures += [chart.proto.spec for chart in page.get("plotly_chart")]
    assert len(set(figures)) == 2
    assert [item.teacher_number for item in store.comparisons(run.id)] == [0, 1]


def test_alignment_of_a_run_that_stored_the_first_teacher_only_has_numbers_of_the_others(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    beside(store, runs[-1], 0, 1)
    page = open_page("alignment", run=runs[-1].id, teacher="1")
    assert not page.exception
    assert not page.error
    assert "states of this teacher were not stored" in texts(page)
    (measures,) = [each.value for each in page.dataframe if "Measure" in each.value]
    assert measures.iloc[0]["Before"] == "0.80"
    assert store.maps(runs[-1].id) == store.comparisons(runs[-1].id) == []


def test_alignment_asks_for_no_teacher_where_there_is_one(
    open_page: OpenPage, store: Store, runs: list[RunRecord]
) -> None:
    beside(store, runs[0], 0)
    page = open_page("alignment", run=runs[0].id)
    assert not page.exception
    assert [box.label for box in page.selectbox] == ["Run", "Layers, student → teacher"]


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
