import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from core.errors import JobError
from core.launchers.local import LocalLauncher, start_detached
from core.launchers.process import ProcessIdentity, find

TELL = "import json, os, sys; print(json.dumps([dict(os.environ), os.getsid(0), os.getpid(), sys.stdin.read()]))"


def wait_for(process: ProcessIdentity) -> None:
    deadline = time.monotonic() + 20
    while find(process) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_output_of_any_kind_is_appended_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "jobs" / "j1" / "log.txt"
    for word in ("first", "second"):
        script = f"import sys; print('{word}'); print('{word} error', file=sys.stderr)"
        wait_for(start_detached([sys.executable, "-u", "-c", script], log=log))
    assert log.read_text().splitlines() == ["first", "first error", "second", "second error"]


def test_a_worker_gets_only_the_environment_that_is_passed_on(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/home",
        "HF_HOME": "/models",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "2",
    }
    secrets = {"AWS_SECRET_ACCESS_KEY": "canary", "MY_HF_TOKEN": "canary", "DATABASE_PASSWORD": "canary"}
    log = tmp_path / "log.txt"
    wait_for(start_detached([sys.executable, "-c", TELL], log=log, environment=environment | secrets))
    given, session, pid, typed = json.loads(log.read_text())
    assert environment.items() <= given.items()
    assert "canary" not in log.read_text()
    assert session == pid != os.getsid(0)
    assert typed == ""


def test_an_argument_is_never_read_by_a_shell(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    hostile = f"$(touch {tmp_path}/made); `touch {tmp_path}/made` & touch {tmp_path}/made"
    wait_for(start_detached([sys.executable, "-c", "import sys; print(sys.argv[1])", hostile], log=log))
    assert log.read_text().strip() == hostile
    assert not (tmp_path / "made").exists()


def test_a_child_that_ended_leaves_no_zombie(tmp_path: Path) -> None:
    process = start_detached([sys.executable, "-c", ""], log=tmp_path / "log.txt")
    deadline = time.monotonic() + 20
    while psutil.pid_exists(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_program_that_is_not_there_is_a_job_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"could not be started.*No such file"):
        start_detached(["/no/such/program"], log=tmp_path / "log.txt")


def test_a_log_that_cannot_be_written_is_a_job_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="could not be started"):
        start_detached([sys.executable, "-c", ""], log=tmp_path / "file" / "log.txt")


def test_the_launcher_starts_the_module_with_job_database_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tells.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    launcher = LocalLauncher(worker="tells", analysis_worker="tells")
    places = {"database_url": "sqlite:///a b.db", "runs_folder": Path("/runs")}
    wait_for(launcher.submit("j1", **places, log=tmp_path / "job.txt"))
    wait_for(launcher.submit_analysis(**places, log=tmp_path / "analysis.txt"))
    options = ["--database-url", "sqlite:///a b.db", "--runs", "/runs"]
    assert json.loads((tmp_path / "job.txt").read_text()) == ["j1", *options]
    assert json.loads((tmp_path / "analysis.txt").read_text()) == options
