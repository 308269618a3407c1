import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import analysis_worker
from core.analysis_worker import main
from core.config import RunConfig
from core.errors import ShapeError
from core.launchers.slots import ANALYSIS, analysis_slots, slot_taken, take_slot
from core.store import CheckRecord, ComparisonRecord, MapRecord, RunRecord, Store


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis_worker, "POLL_SECONDS", 0.01)


@pytest.fixture
def run(store: Store, make_config: Callable[..., RunConfig]) -> RunRecord:
    return store.runs(job_id=store.create_job("job", [make_config()]).id)[0]


@pytest.fixture
def asked(store: Store, run: RunRecord) -> MapRecord:
    return store.request_map(run.id, "encoder", 3, 4, 10, "points")


@pytest.fixture
def options(store: Store, tmp_path: Path) -> list[str]:
    return ["--database-url", store.url, "--runs", str(tmp_path), "--idle-seconds", "0.1"]


def finish(record: MapRecord, *, store: Store, runs_folder: Path) -> None:
    path, how = f"{record.run_id}/map.safetensors", "learned projection"
    store.finish_map(record.id, path=path, trustworthiness=0.9, points=5, points_total=9, how=how, seconds=0.1)


def echo(record: CheckRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
    return {"seen": record.config}


def test_every_request_is_answered_and_then_the_worker_rests(
    store: Store, asked: MapRecord, options: list[str], tmp_path: Path
) -> None:
    checks = [store.request_check({"number": number}) for number in range(2)]
    assert main(options, make_map=finish, check=echo) == 0
    assert store.map(asked.id).state == "finished"
    assert [store.check(check.id).result for check in checks] == [{"seen": {"number": 0}}, {"seen": {"number": 1}}]
    assert not store.requests_open()
    assert not slot_taken(analysis_slots(tmp_path), ANALYSIS)


def test_a_check_goes_before_a_map(store: Store, asked: MapRecord, options: list[str]) -> None:
    store.request_check({})
    order = []

    def draw(record: MapRecord, *, store: Store, runs_folder: Path) -> None:
        order.append("map")

    def look(record: CheckRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
        order.append("check")
        return {}

    main(options, make_map=draw, check=look)
    assert order == ["check", "map"]


def test_a_comparison_goes_before_a_map_and_its_result_is_stored(
    store: Store, asked: MapRecord, options: list[str]
) -> None:
    comparison = store.request_comparison(asked.run_id, "encoder", 10)
    order = []

    def draw(record: MapRecord, *, store: Store, runs_folder: Path) -> None:
        order.append("map")

    def look(record: ComparisonRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
        order.append("comparison")
        return {"step": record.step}

    main(options, make_map=draw, compare=look, check=echo)
    assert order == ["comparison", "map"]
    assert store.comparison(comparison.id).result == {"step": 10}


def test_a_comparison_that_fails_says_why(store: Store, asked: MapRecord, options: list[str]) -> None:
    comparison = store.request_comparison(asked.run_id, "encoder", 10)
    main(options, make_map=finish, check=echo)
    assert store.comparison(comparison.id).state == "failed"
    assert "No encoder states of step 10" in store.comparison(comparison.id).message


def test_a_request_that_cannot_be_met_is_told_why_and_the_next_is_met(
    store: Store, asked: MapRecord, options: list[str]
) -> None:
    checks = [store.request_check({"number": number}) for number in range(2)]

    def refuse(record: MapRecord, *, store: Store, runs_folder: Path) -> None:
        raise ShapeError("Too few points: 3. Take a larger probe set.")

    def stumble(record: CheckRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
        if record.config["number"] == 0:
            raise KeyError("secret detail")
        return {}

    assert main(options, make_map=refuse, check=stumble) == 0
    assert (store.map(asked.id).state, store.map(asked.id).message) == (
        "failed",
        "Too few points: 3. Take a larger probe set.",
    )
    failed, met = [store.check(check.id) for check in checks]
    assert failed.state == "failed"
    assert "did not expect (KeyError)" in failed.message
    assert "secret detail" not in failed.message
    assert met.state == "finished"


def test_the_log_tells_what_was_done_and_how_it_ended(
    store: Store, asked: MapRecord, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store.request_check({"name": "a run"})
    store.request_check({"name": "another"}, measure=True)
    comparison = store.request_comparison(asked.run_id, "encoder", 10)

    def refuse(record: ComparisonRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
        raise ShapeError("Too few points: 3.")

    main(options, make_map=finish, compare=refuse, check=echo)
    lines = [line.split(" UTC  ")[1] for line in capsys.readouterr().err.splitlines()]
    told = [line for line in lines if not re.fullmatch(r"Done in \d+\.\d s", line)]
    assert told == [
        "Checking a run",
        "Measuring another",
        f"Comparing the encoder of {comparison.run_id} with its teacher, step 10",
        "Failed: Too few points: 3.",
        f"Drawing the points of the encoder of {asked.run_id}, step 10",
    ]
    assert len(lines) - len(told) == 3


def test_a_map_that_was_not_stored_has_failed(store: Store, asked: MapRecord, options: list[str]) -> None:
    main(options, make_map=lambda record, store, runs_folder: None, check=echo)
    assert store.map(asked.id).state == "failed"
    assert "The map was not made." in store.map(asked.id).message


def test_what_a_killed_worker_left_is_done_by_the_next(store: Store, asked: MapRecord, options: list[str]) -> None:
    assert store.claim_map() is not None
    main(options, make_map=finish, check=echo)
    assert store.map(asked.id).state == "finished"


def test_what_killed_two_workers_is_given_up(store: Store, asked: MapRecord, options: list[str]) -> None:
    store.claim_map()
    store.requeue_requests("")
    store.claim_map()
    main(options, make_map=finish, check=echo)
    assert store.map(asked.id).state == "failed"
    assert "died over this more than once" in store.map(asked.id).message


def test_a_second_worker_leaves_everything_to_the_first(
    store: Store, asked: MapRecord, options: list[str], tmp_path: Path
) -> None:
    slot = take_slot(analysis_slots(tmp_path), ANALYSIS)
    assert slot is not None
    with slot:
        command = [sys.executable, "-m", "core.analysis_worker", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert store.map(asked.id) == asked


def test_a_database_that_cannot_be_opened_ends_the_worker_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--database-url", f"sqlite:///{tmp_path}", "--runs", str(tmp_path)]) == 1
    assert "cannot be opened for writing" in capsys.readouterr().err


def test_without_other_orders_it_draws_maps_of_the_runs_and_checks_settings(
    store: Store, asked: MapRecord, options: list[str]
) -> None:
    check = store.request_check({"name": "nothing else"})
    assert main(options) == 0
    assert store.map(asked.id).state == "failed"
    assert "is not there" in store.map(asked.id).message
    assert not store.requests_open()
    assert "method" in str(store.check(check.id))
