"""One run on several devices, here processes that share a CPU: the results of one, and endings of every kind."""

import multiprocessing
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from core.config import RunConfig, parse_run
from core.errors import ManifoldError, Stopped
from core.job import run_job
from core.parts import backend_of
from core.store import RunRecord, Store
from core.store.journal import replay
from tests.small_companies import start
from tests.test_job import ALONE, MANIFOLD, SMALL
from tests.test_spread import everything, no_program, progress, runs_of, until

__all__ = ["no_program"]  # used by every test here

CUDA = [torch.device("cuda", number) for number in range(2)]
TRAINING = {**SMALL["training"], "steps": 4, "batch_size": 3, "evaluations": 2}


def one_run(devices: int, **changes: Any) -> RunConfig:
    training = {**TRAINING, "devices": devices, **changes.pop("training", {})}
    source = {**SMALL["source"], "train": 4}
    return parse_run({**SMALL, "source": source, "method": MANIFOLD, **changes, "training": training})


def processes_of(store: Store, name: str) -> list[int]:
    return [int(metric.value) for metric in store.metrics(runs_of(store)[name].id, ["process"])]


def done(store: Store, folder: Path, config: RunConfig, stages: list[str] | None = None) -> RunRecord:
    job = store.create_job(f"on {config.training.devices}", [config])

    def look() -> bool:
        if stages is not None:
            stages.append(store.job(job.id).stage)
        return False

    run_job(job.id, store=store, runs_folder=folder, stop=look)
    (run,) = store.runs(job_id=job.id)
    return run


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def require_alike(mine: Any, theirs: Any) -> None:
    """Check that two structures are equal, their numbers up to rounding."""
    if isinstance(mine, float):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    elif isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        for key in mine:
            require_alike(mine[key], theirs[key])
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            require_alike(one, other)
    else:
        assert mine == theirs


@pytest.mark.long
def test_a_job_of_one_run_ends_on_two_devices_as_it_ends_on_one(store: Store, tmp_path: Path) -> None:
    stages: list[str] = []
    runs = [done(store, tmp_path / str(devices), one_run(devices), stages) for devices in (1, 2)]
    assert [run.state for run in runs] == ["finished"] * 2
    one, two = (everything(store, tmp_path / str(devices), run) for devices, run in zip((1, 2), runs, strict=True))
    assert "Starting 2 processes" in stages
    assert stages.count("Training run") > 0
    assert one["texts"] == two["texts"]
    assert len(one["evaluations"]) == 3
    require_alike(one, two)
    assert files_of(tmp_path / "1" / runs[0].id) == files_of(tmp_path / "2" / runs[1].id)
    assert (store.job(runs[1].job_id).stage, store.job(runs[1].job_id).done) == ("Finished", 1000)
    assert not multiprocessing.active_children()


@pytest.mark.long
def test_a_run_of_fewer_utterances_than_devices_takes_as_many(store: Store, tmp_path: Path) -> None:
    stages: list[str] = []
    config = one_run(5, source=SMALL["source"], training={"steps": 2, "batch_size": 8}, evaluation={"test": False})
    assert done(store, tmp_path, config, stages).state == "finished"
    assert "Starting 2 processes" in stages


@pytest.mark.long
def test_what_is_wrong_with_a_run_is_said_once_by_all(store: Store, tmp_path: Path) -> None:
    config = one_run(2, method=ALONE, lora={"rank": 2, "decoder_targets": ["fc1"]}, evaluation={"test": False})
    with pytest.raises(ManifoldError, match=r"^run: .*Remove their targets"):
        done(store, tmp_path, config)
    (run,) = store.runs()
    assert run.state == "failed"
    assert "Remove their targets" in run.message
    assert not multiprocessing.active_children()


@pytest.mark.long
def test_a_run_that_is_stopped_while_it_trains_keeps_what_was_stored(store: Store, tmp_path: Path) -> None:
    job = store.create_job("stopped", [one_run(2, training={"steps": 1000, "evaluations": 100})])
    with pytest.raises(Stopped):
        run_job(job.id, store=store, runs_folder=tmp_path, stop=lambda: store.runs()[0].step >= 12)
    (run,) = store.runs()
    assert 12 <= run.step < 1000
    assert len(store.metrics(run.id, ["loss/total"])) == run.step
    assert (tmp_path / run.id / "adapters" / "best" / "adapter_model.safetensors").is_file()
    assert not multiprocessing.active_children()


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1])
def test_a_run_that_loses_a_process_while_it_trains_has_failed(store: Store, tmp_path: Path, number: int) -> None:
    job = store.create_job("killed", [one_run(2, training={"steps": 1000, "evaluations": 1})])

    def look() -> bool:
        if store.runs()[0].step >= 5:
            # The first was started first.
            children = sorted(multiprocessing.active_children(), key=lambda process: process.pid or 0)
            for process in children[number : number + 1]:
                process.kill()
        return False

    with pytest.raises(ManifoldError, match=r"^run: One of the 2 processes that trained it was killed \(signal 9\)"):
        run_job(job.id, store=store, runs_folder=tmp_path, stop=look)
    assert store.runs()[0].state == "failed"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("killed 0", "One of the 2 processes that trained it was killed (signal 9)"),
        ("killed 1", "One of the 2 processes that trained it was killed (signal 9)"),
        ("memory 1", "The machine ran out of memory."),
        ("wrong 1", "It went wrong."),
    ],
)
def test_where_one_process_ends_all_do_and_the_run_has_failed(
    store: Store, tmp_path: Path, what: str, said: str
) -> None:
    (outcome,) = start(store, tmp_path, [[what]], progress(), parts=True)
    (failure,) = outcome.failures
    assert failure.startswith(f"{what}: {said}")
    run = runs_of(store)[what]
    assert (run.state, failure) == ("failed", f"{what}: {run.message}")
    assert not multiprocessing.active_children()


def test_a_request_to_stop_ends_the_first_at_its_next_step_and_then_the_others(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bar = progress(stop=lambda: len(processes_of(store, "endless")) == 2 and bar.done > 0)
    with pytest.raises(Stopped):
        start(store, tmp_path, [["endless"]], bar, parts=True)
    assert not multiprocessing.active_children()
    assert bar.done == 1  # the cost of a run is counted once
    assert "Traceback" not in capfd.readouterr().err


def test_a_worker_that_is_killed_leaves_no_process_and_no_file(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    command = [sys.executable, "-m", "tests.small_companies", store.url, str(folder), "parts"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as worker:
        try:
            until(lambda: store.runs() and len(processes_of(store, "endless")) == 2)
            children = [psutil.Process(number) for number in processes_of(store, "endless")]
        finally:
            worker.kill()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert (len(gone), alive) == (2, [])
    replay(store, folder)
    assert [path.name for path in folder.rglob("*")] == ["journal"]


@pytest.mark.parametrize(
    ("devices", "backend"),
    [(CUDA, "nccl"), (CUDA[:1] * 2, "gloo"), ([torch.device("cpu")] * 2, "gloo")],
    ids=["a GPU each", "one GPU", "a CPU"],
)
def test_processes_speak_through_nccl_where_each_has_a_gpu_of_its_own(
    devices: Sequence[torch.device], backend: str
) -> None:
    assert backend_of(devices) == backend
