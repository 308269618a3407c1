"""Students over several devices, here processes that share a CPU: the same results, and endings of every kind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

import core.spread
from core.companies import companies
from core.config import parse_run
from core.errors import ManifoldError, Stopped
from core.job import run_job
from core.preflight import devices_of
from core.progress import Progress
from core.store import RunRecord, Store
from core.store.journal import replay
from tests.engine import run_config
from tests.small_companies import start
from tests.test_job import ALONE, MANIFOLD, SMALL


@pytest.fixture(autouse=True)
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process runs the program that started it once more; tests of pages leave theirs behind as if it were it."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))


def until(holds: Callable[[], Any], *, seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def progress(total: float = 10.0, stop: Callable[[], bool] = lambda: False) -> Progress:
    return Progress(total=total, report=lambda *said: None, stop=stop)


def runs_of(store: Store) -> dict[str, RunRecord]:
    return {run.name: run for run in store.runs()}


def process_of(store: Store, name: str) -> int:
    (metric,) = store.metrics(runs_of(store)[name].id, ["process"])
    return int(metric.value)


@pytest.mark.long
@pytest.mark.parametrize("how", ["live", "cached"])
def test_two_processes_find_what_one_finds(store: Store, tmp_path: Path, how: str) -> None:
    found = []
    for devices in (1, 2):
        training = {**SMALL["training"], "teacher_outputs": how, "devices": devices}
        configs = [
            parse_run({**SMALL, "training": training, "evaluation": {"test": False}, "name": name, **fields})
            for name, fields in (
                ("manifold", {"method": MANIFOLD}),
                ("idle adapters", {"method": ALONE, "lora": {"rank": 2, "decoder_targets": ["fc1"]}}),
                ("another seed", {"method": MANIFOLD, "seed": 1}),
            )
        ]
        job = store.create_job(f"on {devices}", configs)
        folder = tmp_path / str(devices)
        with pytest.raises(ManifoldError, match=r"idle adapters: .*Remove their targets"):
            run_job(job.id, store=store, runs_folder=folder, stop=lambda: False)
        found.append([everything(store, folder, run) for run in store.runs(job_id=job.id)])
        assert (store.job(job.id).stage, store.job(job.id).done) == ("Finished", 1000)
    one, two = found
    assert [each["state"] for each in two] == ["finished", "failed", "finished"]
    assert one == two


def everything(store: Store, folder: Path, run: RunRecord) -> dict[str, Any]:
    """Return all that is known of a run but its times and its memory."""
    evaluations = store.evaluations(run_id=run.id)
    adapters = folder / run.id / "adapters" / "best" / "adapter_model.safetensors"
    return {
        "state": run.state,
        "message": run.message,
        "metrics": [(metric.name, metric.step, metric.value) for metric in store.metrics(run.id)],
        "evaluations": [(each.test_set, each.step, each.wer, each.heldout_kl) for each in evaluations],
        "texts": [[text.hypothesis for text in store.utterance_results(each.id)] for each in evaluations],
        "alignments": [(each.step, each.side, each.linear_cka) for each in store.alignments(run.id)],
        "maps": [(each.side, each.state) for each in store.maps(run.id)],
        "adapters": {name: value.tolist() for name, value in load_file(adapters).items()} if run.step else None,
    }


def test_each_company_is_trained_once_by_whoever_is_free(store: Store, tmp_path: Path) -> None:
    bar = progress()
    outcomes = start(store, tmp_path, [["a", "b"], ["c"], ["d"], ["e"]], bar)
    runs = runs_of(store)
    assert {run.state for run in runs.values()} == {"finished"}
    assert sorted(run_id for outcome in outcomes for run_id in outcome.mapped) == sorted(
        run.id for run in runs.values()
    )
    processes = {name: process_of(store, name) for name in runs}
    assert processes["a"] == processes["b"]
    assert len(set(processes.values())) == 2
    assert os.getpid() not in processes.values()
    assert bar.done == 5
    threads = {metric.value for run in runs.values() for metric in store.metrics(run.id, ["threads"])}
    assert threads == {max(1, torch.get_num_threads() // 2)}
    assert not multiprocessing.active_children()


def test_a_process_that_dies_takes_its_own_runs_alone(store: Store, tmp_path: Path) -> None:
    outcomes = start(store, tmp_path, [["killed", "beside it"], ["memory"], ["a"]], progress())
    runs = runs_of(store)
    assert [name for name, run in runs.items() if run.state == "finished"] == ["a"]
    for name, said in (
        ("killed", "was killed (signal 9)"),
        ("beside it", "was killed (signal 9)"),
        ("memory", "The machine ran out of memory."),
    ):
        assert said in runs[name].message
        assert any(text.startswith(f"{name}: ") and said in text for each in outcomes for text in each.failures)


def test_a_request_to_stop_ends_every_process(store: Store, tmp_path: Path) -> None:
    def both_run() -> bool:
        return [run.state for run in store.runs()].count("running") == 2

    with pytest.raises(Stopped):
        start(store, tmp_path, [["endless 1"], ["endless 2"], ["never"]], progress(stop=both_run))
    assert not multiprocessing.active_children()
    assert runs_of(store)["never"].state == "queued"


def test_a_suspended_process_does_not_keep_a_job_from_stopping(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.spread, "STOP_SECONDS", 2.0)
    suspended: list[int] = []

    def both_run() -> bool:
        if [run.state for run in store.runs()].count("running") < 2:
            return False
        if not suspended:
            suspended.append(process_of(store, "endless 1"))
            os.kill(suspended[0], signal.SIGSTOP)
        return True

    with pytest.raises(Stopped):
        start(store, tmp_path, [["endless 1"], ["endless 2"]], progress(stop=both_run))
    assert suspended
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_leaves_no_process_and_no_file(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    command = [sys.executable, "-m", "tests.small_companies", store.url, str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as worker:
        try:
            until(lambda: [run.state for run in store.runs()].count("running") == 2)
            children = [psutil.Process(process_of(store, name)) for name in ("endless", "deaf")]
        finally:
            worker.kill()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert (len(gone), alive) == (2, [])
    replay(store, folder)
    assert [path.name for path in folder.rglob("*")] == ["journal"]


def test_a_company_is_no_larger_than_what_leaves_every_device_work() -> None:
    decoder = {"rank": 4, "alpha": 8, "encoder_targets": [], "decoder_targets": ["q_proj"]}
    eight = [run_config(name=str(number), lora=decoder, seed=number) for number in range(8)]
    assert companies(eight) == [list(range(8))]
    assert companies(eight, 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert companies(eight, 3) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert companies(eight, 20) == [[number] for number in range(8)]


def test_a_job_uses_the_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**training: Any) -> list[str]:
        return [str(device) for device in devices_of(run_config(training=training))]

    assert found() == ["cpu"]
    assert found(devices=3) == ["cpu", "cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert found() == ["cuda:0"]
    assert found(devices=8) == ["cuda:0", "cuda:1"]
