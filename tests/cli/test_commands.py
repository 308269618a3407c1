import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from core.boot import uptime
from core.config import RunConfig, dump_run
from core.launchers.process import find, identify
from core.runs import JobRecord, Studio
from core.store import Store
from tests.cli.conftest import Command


def answered(url: str, complete: Callable[..., JobRecord], **ending: Any) -> Thread:
    """Let the first job that waits be done by somebody else, as soon as there is one."""

    def work() -> None:
        store = Store.open(url)
        while not (waiting := store.jobs(states=("queued",))):
            time.sleep(0.05)
        complete(waiting[0], **ending)
        store.close()

    thread = Thread(target=work)
    thread.start()
    return thread


def test_the_version_is_printed(manifold: Command) -> None:
    assert manifold("--version") == (0, f"manifold {version('manifold-studio')}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        "quickstart",
        "run",
        "runs",
        "stop",
        "ablation",
        "ablation show",
        "export",
        "doctor",
        "bundle export",
        "bundle import",
        "report",
    ],
)
def test_every_command_explains_itself_and_its_options(manifold: Command, command: str) -> None:
    code, output, _ = manifold(*command.split(), "--help")
    assert code == 0
    assert "--db" in output
    assert "--runs" in output


def test_a_wrong_option_is_a_usage_error(manifold: Command) -> None:
    code, output, errors = manifold("runs", "--colour")
    assert (code, output) == (2, "")
    assert "--colour" in errors


READING = (
    ["runs"],
    ["stop", "j1"],
    ["ablation"],
    ["ablation", "show", "j1"],
    ["export", "r1", "--to", "student"],
    ["bundle", "export", "j1", "--to", "b.zip"],
    ["report"],
    ["doctor"],
)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_no_command_that_reads_makes_a_database(
    manifold: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = manifold(*command, "--db", "sqlite:///experimnets.db", "--runs", "runs")
    assert list(tmp_path.iterdir()) == []
    if command != ["doctor"]:
        assert (code, output) == (1, "")
        assert f"There is no database at {tmp_path / 'experimnets.db'}." in errors
        assert "manifold quickstart" in errors
        assert "Did you mean" not in errors


@pytest.mark.parametrize(
    ("there", "asked", "meant"),
    [
        ("a/experiments.db", "a/experimnets.db", "a/experiments.db"),
        ("experiments.db", "a/experiments.db", "experiments.db"),
        ("a/team.db", "a/b/c/team.db", "a/team.db"),
        ("experiments.db", "a/other.db", "experiments.db"),
        ("a/team.sqlite", "a/xyz.db", "a/team.sqlite"),
        ("a/notes.txt", "a/experiments.db", None),
    ],
)
def test_a_database_that_may_be_meant_is_named(
    manifold: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, asked: str, meant: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / there).parent.mkdir(exist_ok=True)
    if meant:
        Store.open(f"sqlite:///{tmp_path / there}").close()
    else:
        (tmp_path / there).write_text("no database")
    _, _, errors = manifold("runs", "--db", f"sqlite:///{asked}")
    assert ("Did you mean" in errors) == bool(meant)
    assert f"sqlite:///{tmp_path / meant} ?" in errors if meant else True
    assert not (tmp_path / asked).exists()


def test_a_full_disk_is_a_line_beside_the_list(
    manifold: Command, small_disk: Path, fill: Callable[[Path], Path], tmp_path: Path, configs: tuple[RunConfig, ...]
) -> None:
    store = Store.open(f"sqlite:///{small_disk / 'a.db'}")
    store.create_job("kept", configs)
    store.close()
    fill(small_disk)
    code, output, errors = manifold("runs", "--db", store.url, "--runs", str(tmp_path / "runs"))
    assert code == 0
    assert configs[0].name in output
    assert errors.startswith("The disk is full")
    code, output, _ = manifold("doctor", "--db", store.url, "--runs", str(tmp_path / "runs"))
    assert code == 1
    assert "it is full" in " ".join(output.split())


DIRTY = "\x1b[31mred\x1b]0;title\x07 \u202eevil\u200b\x9b2J\r\nname"


def test_no_name_of_an_older_version_is_an_order_to_the_terminal(
    manifold: Command, studio: Studio, places: list[str], configs: tuple[RunConfig, ...], complete: Any
) -> None:
    job = studio.store.create_job(DIRTY, configs)
    complete(job)
    runs = studio.store.runs(job_id=job.id)
    assert (studio.store.job(job.id).name, next(run.name for run in runs)) == ("red evil name", configs[0].name)
    with sqlite3.connect(studio.store.path) as older:
        older.execute("UPDATE jobs SET name = ?, message = ?", (DIRTY, DIRTY))
        older.execute("UPDATE runs SET name = ? || id, method = ?", (DIRTY, DIRTY))
    older.close()
    for command in (["runs"], ["ablation"], ["ablation", "show", job.id], ["stop", job.id]):
        _, output, errors = manifold(*command, *places)
        assert "evil" in output
        assert not [sign for sign in output + errors if sign != "\n" and not sign.isprintable()]


def test_nothing_is_listed_in_a_new_database(manifold: Command, places: list[str]) -> None:
    assert manifold("runs", *places)[1] == "There are no runs yet. Start the quick start: manifold quickstart\n"
    assert json.loads(manifold("runs", "--json", *places)[1]) == {"runs": []}


@pytest.mark.usefixtures("finished")
def test_runs_are_listed_as_text_and_as_json(manifold: Command, places: list[str]) -> None:
    code, output, _ = manifold("runs", *places, "--limit", "3")
    data = json.loads(manifold("runs", "--json", *places, "--limit", "3")[1])["runs"]
    assert code == 0
    assert len(data) == 3
    assert all(run["id"] in output and run["name"] in output for run in data)


def test_the_newest_finished_job_is_compared(
    manifold: Command, places: list[str], studio: Studio, finished: JobRecord, configs: tuple[RunConfig, ...]
) -> None:
    studio.store.create_job("later", configs)
    for arguments in ([], ["show"], ["show", finished.id], ["show", studio.store.runs(job_id=finished.id)[2].id]):
        code, output, _ = manifold("ablation", *arguments, *places, "--json")
        assert (code, json.loads(output)["job"]) == (0, finished.id)
    assert "+ manifold" in manifold("ablation", "show", *places)[1]
    assert manifold("ablation", "show", "--csv", *places)[1].startswith('"name","role","method",')


def test_without_a_finished_job_there_is_no_comparison(manifold: Command, places: list[str]) -> None:
    code, output, errors = manifold("ablation", "show", *places)
    assert (code, output) == (1, "")
    assert errors == "No job has finished yet. See what is running: manifold runs\n"


@pytest.mark.parametrize("command", [["stop", "j0"], ["ablation", "show", "j0"], ["export", "r0", "--to", "x"]])
def test_an_unknown_id_is_one_clear_line(manifold: Command, places: list[str], command: list[str]) -> None:
    code, output, errors = manifold(*command, *places)
    assert (code, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert command[-1] in errors or "r0" in errors


def test_a_database_that_cannot_be_opened_is_one_clear_line(manifold: Command) -> None:
    code, _, errors = manifold("runs", "--db", "nonsense")
    assert code == 1
    assert errors == "'nonsense' is not a database URL. Write it as sqlite:///experiments.db.\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: -1\ncolour: red\n", ["has 3 mistakes", "colour: ", "seed: ", "method: "]),
        ("rows: [{name: a}]\n", ["has 2 mistakes", "base: ", "name: "]),
        ("[1, 2", ["is not valid YAML"]),
    ],
)
def test_all_mistakes_of_a_file_are_told_at_once(
    manifold: Command, places: list[str], tmp_path: Path, text: str, said: list[str]
) -> None:
    (tmp_path / "run.yaml").write_text(text)
    code, output, errors = manifold("run", str(tmp_path / "run.yaml"), *places)
    assert (code, output) == (2, "")
    assert all(part in errors for part in said)


@pytest.mark.usefixtures("busy")
def test_a_run_is_started_listed_and_stopped(
    manifold: Command, places: list[str], tmp_path: Path, configs: tuple[RunConfig, ...], studio: Studio
) -> None:
    (tmp_path / "run.yaml").write_text(dump_run(configs[0]))
    code, output, _ = manifold("run", str(tmp_path / "run.yaml"), "--detach", *places)
    job = studio.store.jobs()[0]
    assert code == 0
    assert f"manifold stop {job.id}" in output
    assert (job.name, job.state) == (configs[0].name, "queued")
    run = studio.store.runs()[0]
    assert json.loads(manifold("runs", "--json", *places)[1])["runs"][0]["state"] == "queued"
    assert manifold("stop", run.id, *places)[1] == f"Job {job.id} is stopped. Stopped before it began.\n"
    assert studio.store.run(run.id).state == "stopped"


@pytest.mark.usefixtures("busy")
def test_an_ablation_is_started_by_file_or_by_name(
    manifold: Command, places: list[str], tmp_path: Path, studio: Studio
) -> None:
    (tmp_path / "two.yaml").write_text(
        "name: two\n"
        "base: {method: {losses: [{kind: cross_entropy}]}}\n"
        "rows: [{name: a}, {name: b, changes: {seed: 1}}]\n"
    )
    for command in (["run", str(tmp_path / "two.yaml")], ["ablation", "run", "quickstart"]):
        data = json.loads(manifold(*command, "--detach", "--json", *places)[1])
        assert [run.id for run in studio.store.runs(job_id=data["job"])] == data["runs"]
        manifold("stop", "--now", data["job"], *places)
    assert [run.name for run in studio.store.runs(job_id=studio.store.jobs()[1].id)] == ["a", "b"]
    assert [job.state for job in studio.store.jobs()] == ["stopped", "stopped"]


def test_a_worker_that_cannot_be_started_fails_the_job_and_the_command(
    manifold: Command, places: list[str], studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    code, _, errors = manifold("run", "quickstart", "--detach", *places)
    assert code == 1
    assert "The worker could not be started" in errors
    assert studio.store.jobs()[0].state == "failed"


@pytest.mark.usefixtures("busy")
def test_the_quick_start_prints_one_json_object_and_shows_progress_beside_it(
    manifold: Command, places: list[str], studio: Studio, complete: Callable[..., JobRecord]
) -> None:
    thread = answered(studio.store.url, complete)
    code, output, errors = manifold("quickstart", "--json", *places)
    thread.join()
    data = json.loads(output)
    assert code == 0
    assert len(data["runs"]) == 4
    assert "Drawing maps (UMAP)" in errors


@pytest.mark.usefixtures("busy")
def test_the_quick_start_prints_its_table(
    manifold: Command, places: list[str], studio: Studio, complete: Callable[..., JobRecord]
) -> None:
    thread = answered(studio.store.url, complete)
    code, output, errors = manifold("quickstart", "--no-maps", *places)
    thread.join()
    assert code == 0
    assert "+ manifold" in output
    assert "Drawing maps" not in errors


@pytest.mark.usefixtures("busy")
def test_a_job_that_fails_shows_what_there_is_and_why(
    manifold: Command, places: list[str], studio: Studio, complete: Callable[..., JobRecord]
) -> None:
    thread = answered(studio.store.url, complete, state="failed", message="The disk is full.")
    code, output, errors = manifold("run", "quickstart", *places)
    thread.join()
    assert code == 1
    assert "+ manifold" in output
    assert f"The job {studio.store.jobs()[0].id} is failed. The disk is full." in errors


def test_a_job_that_hangs_is_named_and_killed_after_its_grace(
    manifold: Command, places: list[str], studio: Studio, configs: tuple[RunConfig, ...]
) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", deaf]) as process:
        worker = identify(process.pid)
        job = studio.store.create_job("hangs", configs[:1])
        (run,) = studio.store.runs(job_id=job.id)
        studio.store.job_started(job.id, worker.pid, worker.boot_id, worker.started)
        studio.store.job_state(job.id, "running")
        studio.store.run_state(run.id, "running")
        studio.store.advanced(job.id, [run.id], uptime() - 300)
        process.send_signal(signal.SIGSTOP)
        said = manifold("runs", *places)[1]
        assert "stalled" in said
        assert "No progress for 5 min" in said
        (row,) = json.loads(manifold("runs", "--json", *places)[1])["runs"]
        assert row["stalled"].startswith("No progress for 5 min")
        began = time.monotonic()
        code, output, errors = manifold("stop", job.id, "--grace", "1", *places)
        assert 1 <= time.monotonic() - began < 20
        assert code == 0
        assert f"Job {job.id} is stopped. Stopped: it did not reach its next step" in output
        assert "it is killed in 1 s" in errors
        assert find(worker) is None


@pytest.mark.usefixtures("busy")
def test_ctrl_c_leaves_the_job_going_and_says_how_to_stop_it(places: list[str], studio: Studio) -> None:
    command = [sys.executable, "-c", "from core.cli import main; main()", "quickstart", *places]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Waiting for its turn" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    job = studio.store.jobs()[0]
    assert (process.returncode, output) == (130, "")
    assert f"The job goes on. Watch it: manifold runs. Stop it: manifold stop {job.id}" in errors
    assert job.pid is not None
    os.kill(job.pid, 0)
    assert studio.stop(job.id).state == "stopped"


def test_what_the_machine_has_is_told_as_text_and_as_json(manifold: Command, places: list[str]) -> None:
    code, output, _ = manifold("doctor", *places)
    data = json.loads(manifold("doctor", "--json", *places)[1])
    assert (code == 0) == data["well"]
    names = [finding["name"] for finding in data["findings"]]
    assert names == [
        "python",
        "torch",
        "disk",
        "disk of the database",
        "sqlite",
        "database",
        "models",
        "speech asterisk-en",
        "speech recorded",
        "chromium",
    ]
    assert all(name in output for name in names)


def test_a_machine_on_which_runs_would_fail_is_told_by_the_exit_status(manifold: Command, tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("no database" * 100)
    code, output, _ = manifold("doctor", "--db", f"sqlite:///{tmp_path}/notes.db", "--runs", str(tmp_path))
    assert code == 1
    assert "not a sound SQLite database" in " ".join(output.split())
