"""Experts that are made in a job and teach in it: groups of runs on the real tiny.en, with very little speech."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.ablation import AblationTable, ablation_table
from core.analysis import compare
from core.checking import check
from core.config import RunConfig, group_problems, groups, parse_ablation, parse_run
from core.errors import ConfigError, ModelError
from core.exports.merged import export_merged
from core.job import run_job
from core.preflight import find_asleep, load_models
from core.store import Store
from core.teachers import Finder
from tests.engine import run_config

CE = {"losses": [{"kind": "cross_entropy"}]}
BASE: dict[str, Any] = {
    "student": {"kind": "pruned"},
    "freeze_below": 2,
    "lora": {"rank": 2, "alpha": 4},
    "training": {"steps": 1, "batch_size": 2, "audio_context": 6, "evaluations": 1, "learning_rate": 0.003},
    "evaluation": {"audio_context": 8},
    "source": {"kind": "generated", "train": 2, "development": 2, "test": 2},
}
TOGETHER = {
    "teachers": [{"model": "row:one"}, {"model": "row:other"}],
    "student": {"model": "openai/whisper-tiny.en", "encoder_layers": [0, 1, 3]},
}


def experts_and_students(*combine: str) -> tuple[RunConfig, ...]:
    rows = [
        {"name": "one", "method": "ce"},
        {"name": "other", "method": "ce", "changes": {"seed": 1}},
        *({"method": f"ensemble-{how}", "changes": TOGETHER} for how in combine),
    ]
    return parse_ablation({"name": "experts", "base": BASE, "rows": rows})[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path, str]:
    """Two experts, and two students of both; done once for the tests below."""
    folder = tmp_path_factory.mktemp("groups")
    store = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    job = store.create_job("experts", experts_and_students("single", "weighted"))
    run_job(job.id, store=store, runs_folder=folder / "runs", stop=lambda: False)
    return store, folder / "runs", job.id


@pytest.fixture
def table(finished: tuple[Store, Path, str]) -> AblationTable:
    store, _, job_id = finished
    return ablation_table(store, job_id)


def test_runs_that_agree_in_what_is_computed_once_are_a_group(finished: tuple[Store, Path, str]) -> None:
    store, folder, job_id = finished
    runs = store.runs(job_id=job_id)
    assert [run.group for run in runs] == [0, 0, 1, 1]
    assert all(run.state == "finished" for run in runs)
    assert [run.probe_folder for run in runs[1:3]] == [f"jobs/{job_id}", f"jobs/{job_id}/group-1"]
    assert all((folder / run.probe_folder / "teacher_states.safetensors").is_file() for run in runs)


def test_the_table_shows_every_expert_each_ensemble_and_each_student(table: AblationTable) -> None:
    assert [(row.run.name, row.teaches, row.is_baseline) for row in table.rows] == [
        ("one", True, False),
        ("other", True, False),
        ("one of several: the best teacher", False, True),
        ("ensemble: weighted", False, False),
    ]
    assert table.teacher is None
    assert [(row.name, row.subject) for row in table.several] == [("ensemble, weighted, temperature 5", "ensemble")]
    everything = [*table.rows, *table.several]
    evaluations = [row.evaluation for row in everything if row.evaluation is not None]
    assert len(evaluations) == len(everything)
    assert len({item.test_set_hash for item in evaluations}) == 1
    assert [row.difference is None for row in everything] == [False, False, True, False, False]
    # An ensemble needs the weights of all its teachers.
    one, other, student, _, ensemble = evaluations
    assert one.memory is not None
    assert other.memory is not None
    assert student.memory is not None
    assert ensemble.memory == one.memory + other.memory == 2 * 4 * 37_760_256
    assert student.memory < one.memory
    assert all(item.real_time_factor > 0 for item in evaluations)


def test_each_teacher_has_its_alignment_and_its_weight(finished: tuple[Store, Path, str]) -> None:
    store, _, job_id = finished
    run = store.runs(job_id=job_id)[-1]
    assert {item.teacher_number for item in store.alignments(run.id)} == {0, 1}
    said = {item.name: item.value for item in store.metrics(run.id) if item.name.startswith("teacher/")}
    assert said["teacher/0/weight"] + said["teacher/1/weight"] == pytest.approx(1)
    assert said["teacher/0/likeliest"] + said["teacher/1/likeliest"] == pytest.approx(1)
    for number in (0, 1):
        rates = store.evaluations(job_id=job_id, test_set="development")
        name = run.config["teachers"][number]["model"].removeprefix("row:")
        (rate,) = [item.wer for item in rates if item.subject == "teacher" and item.label == name]
        assert said[f"teacher/{number}/wer"] == pytest.approx(rate)
        assert 0.5 < said[f"teacher/{number}/agreement"] <= 1


def test_every_teacher_that_a_student_meets_can_be_compared_with_it(finished: tuple[Store, Path, str]) -> None:
    store, folder, job_id = finished
    run = store.runs(job_id=job_id)[-1]
    measured = {(item.teacher_number, item.step, item.student_layer): item for item in store.alignments(run.id)}
    found = []
    for number in (0, 1):
        asked = store.request_comparison(run.id, "encoder", 1, teacher_number=number)
        compared = compare(asked, store=store, runs_folder=folder)
        assert compared["grid"]["teacher_layers"] == [0, 1, 2, 3]
        assert compared["grid"]["student_layers"] == [0, 1, 2]
        (pair,) = compared["pairs"].values()
        # All points are counted in both, and the layer's number is that of the record.
        assert pair["linear_cka"]["value"] == pytest.approx(measured[number, 1, 2].linear_cka, abs=1e-3)
        assert pair["geodesic_angle"]["value"] == pytest.approx(measured[number, 1, 2].geodesic_angle, abs=1e-3)
        found.append(compared["grid"]["cka"])
    assert found[0] != found[1]


def test_the_student_of_a_finished_run_is_a_teacher_and_so_is_its_export(
    finished: tuple[Store, Path, str], tmp_path: Path
) -> None:
    store, folder, job_id = finished
    expert = store.runs(job_id=job_id)[0]
    exported = export_merged(expert, store=store, runs_folder=folder, to=tmp_path / "expert").folder
    names = [f"run:{expert.id}", str(exported)]
    config = parse_run({**BASE, "method": CE, "teachers": [{"model": name} for name in names]})
    (by_run, by_export), student = load_models(config, Finder(store, folder))
    theirs = by_export.model.state_dict()
    assert all(bool((value == theirs[name]).all()) for name, value in by_run.model.state_dict().items())
    assert student.encoder_layers == 4
    # The student of an ensemble is cut from its own model, whatever taught it.
    small = store.runs(job_id=job_id)[-1]
    cut = Finder(store, folder)(f"run:{small.id}", None, "en")
    assert cut.encoder_layers == 3
    (result,) = check([config], runs_folder=folder, measured=False, find=Finder(store, folder))
    assert result["problems"] == []


def test_the_student_of_a_finished_run_sleeps_until_it_must_teach(finished: tuple[Store, Path, str]) -> None:
    store, folder, job_id = finished
    for run in (store.runs(job_id=job_id)[0], store.runs(job_id=job_id)[-1]):
        awake = Finder(store, folder)(f"run:{run.id}", None, "en")
        found = Finder(store, folder, pretrained=find_asleep)(f"run:{run.id}", None, "en")
        assert found.asleep
        # What is kept of its outputs is found by the same name.
        assert found.revision == awake.revision
        assert (found.encoder_layers, found.decoder_layers) == (awake.encoder_layers, awake.decoder_layers)
        assert torch.equal(found.vocabulary, awake.vocabulary)
        assert found.asleep
        theirs = awake.model.state_dict()
        found.wake()
        assert not found.asleep
        assert all(torch.equal(value, theirs[name]) for name, value in found.model.state_dict().items())


def test_only_students_of_finished_runs_teach(store: Store, tmp_path: Path) -> None:
    job = store.create_job("one", [parse_run({**BASE, "method": CE})])
    run = store.runs(job_id=job.id)[0]
    with pytest.raises(
        ModelError, match=rf"The run {run.id} \(run\) is queued: only a finished run's student can teach"
    ):
        Finder(store, tmp_path)(f"run:{run.id}", None, "en")
    with pytest.raises(ModelError, match=r"no earlier row 'me' .* name a finished run \(run:ID\)"):
        Finder(store, tmp_path)("row:me", None, "en")


def test_a_look_before_the_start_lets_students_stand_in_for_rows(tmp_path: Path) -> None:
    results = check(experts_and_students("mean"), runs_folder=tmp_path, measured=False)
    assert [result["problems"] for result in results] == [[], [], []]
    # Three layers of two teachers, and one projection for each.
    assert results[2]["parameters"]["projections"] == 2 * 384 * 384
    assert results[2]["parameters"]["teacher"] == 2 * 37_760_256


def test_a_row_that_teaches_must_come_before_and_all_others_share(store: Store, tmp_path: Path) -> None:
    first, second, third = experts_and_students("mean")
    assert [len(group) for group in groups([first, second, third])] == [2, 1]
    assert group_problems([first, second, third]) == []
    (early,) = [problem for problem in group_problems([first, third, second]) if "'other'" in problem.message]
    assert early.message == "there is no earlier row 'other'; name one that comes before"
    elsewhere = second.model_copy(update={"language": "de"})
    (idle,) = group_problems([first, elsewhere])
    assert idle.where == "other: language"
    assert "differs from 'one'" in idle.message
    assert "several earlier rows" in group_problems([first, first, second, third])[0].message
    job = store.create_job("two", [first, elsewhere])
    with pytest.raises(ConfigError, match="cannot be one job"):
        run_job(job.id, store=store, runs_folder=tmp_path, stop=lambda: False)


def test_runs_of_one_job_must_share_what_is_computed_once() -> None:
    base = run_config()
    training = base.training.model_copy(update={"audio_context": 12.0, "steps": 5})
    halved = training.model_copy(update={"precision": "bfloat16"})
    other = base.model_copy(update={"name": "other", "language": "de", "training": halved})
    both = ["other: language", "other: training.audio_context", "other: training.precision"]
    assert [problem.where for problem in group_problems([base, other])] == both
    # Within a group, too: the fields that make groups agree, and the context still differs.
    near = base.model_copy(update={"name": "near", "training": training})
    assert [problem.where for problem in group_problems([base, near])] == ["near: training.audio_context"]
