import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from core import run_files
from core.audio import write_flac
from core.config import RunConfig, read_preset
from core.errors import ConfigError, StoreError
from core.launchers.liveness import process_of
from core.launchers.local import LocalLauncher
from core.launchers.process import find
from core.launchers.slots import CPU, device_slots, take_slot
from core.runs import Estimate, JobRecord, MapRecord, ProbeUtterance, Studio
from core.store import Store

PATIENCE_SECONDS = 60.0

ANALYSIS_WORKER = """
    import sys
    from core.analysis_worker import main

    def draw(record, *, store, runs_folder):
        store.finish_map(
            record.id, path="map", trustworthiness=None, points=1, points_total=1, how="somehow", seconds=0.1
        )

    def look(record, *, store, runs_folder):
        return {"seen": record.config}

    sys.exit(main([*sys.argv[1:], "--idle-seconds", "0.2"], make_map=draw, check=look))
"""


@pytest.fixture
def studio(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """Yield a studio whose workers do small jobs, known by the job's name."""
    (tmp_path / "small_analysis_worker.py").write_text(textwrap.dedent(ANALYSIS_WORKER))
    modules = Path(__file__).parent / "launchers"
    monkeypatch.setenv("PYTHONPATH", f"{modules}{os.pathsep}{tmp_path}")
    launcher = LocalLauncher(worker="small_worker", analysis_worker="small_analysis_worker")
    opened = Studio(store.url, tmp_path / "runs", launcher=launcher)
    yield opened
    for job in opened.store.jobs():
        opened.stop(job.id, now=True)
    opened.close()


@pytest.fixture
def queue(studio: Studio) -> Iterator[None]:
    """Keep the machine busy, so that jobs wait."""
    slot = take_slot(device_slots(), CPU)
    assert slot is not None
    with slot:
        yield


@pytest.fixture
def job(studio: Studio, make_config: Callable[..., RunConfig]) -> JobRecord:
    """Return a job that waits and has no worker."""
    return studio.store.create_job("job", [make_config()])


def wait(until: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(job: JobRecord) -> bool:
    process = process_of(job)
    return process is None or find(process) is None


def count(studio: Studio, make_config: Callable[..., RunConfig]) -> JobRecord:
    """Start a job that stores one metric after the other, and return once it has stored some."""
    job = studio.start([make_config()], name="count")
    wait((studio.runs_folder / f"{job.id}.acknowledged").exists)
    return studio.store.job(job.id)


def test_a_job_is_done_by_a_process_of_its_own_that_writes_to_a_log(
    studio: Studio, make_config: Callable[..., RunConfig]
) -> None:
    job = studio.start([make_config(), make_config(name="second")], name="short")
    assert (job.launcher, job.log_path) == ("local", str(studio.log_path(job.id)))
    assert job.pid not in (None, os.getpid())
    wait(lambda: studio.store.job(job.id).state == "finished")
    assert [run.state for run in studio.store.runs(job_id=job.id)] == ["finished", "finished"]
    assert "at work on short" in studio.log_tail(job.id).splitlines()
    wait(lambda: gone(job))


def test_waiting_for_a_job_returns_it_once_it_has_ended(studio: Studio, make_config: Callable[..., RunConfig]) -> None:
    job = studio.start([make_config(), make_config(name="second")], name="short")
    ended = studio.wait(job.id)
    assert (ended.id, ended.state) == (job.id, "finished")
    assert [run.state for run in studio.store.runs(job_id=job.id)] == ["finished", "finished"]


def test_what_a_first_look_finds_is_refused_at_once_before_anything_waits(
    studio: Studio, make_config: Callable[..., RunConfig]
) -> None:
    layers = make_config(
        student={"kind": "pruned", "encoder_layers": [0, 1, 9]}, evaluation={"extra_tests": ["/no.jsonl"]}
    )
    with pytest.raises(ConfigError, match="nothing was started") as caught:
        studio.start([layers], name="short")
    assert [problem.where for problem in caught.value.problems] == ["student.encoder_layers", "evaluation.extra_tests"]
    assert studio.store.jobs() == []


@pytest.mark.usefixtures("queue")
def test_a_run_keeps_what_was_measured_of_its_settings_before(
    studio: Studio, make_config: Callable[..., RunConfig]
) -> None:
    measured, other = make_config(), make_config(name="second")
    fields: dict[str, Any] = dict.fromkeys((field.name for field in dataclasses.fields(Estimate)), 1)
    fields |= {"device": "CPU", "step_seconds": 0.5}
    studio.store.add_check(measured.model_dump(mode="json"), {"problems": [], "estimate": fields}, measure=True)
    first, second = studio.store.runs(job_id=studio.start([measured, other], name="two").id)
    assert first.estimate == Estimate(**fields)
    assert second.estimate is None
    studio.store.run_progress(first.id, step=4, seconds=3.0)
    studio.store.set_peak_memory(first.id, 10**9)
    again = studio.store.run(first.id)
    assert (again.step_seconds, again.peak_memory) == (0.75, 10**9)


def test_a_working_job_stops_at_its_next_step(studio: Studio, make_config: Callable[..., RunConfig]) -> None:
    job = count(studio, make_config)
    assert studio.stop(job.id).state in ("stopping", "stopped")
    wait(lambda: not studio.store.job(job.id).active)
    assert studio.store.job(job.id).message == "Stopped on request. What was stored until then is kept."
    assert {run.state for run in studio.store.runs(job_id=job.id)} == {"stopped"}
    wait(lambda: gone(job))


def test_a_job_that_is_stopped_at_once_leaves_no_process(studio: Studio, make_config: Callable[..., RunConfig]) -> None:
    job = studio.start([make_config()], name="breed")
    child = studio.runs_folder / "child.pid"
    wait(lambda: child.exists() and child.read_text())
    stopped = studio.stop(job.id, now=True)
    assert stopped.state == "stopped"
    assert "what was stored is kept" in stopped.message
    assert gone(job)
    wait(lambda: not psutil.pid_exists(int(child.read_text())))


@pytest.mark.usefixtures("queue")
def test_a_job_that_waits_is_stopped_before_it_begins(studio: Studio, make_config: Callable[..., RunConfig]) -> None:
    job = studio.start([make_config()], name="short")
    stopped = studio.stop(job.id)
    assert (stopped.state, stopped.message) == ("stopped", "Stopped before it began.")
    wait(lambda: gone(job))
    assert studio.store.job(job.id) == stopped


def test_a_job_without_a_process_can_be_stopped(studio: Studio, job: JobRecord) -> None:
    assert studio.stop(job.id, now=True).state == "stopped"


def test_a_job_that_has_ended_cannot_be_stopped(studio: Studio, job: JobRecord) -> None:
    studio.store.job_state(job.id, "finished")
    ended = studio.store.job(job.id)
    assert studio.stop(job.id) == ended
    assert studio.stop(job.id, now=True) == ended


def test_a_job_lives_on_when_the_process_that_started_it_ends(studio: Studio) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from core.config import parse_run
        from core.launchers.local import LocalLauncher
        from core.runs import Studio
        studio = Studio(sys.argv[1], Path(sys.argv[2]), launcher=LocalLauncher(worker="small_worker"))
        config = parse_run({"method": {"losses": [{"kind": "cross_entropy"}]}})
        print(studio.start([config], name="short").id, flush=True)
        os._exit(1)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), studio.store.url, str(studio.runs_folder)]
    job_id = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    wait(lambda: not studio.store.job(job_id).active)
    assert studio.store.job(job_id).state == "finished"


def test_a_worker_that_cannot_be_started_is_a_failed_job(studio: Studio, make_config: Callable[..., RunConfig]) -> None:
    (studio.runs_folder / "jobs").touch()
    job = studio.start([make_config()], name="short")
    assert job.state == "failed"
    assert "The worker could not be started" in job.message
    assert [run.message for run in studio.store.runs(job_id=job.id)] == [job.message]


def test_a_worker_that_dies_before_it_says_a_word_is_noticed(
    store: Store, tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    studio = Studio(store.url, tmp_path / "runs", launcher=LocalLauncher(worker="no_such_module"))
    job = studio.start([make_config()], name="short")
    wait(lambda: studio.refresh() or not studio.store.job(job.id).active)
    assert studio.store.job(job.id).state == "interrupted"
    assert "No module named no_such_module" in studio.log_tail(job.id)
    studio.close()


def test_runs_of_one_job_agree_in_what_they_share(studio: Studio, make_config: Callable[..., RunConfig]) -> None:
    other = make_config(name="other", freeze_below=0, source={"kind": "generated", "train": 3}, seed=5)
    with pytest.raises(ConfigError) as refused:
        studio.start([make_config(), other], name="job")
    assert [problem.where for problem in refused.value.problems] == ["other: freeze_below", "other: source"]
    assert "differs from 'run'" in str(refused.value)
    with pytest.raises(ConfigError, match="nothing to run"):
        studio.start([], name="job")
    assert studio.store.jobs() == []


@pytest.mark.usefixtures("queue")
def test_the_quick_start_is_the_preset_of_that_name(studio: Studio) -> None:
    job = studio.start_quick_start()
    preset, configs = read_preset("quickstart")
    runs = studio.store.runs(job_id=job.id)
    assert job.name == preset.name
    assert [run.name for run in runs] == [config.name for config in configs]


@pytest.mark.usefixtures("queue")
def test_recorded_speech_is_an_extra_test_of_every_row_prompts_first(studio: Studio) -> None:
    data = studio.runs_folder / "data"
    for name in ("asterisk-en/asterisk-en.jsonl", "asterisk-en/asterisk.jsonl", "real/real.jsonl"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        write_flac(data / name.split("/")[0] / "a.flac", np.sin(np.arange(16_000) / 20).astype(np.float32) / 4)
        (data / name).write_text('{"audio_filepath": "a.flac", "text": "fine"}\n')
    runs = studio.store.runs(job_id=studio.start_quick_start().id)
    found = [str(data / "asterisk-en" / "asterisk.jsonl"), str(data / "real" / "real.jsonl")]
    assert [run.config["evaluation"]["extra_tests"] for run in runs] == [found] * len(runs)


def test_the_folder_of_the_runs_is_made_for_its_owner_alone(studio: Studio, store: Store, tmp_path: Path) -> None:
    assert studio.runs_folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Give another one with --runs"):
        Studio(store.url, tmp_path / "file")


def test_the_end_of_a_log_shows_what_a_terminal_would(studio: Studio, job: JobRecord) -> None:
    assert studio.log_tail(job.id) == ""
    log = studio.log_path(job.id)
    log.parent.mkdir(parents=True)
    log.write_bytes(b"one\r\ntwo\n 10 %\r 20 %\r100 %\nthr\xffee\n\n")
    assert studio.log_tail(job.id, 2) == "100 %\nthr\N{REPLACEMENT CHARACTER}ee"
    assert studio.log_tail(job.id).splitlines()[:2] == ["one", "two"]


def test_only_the_end_of_a_long_log_is_read(studio: Studio, job: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "LOG_BYTES", 8)
    log = studio.log_path(job.id)
    log.parent.mkdir(parents=True)
    log.write_text("a long time ago\nlast\n")
    assert studio.log_tail(job.id) == "go\nlast"


def test_a_log_that_cannot_be_read_is_named(studio: Studio, job: JobRecord) -> None:
    studio.log_path(job.id).mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be read"):
        studio.log_tail(job.id)


def asked(studio: Studio, job: JobRecord) -> MapRecord:
    return studio.request_map(studio.store.runs(job_id=job.id)[0].id, "encoder", 3, 4, 10, "points")


def test_a_request_starts_the_worker_that_answers_it(studio: Studio, job: JobRecord) -> None:
    record = asked(studio, job)
    shown: list[tuple[int, int]] = []
    maps = studio.wait_for_maps(
        job.id, timeout_seconds=PATIENCE_SECONDS, progress=lambda done, total: shown.append((done, total))
    )
    assert [(item.id, item.state) for item in maps] == [(record.id, "finished")]
    assert (shown[0], shown[-1]) == ((0, 1), (1, 1))
    assert asked(studio, job) == maps[0]


def test_a_check_of_settings_is_answered(studio: Studio) -> None:
    check = studio.request_check({"name": "some settings"})
    wait(lambda: studio.store.check(check.id).state == "finished")
    assert studio.store.check(check.id).result == {"seen": {"name": "some settings"}}


def test_a_request_that_lost_its_worker_gets_another(studio: Studio, job: JobRecord) -> None:
    studio.refresh()
    record = studio.store.request_map(studio.store.runs(job_id=job.id)[0].id, "encoder", 3, 4, 10, "points")
    assert studio.store.claim_map() is not None
    studio.refresh()
    wait(lambda: studio.store.map(record.id).state == "finished")


def test_waiting_for_maps_ends_when_the_time_is_over(
    studio: Studio, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert studio.wait_for_maps(job.id, timeout_seconds=0) == []
    studio.store.request_map(studio.store.runs(job_id=job.id)[0].id, "encoder", 3, 4, 10, "points")
    assert [record.state for record in studio.wait_for_maps(job.id, timeout_seconds=-1)] == ["queued"]


def finished_map(studio: Studio, job: JobRecord) -> MapRecord:
    record = studio.store.request_map(studio.store.runs(job_id=job.id)[0].id, "encoder", 3, 4, 10, "points")
    studio.store.finish_map(
        record.id, path="map.safetensors", trustworthiness=0.9, points=2, points_total=2, how="so", seconds=0.1
    )
    return studio.store.map(record.id)


def test_the_points_of_a_map_can_be_read(studio: Studio, job: JobRecord) -> None:
    arrays = {
        "student_xy": np.array([[0, 1], [2, 3]], dtype=np.float32),
        "teacher_xy": np.array([[4, 5], [6, 7]], dtype=np.float32),
        "utterance": np.array([0, 1], dtype=np.int32),
        "moment": np.array([3, -1], dtype=np.int32),
        "angle": np.array([0.5, 1.5], dtype=np.float32),
    }
    save_file(arrays, studio.runs_folder / "map.safetensors")
    points = studio.map_points(finished_map(studio, job))
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(points, name.removesuffix("_xy")), array)


@pytest.mark.parametrize("content", [None, b"", b"not a map", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_map_whose_file_is_gone_or_damaged_is_named(studio: Studio, job: JobRecord, content: bytes | None) -> None:
    if content is not None:
        (studio.runs_folder / "map.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match=r"map's file .*map.safetensors cannot be read"):
        studio.map_points(finished_map(studio, job))


def test_the_utterances_of_the_probe_can_be_read(studio: Studio, job: JobRecord) -> None:
    path = studio.runs_folder / "jobs" / job.id / "probe.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        '[{"id": "u1", "text": "so it is", "audio_path": "data/u1.flac", "speaker": null, "duration": 1.5,'
        ' "split": "development"}]'
    )
    assert studio.probe(job.id) == [ProbeUtterance("u1", "so it is", "data/u1.flac", None, 1.5, "development")]


@pytest.mark.parametrize("content", [None, "", "[{}]", '[{"id": 1, "unknown": 2}]', "[7]"])
def test_a_list_of_utterances_that_is_gone_or_damaged_is_named(
    studio: Studio, job: JobRecord, content: str | None
) -> None:
    path = studio.runs_folder / "jobs" / job.id / "probe.json"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(StoreError, match=r"probe.json cannot be read"):
        studio.probe(job.id)


def test_the_front_door_gives_the_ablation_table(studio: Studio, job: JobRecord) -> None:
    table = studio.ablation(job.id)
    assert (table.job, table.test_set, len(table.rows)) == (job, "test", 1)
    assert studio.ablation(job.id, "real").test_set == "real"
