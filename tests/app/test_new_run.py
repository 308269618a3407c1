"""New run: methods by family, rows and grids, and what is known before anything starts."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.config import method_rows, parse_run, read_preset
from core.launchers.slots import ANALYSIS, CPU, analysis_slots, device_slots, take_slot
from core.runs import Studio
from core.scaling.fit import FILE
from core.store import Store
from tests.app import sample
from tests.app.test_views import texts

OpenPage = Callable[..., AppTest]


@pytest.fixture
def answers(runs_folder: Path) -> Iterator[None]:
    """Keep the analysis worker from starting: the test answers for it."""
    slot = take_slot(analysis_slots(runs_folder), ANALYSIS)
    assert slot is not None
    with slot:
        yield


def press(page: AppTest, label: str) -> AppTest:
    return next(button for button in page.button if button.label == label).click().run()


def methods(page: AppTest) -> list[str]:
    return next(item for item in page.selectbox if item.label == "Method").options


def test_every_method_is_offered_by_its_family(open_page: OpenPage) -> None:
    rows = method_rows()
    assert methods(open_page("new_run", launch="one", preset="one-voice")) == [
        f"{row.group} · {row.name}" for row in rows
    ]


def test_a_method_says_what_it_is_and_what_it_changes_and_fills_the_form(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one", preset="ablation-small", method="projection-hidden")
    row = next(row for row in method_rows() if row.key == "projection-hidden")
    assert row.meaning in texts(page)
    assert row.source in texts(page)
    assert page.code[0].value == row.formula
    changed = page.dataframe[0].value
    assert list(changed.columns) == ["Setting", "Baseline, LoRA + CE", "This run"]
    assert "method.mapping.projection" in list(changed["Setting"])
    (name,) = [item for item in page.text_input if item.label == "Name"]
    assert name.value == row.name
    (projection,) = [item for item in page.selectbox if item.label == "Mapping projection"]
    assert projection.value == "hidden"


def test_what_the_form_changes_joins_the_difference(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one", method="ce")
    assert "The same settings as the baseline" in texts(page)
    next(item for item in page.number_input if item.label == "Steps").set_value(7).run()
    assert list(page.dataframe[0].value["Setting"]) == ["training.steps"]


def test_a_mapping_shows_only_what_matters_to_it(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one", method="manifold")
    shown = {item.label for item in page.number_input}
    assert "Mapping hidden width" not in shown
    next(item for item in page.selectbox if item.label == "Mapping projection").select("hidden").run()
    assert "Mapping hidden width" in {item.label for item in page.number_input}
    without = open_page("new_run", launch="one", method="ce")
    assert not [item for item in without.selectbox if item.label.startswith("Mapping")]


def test_rows_of_a_preset_stand_with_their_family_and_can_be_chosen(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="whole", preset="ablation-small")
    names = [config.name for config in read_preset("ablation-small")[1]]
    assert list(page.dataframe[0].value["Run"]) == names
    assert set(page.dataframe[0].value["Family"]) == {row.group for row in method_rows()} - {"Adapters", "Ensemble"}
    page.multiselect[0].set_value([names[0], names[5]]).run()
    assert list(page.dataframe[0].value["Run"]) == [names[0], names[5]]
    assert "Launch 2 runs" in [button.label for button in page.button]


def test_a_grid_has_a_run_for_each_method_and_seed(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="grid")
    page.multiselect[0].set_value(["ce", "cka", "manifold"]).run()
    assert list(page.dataframe[0].value["Run"]) == [
        "LoRA + CE (seed 0)",
        "LoRA + CE (seed 1)",
        "+ CKA (seed 0)",
        "+ CKA (seed 1)",
        "+ manifold (seed 0)",
        "+ manifold (seed 1)",
    ]
    assert list(page.dataframe[0].value["Differs from the baseline in"])[1] == "seed: 1"


def test_a_grid_is_launched_as_one_job(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    turn = take_slot(device_slots(), CPU)
    assert turn is not None
    with turn:
        page = open_page("new_run", launch="grid")
        page.multiselect[0].set_value(["ce", "kd"]).run()
        press(page, "Launch 4 runs")
        (job,) = store.jobs()
        Studio(store.url, runs_folder).stop(job.id, now=True)
    runs = store.runs(job_id=job.id)
    assert [(run.method, run.seed) for run in runs] == [("ce", 0), ("ce", 1), ("kd", 0), ("kd", 1)]
    assert job.name == "quickstart-grid"


@pytest.mark.usefixtures("answers")
def test_a_check_shows_what_is_adapted_and_counted_without_holding_up_the_page(
    open_page: OpenPage, store: Store
) -> None:
    page = press(open_page("new_run", launch="one"), "Check")
    assert page.get("progress")[0].proto.text.startswith("Waiting for the analysis worker")
    assert sample.answer_checks(store) == 1
    said = texts(page.run())
    assert "This run can start" in said
    assert "6 modules get an adapter of rank 26 (encoder layer 2: self_attn.q_proj" in said
    parameters = next(table.value for table in page.dataframe if "Part" in table.value)
    assert list(parameters["Part"])[1:3] == ["Student, deployed", "Student, without tables of tokens and positions"]
    flops = next(table.value for table in page.dataframe if "GFLOP per second of audio" in table.value)
    assert list(flops["GFLOP per second of audio"]) == ["1.31", "1.12"]
    assert not page.get("progress")


@pytest.mark.usefixtures("answers")
def test_what_was_measured_stands_against_what_is_free(open_page: OpenPage, store: Store) -> None:
    page = press(open_page("new_run", launch="one"), "Measure time and memory")
    sample.answer_checks(store)
    shown = {item.label: (item.value, item.delta) for item in page.run().metric}
    assert shown == {
        "Training time": ("1 min 20 s", ""),
        "The whole job": ("2 min 30 s", ""),
        "Peak memory": ("1.9 GB", "of 6.0 GB free"),
        "Disk": ("17.0 MB", "of 50.0 GB free"),
    }


@pytest.mark.usefixtures("answers")
def test_a_job_is_measured_run_by_run_and_its_runs_keep_the_estimate(open_page: OpenPage, store: Store) -> None:
    page = open_page("new_run", launch="grid")
    page.multiselect[0].set_value(["ce", "manifold"]).run()
    press(page, "Measure time and memory")
    assert sample.answer_checks(store) == 4
    page.run()
    table = next(item.value for item in page.dataframe if "Rank" in item.value)
    assert list(table["Projections"]) == ["0", "0", "147\u202f456", "147\u202f456"]
    assert [item.value for item in page.metric if item.label == "The whole job"] == ["8 min 30 s"]


def test_a_mistake_has_the_name_that_its_field_has_on_the_page(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one")
    next(item for item in page.number_input if item.label == "Steps").set_value(0)
    next(item for item in page.number_input if item.label == "Training learning rate").set_value(-1.0)
    page.run()
    told = page.error[0].value.replace("\\", "")
    assert "**Steps** " in told
    assert "**Training learning rate** " in told
    assert "training." not in told


@pytest.mark.usefixtures("answers")
def test_mistakes_that_only_the_models_tell_stand_beside_their_fields_and_hold_the_launch(
    open_page: OpenPage, store: Store
) -> None:
    page = press(open_page("new_run", launch="one"), "Check")
    sample.answer_checks(store, problems=[{"where": "student.encoder_layers", "message": "there is no layer 9"}])
    page.run()
    beside = [item.value for item in page.markdown if ":red[:material/error:" in item.value]
    assert len(beside) == 1
    assert "There is no layer 9" in beside[0].replace("\\", "")
    (launch,) = [button for button in page.button if button.label == "Launch"]
    assert launch.disabled
    assert launch.help == "Correct the mistake first."


@pytest.mark.usefixtures("answers")
def test_changed_settings_are_not_taken_for_checked_ones(open_page: OpenPage, store: Store) -> None:
    page = press(open_page("new_run", launch="one"), "Check")
    sample.answer_checks(store)
    next(item for item in page.run().number_input if item.label == "Steps").set_value(7).run()
    assert "These settings were not checked yet." in texts(page)
    assert "This run can start" not in texts(page)


@pytest.mark.usefixtures("answers")
def test_a_check_that_failed_says_why_and_is_asked_again(open_page: OpenPage, store: Store) -> None:
    page = press(open_page("new_run", launch="one"), "Check")
    asked = store.claim_check()
    assert asked is not None
    store.fail_check(asked.id, "Memory ran out. Use a smaller model.")
    assert "Memory ran out." in texts(page.run())
    press(page, "Check")
    assert store.claim_check() is not None


def choose(page: AppTest, label: str, values: list[str]) -> AppTest:
    return next(item for item in page.multiselect if item.label == label).set_value(values).run()


def test_a_grid_crosses_ranks_and_rates_too_and_keeps_alpha_over_rank(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    page = choose(open_page("new_run", launch="grid"), "Methods", ["ce"])
    next(item for item in page.number_input if item.label == "Seeds").set_value(1).run()
    choose(choose(page, "Ranks", ["4", "64"]), "Learning rates", ["0.001", "2e-3"])
    assert list(page.dataframe[0].value["Run"]) == [
        f"LoRA + CE (rank {rank}, rate {rate})" for rank in (4, 64) for rate in ("0.001", "0.002")
    ]
    steps = read_preset("quickstart")[1][0].training.steps
    assert f"1 method × 2 ranks × 2 learning rates × 1 seed: 4 runs, {4 * steps}" in texts(page).replace("\u202f", "")
    written = page.code[0].value
    turn = take_slot(device_slots(), CPU)
    assert turn is not None
    with turn:
        press(page, "Launch 4 runs")
        (job,) = store.jobs()
        Studio(store.url, runs_folder).stop(job.id, now=True)
    base = read_preset("quickstart")[1][0].lora
    runs = store.runs(job_id=job.id)
    assert [run.config["lora"]["rank"] for run in runs] == [4, 4, 64, 64]
    assert {run.config["lora"]["alpha"] / run.config["lora"]["rank"] for run in runs} == {base.alpha / base.rank}
    assert {run.config["lora"]["budget"] for run in runs} == {None}
    assert [run.config["training"]["learning_rate"] for run in runs] == [0.001, 0.002] * 2
    page = open_page("new_run", launch="file")
    page.text_area(key="file").set_value(written).run()
    assert list(page.dataframe[0].value["Run"]) == [run.name for run in runs]


@pytest.mark.parametrize(
    ("said", "why"), [("eight", "'eight' should be a valid integer"), ("0", "'0' should be greater")]
)
def test_what_cannot_be_a_rank_is_said_beside_its_field_and_the_list_stays(
    open_page: OpenPage, said: str, why: str
) -> None:
    page = choose(open_page("new_run", launch="grid"), "Ranks", ["8", said])
    assert why in texts(page)
    assert not page.error
    assert any("rank 8" in name for name in page.dataframe[0].value["Run"])
    (launch,) = [button for button in page.button if button.label.startswith("Launch")]
    assert launch.disabled


def test_a_file_asks_for_no_preset(open_page: OpenPage) -> None:
    labels = {how: [item.label for item in open_page("new_run", launch=how).selectbox] for how in ("whole", "file")}
    assert labels == {"whole": ["Preset"], "file": []}


def test_a_grid_that_is_too_large_says_so(open_page: OpenPage) -> None:
    page = choose(open_page("new_run", launch="grid"), "Methods", [row.key for row in method_rows()][:30])
    choose(page, "Ranks", ["4", "8", "16", "32"])
    assert "These are 240 runs; a grid has at most 200." in texts(page)


def test_a_file_is_a_run_or_an_ablation_and_its_mistakes_are_told_at_once(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="file")
    page.text_area(key="file").set_value("name: mine\nmethod: {losses: [{kind: cross_entropy}]}\n").run()
    assert list(page.dataframe[0].value["Run"]) == ["mine"]
    page.text_area(key="file").set_value('name: ""\ntraining: {steps: 0}\n').run()
    assert "3 mistakes" in page.error[0].value
    page.text_area(key="file").set_value("name: mine\nmethod: [").run()
    assert "The file is not valid YAML at line 2, column 10" in page.error[0].value
    page.text_area(key="file").set_value("- name: mine").run()
    assert "The file must be settings" in page.error[0].value


def test_what_was_expected_is_kept_with_the_job_and_shown(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    turn = take_slot(device_slots(), CPU)
    assert turn is not None
    with turn:
        page = open_page("new_run", launch="one")
        said = next(item for item in page.text_input if item.label.startswith("What do you expect"))
        said.set_value("I think that 2 * 2 helps").run()
        press(page, "Launch")
        (job,) = store.jobs()
        Studio(store.url, runs_folder).stop(job.id, now=True)
    assert job.expectation == "I think that 2 * 2 helps"
    (run,) = store.runs(job_id=job.id)
    for page in (open_page("run", run=run.id), open_page("ablations", job=job.id)):
        assert "**What you expected** · I think that 2 * 2 helps" in texts(page)
    fresh = open_page("new_run", launch="one")
    assert next(item for item in fresh.text_input if item.label.startswith("What do you expect")).value == ""


def test_a_clone_shows_what_is_changed_against_its_run(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    run = sample.add_finished_job(store, runs_folder)[3]
    page = open_page("new_run", start=run.id, launch="one")
    assert f"The same settings as the baseline, the run {run.id}." in texts(page)
    next(item for item in page.number_input if item.label == "Steps").set_value(7).run()
    assert list(page.dataframe[0].value.columns)[1] == f"Baseline, the run {run.id}"
    assert list(page.dataframe[0].value["Setting"]) == ["training.steps"]


def test_a_larger_run_is_not_planned_before_anything_was_measured(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="whole")
    assert "Plan a larger run" in [item.label for item in page.expander]
    assert "manifold plan --measure" in " ".join(item.value for item in page.info)


def test_a_larger_run_is_planned_at_once(open_page: OpenPage, runs_folder: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "scaling" / FILE, runs_folder / FILE)
    page = open_page("new_run", launch="whole")
    before = {item.label: item.value for item in page.metric}
    assert {"Time", "Memory of a device", "Disk"} <= set(before)
    assert "CPU, one thread, measured at" in texts(page).replace("\\", "")
    page.number_input(key="plan devices 1").set_value(4).run()
    fewer = {item.label: item.value for item in page.metric}
    assert fewer["Time"] != before["Time"]
    page.number_input(key="plan clip").set_value(29.0).run()
    assert "raise audio_context" in " ".join(item.value for item in page.error).replace("\\", "")


def beside(page: AppTest) -> list[str]:
    return [item.value.replace("\\", "") for item in page.markdown if ":red[:material/error:" in item.value]


def test_a_layer_that_is_no_number_and_one_that_is_not_there_are_told_together(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one")
    next(item for item in page.text_input if item.label == "Student's encoder layers").set_value("0, 99, banana").run()
    (told,) = beside(page)
    assert "not 'banana'" in told
    assert "remove 99" in told
    for said in ("'banana'", "remove 99"):
        assert said in page.error[0].value.replace("\\", "")


def test_what_a_first_look_finds_is_told_beside_its_field_and_nothing_is_started(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    run = sample.add_finished_job(store, runs_folder)[3]
    jobs = len(store.jobs())
    page = open_page("new_run", start=run.id, launch="one")
    own = runs_folder / "data" / "real" / "real.jsonl"
    next(item for item in page.text_input if item.label == "Evaluation extra tests").set_value(str(own)).run()
    press(page, "Launch")
    (told,) = beside(page)
    assert "Leave the field empty, or fetch that speech: manifold data get recorded" in told
    assert "Nothing was started." in texts(page)
    assert len(store.jobs()) == jobs


def test_six_fields_stand_in_front(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one")
    (advanced,) = [item for item in page.expander if item.label == "Advanced settings"]

    def labels(block: Any) -> set[str]:
        kinds = (block.text_input, block.number_input, block.selectbox, block.multiselect, block.toggle)
        return {item.label for kind in kinds for item in kind if str(item.key).startswith("form:")}

    front = {"Name", "Teacher", "Student's encoder layers", "Source", "Losses", "Steps"}
    assert labels(page) - labels(advanced) == front


def from_manifests(open_page: OpenPage) -> AppTest:
    page = open_page("new_run", launch="one")
    return next(item for item in page.selectbox if item.label == "Source").set_value("manifest").run()


def field(page: AppTest, label: str) -> Any:
    return next(item for item in page.text_input if item.label == label)


def test_an_empty_field_is_no_mistake_before_somebody_tries(open_page: OpenPage) -> None:
    page = from_manifests(open_page)
    assert not page.error
    assert "must not be empty" not in texts(page)
    launch = next(button for button in page.button if button.label == "Launch")
    assert not launch.disabled
    page = launch.click().run()
    assert "3 mistakes" in page.error[0].value
    assert texts(page).lower().count("must not be empty") == 6


def test_a_manifest_is_told_where_it_is_looked_for(open_page: OpenPage, tmp_path: Path) -> None:
    page = from_manifests(open_page)
    (tmp_path / "train.jsonl").write_text("{}", encoding="utf-8")
    page = field(page, "Source train").set_value(str(tmp_path / "train.jsonl")).run()
    page = field(page, "Source development").set_value("nowhere/dev.jsonl").run()
    said = texts(page)
    assert f"Reads {tmp_path / 'train.jsonl'}" in said
    assert f"Would read {Path.cwd() / 'nowhere' / 'dev.jsonl'}: no such file so far" in said
    assert not page.error


def test_a_teacher_that_cannot_be_found_is_told_before_anything_is_queued(
    open_page: OpenPage, store: Store, tmp_path: Path
) -> None:
    page = open_page("new_run", launch="one")
    written = (
        f"name: x\nteachers: [{{model: '{tmp_path}/no such model'}}]\nmethod: {{losses: [{{kind: cross_entropy}}]}}\n"
    )
    page.text_area(key="yaml").set_value(written).run()
    page = next(button for button in page.button if button.label == "Read into the form").click().run()
    page = next(button for button in page.button if button.label == "Launch").click().run()
    assert "no such model" in texts(page)
    assert "Nothing was started" in texts(page)
    assert store.jobs() == []


def test_how_words_of_another_language_are_counted_is_said_before_anything_starts(
    open_page: OpenPage, store: Store
) -> None:
    fields = sample.rows("one-voice")[0].model_dump(mode="json")
    job = store.create_job("words", [parse_run({**fields, "language": "hi"}), parse_run(fields)])
    other, english = store.runs(job_id=job.id)
    said = "How words are counted: language hi: case, punctuation and symbols are dropped"
    assert said in texts(open_page("new_run", launch="one", start=other.id))
    assert "How words are counted" not in texts(open_page("new_run", launch="one", start=english.id))
