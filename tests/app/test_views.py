"""Every page opens on every kind of database, and says what it has to say."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.runs import RunRecord
from core.store import Store
from core.store.records import State
from tests.app import sample

PAGES = ("runs", "new_run", "run", "alignment", "compare", "ablations", "reports")
ENDINGS: tuple[State, ...] = ("queued", "running", "stopping", "failed", "stopped", "interrupted")
OpenPage = Callable[..., AppTest]


@pytest.fixture
def finished(store: Store, runs_folder: Path) -> list[RunRecord]:
    return sample.add_finished_job(store, runs_folder)


def texts(page: AppTest) -> str:
    """Return everything that a page says, without the signs that keep Markdown from reading it."""
    said = [*page.title, *page.header, *page.markdown, *page.caption, *page.error, *page.warning, *page.info]
    metrics = [f"{item.label} {item.value}" for item in page.metric]
    return "\n".join([*(item.value for item in said), *metrics]).replace("\\", "")


def test_the_pages_of_an_empty_database_lead_to_the_first_run(open_page: OpenPage) -> None:
    for name in PAGES:
        page = open_page(name)
        assert not page.exception, name
        assert not page.error, name
        assert page.title, name
    assert open_page("runs").button[0].label == "Run the quick start"


@pytest.mark.parametrize("state", ENDINGS)
def test_every_page_opens_whatever_became_of_the_newest_job(
    open_page: OpenPage, store: Store, runs_folder: Path, state: State
) -> None:
    sample.add_job(store, runs_folder, state, "The disk is full. Make room, then start it again.")
    for name in PAGES:
        assert not open_page(name).exception, name


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_what_ended_badly_says_why_with_its_log(
    open_page: OpenPage, store: Store, runs_folder: Path, state: State
) -> None:
    (run,) = sample.add_job(store, runs_folder, state, "The disk is full. Make room, then start it again.")
    assert "The disk is full." in texts(open_page("runs"))
    page = open_page("run", run=run.id)
    assert "The disk is full." in texts(page)
    assert any("Training + manifold" in code.value for code in page.code)


def test_a_running_job_shows_its_stage_and_the_time_left(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    (run,) = sample.add_job(store, runs_folder, "running")
    for page in (open_page("runs"), open_page("run", run=run.id)):
        assert [button.label for button in page.button if button.label.startswith("Stop")] == ["Stop", "Stop now"]
        shown = page.get("progress")[0].proto.text.replace("\\", "")
        assert shown == "Training + manifold · 42 % · about 1 min 33 s left"


def test_stopping_from_the_page_asks_the_job_to_stop(open_page: OpenPage, store: Store, runs_folder: Path) -> None:
    (run,) = sample.add_job(store, runs_folder, "queued")
    page = open_page("run", run=run.id)
    next(button for button in page.button if button.label == "Stop").click().run()
    assert store.job(run.job_id).state == "stopped"


def test_every_page_shows_a_finished_job(open_page: OpenPage, finished: list[RunRecord]) -> None:
    for name in PAGES:
        page = open_page(name)
        assert not page.exception, name
        assert not page.error, name


def test_a_job_that_leaves_its_test_set_unread_shows_its_development_set(
    open_page: OpenPage, store: Store, runs_folder: Path
) -> None:
    runs = sample.add_tuning_job(store, runs_folder)
    home = open_page("runs")
    assert "of quickstart-tuning · the best of 3 runs on this development set" in texts(home)
    assert list(home.dataframe[0].value["Set"]) == ["development"] * 3
    assert all(rate > 0 for rate in home.dataframe[0].value["WER"])
    (rate,) = [item.value for item in open_page("run", run=runs[1].id).metric if item.label == "WER ↓, development set"]
    assert rate.endswith(" %")
    page = open_page("ablations", job=runs[0].job_id)
    assert "leaves its test set unread" in texts(page)
    assert all(rate > 0 for rate in page.dataframe[0].value["WER %"])


def test_the_test_set_is_offered_first_and_later_steps_before_earlier_ones(
    open_page: OpenPage, finished: list[RunRecord]
) -> None:
    page = open_page("run", run=finished[3].id, tab="Utterances")
    (evaluation,) = [item for item in page.selectbox if item.label == "Evaluation"]
    assert [option.split(":")[0] for option in evaluation.options] == [
        "Test set, step 160",
        "Real set, step 160",
        "Development set, step 160",
        "Development set, step 80",
    ]


def test_runs_of_one_name_are_told_apart_by_their_job(open_page: OpenPage, finished: list[RunRecord]) -> None:
    (runs,) = [item for item in open_page("run").selectbox if item.label == "Another run"]
    assert f"+ manifold · quickstart · {finished[3].id}" in runs.options


@pytest.mark.parametrize("tab", ["Curves", "Results", "Costs", "Utterances", "Settings", "Files", "Log"])
def test_every_part_of_a_run_has_an_address(open_page: OpenPage, finished: list[RunRecord], tab: str) -> None:
    page = open_page("run", run=finished[3].id, tab=tab)
    assert not page.exception
    assert page.query_params["tab"] == tab


def test_the_settings_of_a_run_are_those_it_ran_with(open_page: OpenPage, finished: list[RunRecord]) -> None:
    page = open_page("run", run=finished[3].id, tab="Settings")
    assert "kind: geodesic" in page.code[0].value
    assert finished[3].config_hash in texts(page)


def test_the_ablation_table_has_recorded_speech_before_the_test_set_and_details_of_each(
    open_page: OpenPage, finished: list[RunRecord]
) -> None:
    page = open_page("ablations", job=finished[0].job_id)
    table = page.dataframe[0].value
    assert list(table[("", "Model")])[2:] == [run.name for run in finished]
    assert list(dict.fromkeys(name for name, _ in table.columns))[1:] == ["recorded clips", "generated voice"]
    labels = [item.label for item in page.expander]
    assert labels == ["Errors and verdicts: recorded clips", "Errors and verdicts: generated voice"]
    assert [list(item.value["Model"])[-4:] for item in page.dataframe[1:3]] == [[run.name for run in finished]] * 2
    assert "comparisons on all test sets (Holm)" in texts(page)


@pytest.mark.parametrize(
    ("page", "parameters"),
    [
        ("compare", {"runs": "rnothing"}),
        ("ablations", {"job": "rnothing"}),
        ("new_run", {"start": "rnothing", "launch": "one"}),
    ],
)
def test_what_an_address_names_and_is_not_there_is_left_out_in_a_sentence(
    open_page: OpenPage, finished: list[RunRecord], page: str, parameters: dict[str, str]
) -> None:
    shown = open_page(page, **parameters)
    assert not shown.exception
    assert not shown.error
    (said,) = [item.value for item in shown.warning]
    assert "that is not here: 'rnothing'." in said.replace("\\", "")
    assert [item.label for item in (*shown.selectbox, *shown.multiselect)]


@pytest.mark.parametrize(("page", "name"), [("run", "run"), ("compare", "runs"), ("ablations", "job")])
def test_an_address_as_long_as_a_page_is_not_repeated_whole(
    open_page: OpenPage, finished: list[RunRecord], page: str, name: str
) -> None:
    shown = open_page(page, **{name: "r" * 2000})
    (said,) = [item.value.replace("\\", "") for item in (*shown.warning, *shown.error)]
    assert f"'{'r' * 40}…'" in said
    assert len(said) < 150


def test_a_run_that_is_not_there_is_answered_in_a_sentence(open_page: OpenPage, finished: list[RunRecord]) -> None:
    shown = open_page("run", run="rnothing")
    assert not shown.exception
    assert "There is no" in shown.error[0].value


def test_a_run_called_like_markup_is_shown_letter_by_letter(
    open_page: OpenPage, store: Store, make_config: Callable[..., object]
) -> None:
    name = "<b>x</b> **y** $z$ :red[w] [a](http://b)"
    store.create_job(name, [make_config(name=name)])  # pyright: ignore[reportArgumentType]
    title = open_page("run").title[0].value
    assert title.replace("\\", "").replace("\u2060", "") == name
    assert "\\*\\*y\\*\\*" in title
    assert "\\<b\\>" in title


def test_a_new_run_starts_from_a_row_and_shows_what_it_changes(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one")
    assert list(page.dataframe[0].value["Setting"]) == ["method.losses.soft_labels", "method.losses.geodesic"]


def test_whoever_comes_back_to_new_run_finds_the_choice_that_was_made(studio: AppTest, open_page: OpenPage) -> None:
    open_page("new_run", launch="one")
    studio.switch_page("views/runs.py").run()
    studio.query_params.clear()
    page = studio.switch_page("views/new_run.py").run()
    assert "launch" not in page.query_params
    assert "Method" in [item.label for item in page.selectbox]


def test_mistakes_are_listed_and_nothing_can_be_started(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one")
    next(item for item in page.number_input if item.label == "Steps").set_value(0)
    next(item for item in page.text_input if item.label == "Student's encoder layers").set_value("0, x").run()
    assert "2 mistakes" in page.error[0].value
    launch = next(button for button in page.button if button.label == "Launch")
    assert launch.disabled
    assert launch.help == "Correct the 2 mistakes first."


def test_a_run_is_cloned_by_its_address(open_page: OpenPage, finished: list[RunRecord]) -> None:
    page = open_page("new_run", start=finished[1].id)
    assert next(item for item in page.text_input if item.label == "Name").value == finished[1].name


def test_settings_are_read_from_yaml(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one")
    text = "name: from a file\nmethod: {losses: [{kind: cross_entropy}]}\ntraining: {steps: 7}\n"
    page.text_area(key="yaml").set_value(text).run()
    next(button for button in page.button if button.label == "Read into the form").click().run()
    assert next(item for item in page.number_input if item.label == "Steps").value == 7
    assert next(item for item in page.text_input if item.label == "Name").value == "from a file"


def test_yaml_with_mistakes_is_not_lost(open_page: OpenPage) -> None:
    page = open_page("new_run", launch="one")
    page.text_area(key="yaml").set_value("nonsense: 1\n").run()
    next(button for button in page.button if button.label == "Read into the form").click().run()
    assert "nonsense" in page.error[0].value
    assert page.text_area(key="yaml").value == "nonsense: 1\n"


@pytest.mark.parametrize("name", ["runs", "new_run", "run", "compare", "ablations", "reports"])
def test_a_page_leaves_the_address_with_which_it_was_opened(
    open_page: OpenPage, finished: list[RunRecord], name: str
) -> None:
    assert open_page(name).query_params == {}


def test_a_choice_stands_in_the_address_and_an_address_without_it_means_the_default(
    open_page: OpenPage, finished: list[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page("run", run=finished[3].id)
    assert set(page.query_params) == {"run"}
    page.button_group[0].set_value("Files").run()
    assert page.query_params["tab"] == "Files"
    monkeypatch.setattr("app.state.LATE_SECONDS", 0.0)
    del page.query_params["tab"]
    page.run()
    assert page.button_group[0].value == "Results"
    assert set(page.query_params) == {"run"}


def test_ablations_open_on_the_newest_job_that_has_finished_with_its_verdicts_as_text(
    open_page: OpenPage, store: Store, runs_folder: Path, finished: list[RunRecord]
) -> None:
    (queued,) = sample.add_job(store, runs_folder, "queued")
    page = open_page("ablations")
    assert list(page.dataframe[0].value[("", "Model")])[2:] == [run.name for run in finished]
    # As text they are whole on a phone, too.
    (said, _) = [item.value for item in page.markdown if item.value.startswith("- **")]
    assert said.startswith("- **LoRA \\+ CE**: baseline\n- **\\+ logit KD**: ")
    assert "Nothing has been read yet." in texts(open_page("ablations", job=queued.job_id))
