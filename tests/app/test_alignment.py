"""The Alignment page in all states: its map, its points, the chosen one, and the numbers beside it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.runs import RunRecord
from core.store import Store
from tests.app import sample
from tests.app.test_views import texts

OpenPage = Callable[..., AppTest]


@pytest.fixture
def finished(store: Store, runs_folder: Path) -> list[RunRecord]:
    return sample.add_finished_job(store, runs_folder)


@pytest.fixture
def run(finished: list[RunRecord]) -> RunRecord:
    return finished[3]


def listed(page: AppTest) -> list[str]:
    """Return the points of the table, in its order."""
    return list(next(each.value for each in page.dataframe if "Angle" in each.value)["Point"])


def figure_of(page: AppTest) -> tuple[str, str]:
    """Return the identity and the content of the map as it is sent to the browser."""
    (chart,) = page.get("plotly_chart")
    return chart.proto.id, chart.proto.spec


def test_it_opens_the_newest_run_that_has_states(
    open_page: OpenPage, store: Store, runs_folder: Path, finished: list[RunRecord]
) -> None:
    sample.add_job(store, runs_folder, "queued")
    page = open_page("alignment")
    assert page.query_params["run"] in {run.id for run in finished}
    assert "How alike" in texts(page)


@pytest.mark.parametrize("level", ["utterances", "points"])
@pytest.mark.parametrize("kind", ["all", "one"])
@pytest.mark.parametrize("step", ["0", "160"])
def test_every_map_has_an_address(open_page: OpenPage, run: RunRecord, level: str, kind: str, step: str) -> None:
    page = open_page("alignment", run=run.id, level=level, map=kind, step=step)
    assert not page.exception
    assert not page.error
    assert (page.query_params["level"], page.query_params["map"], page.query_params["step"]) == (level, kind, step)
    assert "layer" not in page.query_params
    assert page.get("plotly_chart")


def test_where_states_did_not_travel_no_map_is_offered_that_could_not_be_drawn(
    open_page: OpenPage, store: Store, runs_folder: Path, run: RunRecord
) -> None:
    (runs_folder / run.probe_folder / "teacher_states.safetensors").unlink()
    asked = store.maps(run.id)
    page = open_page("alignment", run=run.id, map="one", step="80")
    assert not page.exception
    assert not page.error
    assert "did not come with it" in texts(page)
    assert page.get("plotly_chart")
    assert page.query_params["map"] == "all"
    assert "Draw it again" not in [button.label for button in page.button]
    assert store.maps(run.id) == asked


def test_where_states_did_not_travel_nothing_is_asked_of_layers_or_steps_that_nobody_looked_at_there(
    open_page: OpenPage, store: Store, runs_folder: Path, run: RunRecord
) -> None:
    (runs_folder / run.probe_folder / "teacher_states.safetensors").unlink()
    maps, comparisons = store.maps(run.id), store.comparisons(run.id)
    page = open_page("alignment", run=run.id, layer="decoder-3-4")
    assert not page.error
    assert "The states of the decoder are not here" in texts(page)
    assert "How alike" in texts(page)
    assert not page.get("plotly_chart")
    page = open_page("alignment", run=run.id, step="40", layer="encoder-2-3")
    assert page.get("plotly_chart")
    assert (store.maps(run.id), store.comparisons(run.id)) == (maps, comparisons)


def test_a_map_says_how_it_was_made_and_how_far_to_trust_it(open_page: OpenPage, run: RunRecord) -> None:
    said = texts(open_page("alignment", run=run.id))
    assert "the learned projection; AlignedUMAP over 6 steps" in said
    assert "24 of 24 utterances shown" in said
    assert "keeps 83 % of the 15 nearest neighbours (trustworthiness 0.87)" in said
    assert "AlignedUMAP" not in texts(open_page("alignment", run=run.id, map="one"))


def test_a_sample_is_never_silent(open_page: OpenPage, store: Store, run: RunRecord) -> None:
    record = next(item for item in store.maps(run.id) if item.step is None and item.level == "points")
    store.request_map(run.id, "encoder", None, None, None, "points", again=True)
    store.finish_map(
        record.id,
        path=record.path,
        trustworthiness=0.9,
        points=480,
        points_total=281_241,
        how="the learned projection; AlignedUMAP",
        stratified="speaker",
        seconds=1,
    )
    said = texts(open_page("alignment", run=run.id, level="points"))
    assert "480 of 281\u202f241 points shown, stratified by speaker" in said


def test_the_figure_is_the_same_to_the_byte_whatever_is_chosen(open_page: OpenPage, run: RunRecord) -> None:
    page = open_page("alignment", run=run.id)
    before = figure_of(page)
    page.query_params["point"] = "test-003"
    after = figure_of(page.run())
    assert "No point chosen" not in texts(page)
    assert after == before
    page.segmented_control(key="choice:preset").set_value("worst").run()
    assert figure_of(page) == before


def test_another_step_is_another_figure(open_page: OpenPage, run: RunRecord) -> None:
    first, last = (figure_of(open_page("alignment", run=run.id, step=step)) for step in ("0", "160"))
    assert first != last


def test_the_slider_over_steps_keeps_the_chosen_point(open_page: OpenPage, run: RunRecord) -> None:
    page = open_page("alignment", run=run.id, point="test-003")
    page.select_slider(key="choice:step").set_value("40").run()
    assert page.query_params["step"] == "40"
    assert page.query_params["point"] == "test-003"
    assert "test-003" in texts(page)


def test_an_address_with_a_point_shows_its_texts_rates_speaker_angle_and_neighbours_and_plays_it(
    open_page: OpenPage, run: RunRecord
) -> None:
    page = open_page("alignment", run=run.id, point="test-003")
    said = texts(page)
    for heading in ("Said", "Teacher", "Student, step 160"):
        assert f"**{heading}**" in said
    assert sample.SENTENCES[3] in said
    assert "speaker speaker 3" in said
    assert "WER teacher" in said
    assert "angle " in said
    assert page.get("audio")
    (near,) = [each.value for each in page.dataframe if "Near the teacher" in each.value]
    teacher, student = list(near["Near the teacher"]), list(near["Near the student"])
    assert len(teacher) == len(student) == 10
    assert {each[2:] for each in teacher if each[0] == "="} == {each[2:] for each in student if each[0] == "="}
    shared = sum(each[0] == "=" for each in teacher)
    assert f"{shared} of 10 the same" in said
    assert {each[0] for each in teacher} <= {"=", "−"}
    assert {each[0] for each in student} <= {"=", "+"}


@pytest.mark.parametrize("parameters", [{}, {"point": "nobody"}])
@pytest.mark.parametrize("preset", ["moved", "worst"])
def test_until_a_point_is_chosen_the_first_that_is_listed_is_told_and_heard(
    open_page: OpenPage, run: RunRecord, parameters: dict[str, str], preset: str
) -> None:
    page = open_page("alignment", run=run.id, preset=preset, **parameters)
    assert not page.exception
    (listed,) = [each.value for each in page.dataframe if "Angle" in each.value]
    assert f"**{listed['Point'].iloc[0]}**" in texts(page)
    assert page.get("audio")


def test_before_training_nothing_was_heard_yet(open_page: OpenPage, run: RunRecord) -> None:
    page = open_page("alignment", run=run.id, point="test-003", step="0")
    assert "not transcribed at this step" in texts(page)
    page = open_page("alignment", run=run.id, step="0", preset="worst")
    assert "choose a later one" in texts(page)


def test_presets_choose_and_order_by_what_was_heard(open_page: OpenPage, store: Store, run: RunRecord) -> None:
    development = store.evaluations(job_id=run.job_id, test_set="development")
    teacher = next(item for item in development if item.subject == "teacher")
    student = max((item for item in development if item.run_id == run.id), key=lambda item: item.step or 0)
    wrong = {item.utterance_id: item.errors for item in store.utterance_results(teacher.id)}
    rates = {item.utterance_id: item.errors / item.words for item in store.utterance_results(student.id)}
    shown = {preset: listed(open_page("alignment", run=run.id, preset=preset)) for preset in ("moved", "lost", "worst")}
    assert len(shown["moved"]) == sample.UTTERANCES
    assert set(shown["lost"]) == {name for name in wrong if wrong[name] == 0 and rates[name] > 0}
    assert shown["lost"]
    assert [rates[name] for name in shown["worst"]] == sorted(rates.values(), reverse=True)


def test_a_map_that_failed_says_why_and_is_not_asked_for_again(
    open_page: OpenPage, store: Store, run: RunRecord
) -> None:
    asked = store.request_map(run.id, "decoder", None, None, None, "utterances")
    store.fail_map(asked.id, "The states are NaN. Choose an earlier step.")
    page = open_page("alignment", run=run.id, layer="decoder-3-4")
    assert "The states are NaN." in texts(page)
    assert store.map(asked.id).state == "failed"
    next(button for button in page.button if button.label == "Draw it again").click().run()
    assert store.map(asked.id).state == "queued"
    assert "The map is being drawn" in texts(page)


def test_an_old_picture_stays_with_its_age_until_a_new_one_is_there(
    open_page: OpenPage, store: Store, run: RunRecord
) -> None:
    new = [replace(item, step=200) for item in store.alignments(run.id) if item.step == 160]
    store.add_alignments(new)
    page = open_page("alignment", run=run.id)
    assert "before step 200. It shows step 160." in texts(page)
    assert page.get("plotly_chart")
    next(button for button in page.button if button.label == "Draw it again").click().run()
    assert "being drawn again" in texts(page)
    assert page.get("plotly_chart")


def test_a_map_of_an_older_version_is_shown_without_neighbours(
    open_page: OpenPage, store: Store, runs_folder: Path, run: RunRecord
) -> None:
    from safetensors.numpy import load_file, save_file

    record = next(item for item in store.maps(run.id) if item.step == 160 and item.level == "utterances")
    arrays = load_file(runs_folder / record.path)
    old = {name: arrays[name][0] for name in ("student_xy", "teacher_xy", "angle")}
    save_file({**old, "utterance": arrays["utterance"], "moment": arrays["moment"]}, runs_folder / record.path)
    page = open_page("alignment", run=run.id, map="one", point="test-003")
    assert not page.exception
    assert not page.error
    assert "older version, without neighbours" in texts(page)


def test_numbers_have_intervals_floors_and_ceilings_and_every_layer_is_in_the_grid(
    open_page: OpenPage, run: RunRecord
) -> None:
    page = open_page("alignment", run=run.id)
    (frame,) = [each.value for each in page.dataframe if "Measure" in each.value]
    assert list(frame.columns) == ["Measure", "Before", "Step 160", "95 % interval", "Shuffled", "Teacher itself"]
    rows = {row["Measure"]: row for row in frame.to_dict("records")}
    assert len(rows) == 5
    assert rows["Debiased linear CKA ↑"]["Shuffled"] == "0.01 (0.00 to 0.03)"
    assert rows["Debiased linear CKA ↑"]["Teacher itself"] == "1.00"
    assert rows["Angle of this layer pair ↓"]["95 % interval"].endswith("°")
    said = texts(page)
    assert "1\u202f000 of 1\u202f200 pairs of states of 24 utterances" in said
    assert "Debiased linear CKA of every encoder layer, step 160" in said
    assert "each utterance beside another one of the teacher's" in said
    assert "24 utterances are too few to settle much, 30 or more are needed" in said


def test_what_an_older_version_compared_is_compared_again(open_page: OpenPage, store: Store, run: RunRecord) -> None:
    (record,) = store.comparisons(run.id)
    assert record.result is not None
    measures = record.result["pairs"]["2-3"]
    older = {
        name: {part: value for part, value in measured.items() if part not in ("floor_low", "floor_high")}
        for name, measured in measures.items()
    }
    store.request_comparison(run.id, "encoder", record.step, again=True)
    store.finish_comparison(record.id, {**record.result, "pairs": {"2-3": older}})
    page = open_page("alignment", run=run.id)
    assert "are being computed" in texts(page)
    assert store.comparison(record.id).state == "queued"


def test_a_comparison_is_asked_for_once_and_until_it_is_there_the_stored_numbers_stand(
    open_page: OpenPage, store: Store, run: RunRecord
) -> None:
    page = open_page("alignment", run=run.id, step="80")
    open_page("alignment", run=run.id, step="80")
    (asked,) = [item for item in store.comparisons(run.id) if item.step == 80]
    assert asked.state == "queued"
    (frame,) = [each.value for each in page.dataframe if "Measure" in each.value]
    assert list(frame.columns) == ["Measure", "Before", "Step 80"]
    assert "are being computed" in texts(page)


def test_a_comparison_that_failed_says_why(open_page: OpenPage, store: Store, run: RunRecord) -> None:
    asked = store.request_comparison(run.id, "encoder", 40)
    store.fail_comparison(asked.id, "Some states are NaN. Choose an earlier step.")
    page = open_page("alignment", run=run.id, step="40")
    assert "Some states are NaN." in texts(page)
    assert store.comparison(asked.id).state == "failed"
    next(button for button in page.button if button.label == "Compare again").click().run()
    assert store.comparison(asked.id).state == "queued"
