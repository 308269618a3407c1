"""A finished job with all its files, and an installation that has nothing yet."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.bundles import export_bundle
from core.runs import Studio
from tests.app import sample


def open_studio(folder: Path, new_database: Path) -> Studio:
    folder.mkdir(parents=True)
    shutil.copy(new_database, folder / "experiments.db")
    return Studio(f"sqlite:///{folder / 'experiments.db'}", folder / "runs")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, new_database: Path) -> Path:
    """Return an installation with a finished job, to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "home"
    studio = open_studio(folder, new_database)
    runs = sample.add_finished_job(studio.store, studio.runs_folder)
    job = studio.runs_folder / "jobs" / runs[0].job_id
    save_file({"encoder.utterance": np.zeros(4, np.int32)}, job / "teacher_states.safetensors")
    for run in runs:
        write_files(studio.runs_folder / run.id)
    export_bundle(studio, runs[0].job_id, folder.parent / "job.zip")
    studio.close()
    return folder


@pytest.fixture
def home(tmp_path: Path, finished: Path) -> Iterator[Studio]:
    """Yield an installation with a finished job."""
    shutil.copytree(finished, tmp_path / "home", symlinks=True)
    studio = Studio(f"sqlite:///{tmp_path / 'home' / 'experiments.db'}", tmp_path / "home" / "runs")
    yield studio
    studio.close()


def write_files(folder: Path) -> None:
    """Write the adapters and the states of a run."""
    step = folder / "adapters" / "step-000160"
    step.mkdir(parents=True)
    save_file({"lora_A": np.ones((2, 3), np.float32)}, step / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "target_modules": ["model.encoder.layers.2.fc1"], "megatron_config": None}
    (step / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for name in ("best", "last"):
        (folder / "adapters" / name).symlink_to("step-000160")
    (folder / "states").mkdir()
    save_file({"student.encoder.2": np.ones((4, 3), np.float16)}, folder / "states" / "000160.safetensors")


@pytest.fixture
def job_id(home: Studio) -> str:
    return home.store.jobs()[0].id


@pytest.fixture
def away(tmp_path: Path, new_database: Path) -> Iterator[Studio]:
    """Yield an installation without jobs."""
    studio = open_studio(tmp_path / "away", new_database)
    yield studio
    studio.close()


@pytest.fixture
def bundle(finished: Path, tmp_path: Path) -> Path:
    """Return the bundle of the finished job, the test's own."""
    return Path(shutil.copy(finished.parent / "job.zip", tmp_path / "bundle.zip"))


@pytest.fixture
def inventory(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """Return what lists everything under the test's folder, but for what SQLite keeps for itself."""

    def everything() -> dict[str, bytes]:
        return {
            str(path.relative_to(tmp_path)): path.read_bytes() if path.is_file() else b""
            for path in sorted(tmp_path.rglob("*"))
            if "experiments.db" not in path.name
        }

    return everything
