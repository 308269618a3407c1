"""Whether the models that runs name can be had, and what is told where they cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config import RunConfig
from core.model_sources import unavailable_models
from core.store import RunRecord, Store
from core.weights import Hub

MakeConfig = Callable[..., RunConfig]
AWAY = Hub(endpoint="http://127.0.0.1:9", cache_folder=Path("/nonexistent"), offline=True)


def found(configs: list[RunConfig], store: Store, folder: Path) -> dict[str, str]:
    problems = unavailable_models(configs, store=store, runs_folder=folder, hub=AWAY)
    return {problem.where: problem.message for problem in problems}


def stored(store: Store, config: RunConfig, state: Any = "finished") -> RunRecord:
    (run,) = store.runs(job_id=store.create_job("other", [config]).id)
    store.run_state(run.id, "running")
    store.run_state(run.id, state)
    return store.run(run.id)


def test_the_packaged_model_is_there_without_asking_a_hub(
    store: Store, make_config: MakeConfig, tmp_path: Path
) -> None:
    assert found([make_config()], store, tmp_path) == {}


def test_every_model_that_cannot_be_had_is_told_beside_its_field(
    store: Store, make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.safetensors").write_text("weights")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    names = ["./gone", "team/unknown", "run:rnobody", str(tmp_path / "empty"), str(tmp_path / "file.safetensors")]
    teachers = [{"model": name} for name in names]
    student = {"kind": "pretrained", "model": str(tmp_path / "bert")}
    said = found([make_config(teachers=teachers, student=student)] * 2, store, tmp_path)
    assert list(said) == [*(f"teachers.{number}.model" for number in range(5)), "student.model"]
    for words, message in zip(
        (
            "There is no folder ./gone",
            "unset HF_HUB_OFFLINE",
            "There is no run 'rnobody'",
            "holds no config.json",
            "is a file. Give the folder",
            "type 'bert'",
        ),
        said.values(),
        strict=True,
    ):
        assert words in message
    # A package is no remedy for a model that no package holds.
    assert "pip install" not in said["teachers.1.model"]


def test_a_revision_that_no_package_has_says_so(store: Store, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(teachers=[{"model": "openai/whisper-tiny.en", "revision": "abc"}])
    assert "Leave the revision out to use the package" in found([config], store, tmp_path)["teachers.0.model"]


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("running", "Wait until it has finished"),
        ("failed", "Start it again, or name another run"),
        ("stopped", "Start it again, or name another run"),
        ("interrupted", "Start it again, or name another run"),
        ("finished", "are gone from"),
    ],
)
def test_a_run_whose_student_cannot_teach_says_what_to_do(
    state: str, remedy: str, store: Store, make_config: MakeConfig, tmp_path: Path
) -> None:
    run = stored(store, make_config(), state)
    said = found([make_config(teachers=[{"model": f"run:{run.id}"}])], store, tmp_path)["teachers.0.model"]
    assert (run.id in said, remedy in said) == (True, True)


def test_what_the_student_of_a_run_was_cut_from_must_be_there_as_well(
    store: Store, make_config: MakeConfig, tmp_path: Path
) -> None:
    run = stored(store, make_config(teachers=[{"model": str(tmp_path / "gone")}]))
    (tmp_path / run.id / "adapters" / "best").mkdir(parents=True)
    config = make_config(teachers=[{"model": f"run:{run.id}"}])
    said = found([config], store, tmp_path)["teachers.0.model"]
    assert f"The student of the run {run.id} (run) was made from {tmp_path / 'gone'}. There is no folder" in said
    run = stored(store, make_config())
    (tmp_path / run.id / "adapters" / "best").mkdir(parents=True)
    assert found([make_config(teachers=[{"model": f"run:{run.id}"}])], store, tmp_path) == {}


def test_a_row_must_come_before_the_one_that_learns_from_it(
    store: Store, make_config: MakeConfig, tmp_path: Path
) -> None:
    first, second = make_config(name="first"), make_config(name="second", teachers=[{"model": "row:first"}])
    assert found([first, second], store, tmp_path) == {}
    assert "no earlier row 'first'" in found([second, first], store, tmp_path)["teachers.0.model"]


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name/x", "./" + "x" * 5000, "a\0b", "/\0"])
def test_names_that_no_disk_can_hold_are_told_briefly(
    name: str, store: Store, make_config: MakeConfig, tmp_path: Path
) -> None:
    said = found([make_config(teachers=[{"model": name}])], store, tmp_path)["teachers.0.model"]
    assert len(said) < 900
