"""The documentation's commands, typed as a newcomer would: in a new shell, in a folder of one's own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from core.config import GeneratedSpeech
from core.sources import prepare
from core.sources.manifest import write_manifest
from core.store import Store
from tests.documents import PAGES, ROOT, blocks

PORT = "18179"

QUICK = {
    "manifold methods": "manifold methods",
    "manifold runs": "manifold runs",
    "manifold stop JOB": "manifold stop {job}",
    "manifold ablation": "manifold ablation",
    "manifold report JOB --to FILE": "manifold report {job} --to report.html",
    "manifold bundle export JOB --to FILE": "manifold bundle export {job} --to carried.zip",
    "manifold cache list": "manifold cache list",
    "manifold cache prune": "manifold cache prune",
    "manifold data list": "manifold data list",
    "manifold doctor": "manifold doctor",
}
"""What a newcomer types for each command of the table: quick ones, after the example was taken in."""

LONG = {
    "manifold serve": "",
    "manifold bundle import FILE": "",
    "manifold quickstart": "",
    "manifold data get NAME": "manifold data get asterisk-en || manifold data list",
    "manifold run CONFIG": "manifold run quickstart --detach",
    "manifold check CONFIG": "manifold check quickstart",
    "manifold plan --hours H": "manifold plan --measure && manifold plan --hours 1",
    "manifold layers MODEL": "manifold layers openai/whisper-tiny.en --clips 2",
    "manifold export RUN --to DIR": "manifold export {run} --to student",
}
"""Those that take longer, or are typed in a test of their own."""


def table() -> list[str]:
    """Return the commands of the documentation's table."""
    return re.findall(r"^\| `(manifold [^`]+)` \|", PAGES["docs/launching.md"], re.MULTILINE)


def lines_of(block: str) -> list[str]:
    """Return the commands of a block, without what is said of them."""
    return [line.split("#")[0].strip() for line in block.splitlines() if line.strip()]


def activation() -> str:
    """Return the line by which a new shell comes to know the command."""
    (line,) = [line for block in blocks("sh", "README.md") for line in lines_of(block) if "activate" in line]
    return line


def environment(home: Path) -> dict[str, str]:
    """Return what a new shell knows: where programs of the system are, and nothing of the project's."""
    places = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "SHELL": "/bin/sh"}
    # Where the tests run on other files than those that are installed.
    return {**places, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def typed(folder: Path, *lines: str, seconds: float = 250) -> str:
    """Type lines into a new shell; return what it printed, and fail where one of them fails."""
    script = "\n".join(["set -e", *lines])
    command = ["/bin/sh", "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that has the environment where `make setup` makes it, and the example that comes along."""
    made = tmp_path_factory.mktemp("newcomer")
    (made / ".venv").symlink_to(sys.prefix)
    (made / "assets").symlink_to(ROOT / "assets")
    typed(made, activation(), "manifold bundle import assets/example.zip")
    return made


@pytest.fixture(scope="module")
def names(folder: Path) -> Mapping[str, str]:
    store = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    (job,) = store.jobs()
    run = store.runs(job_id=job.id)[-1]
    store.close()
    return {"job": job.id, "run": run.id}


def test_every_command_of_the_table_is_typed_here() -> None:
    assert set(table()) == {*QUICK, *LONG}


def test_a_new_shell_does_not_know_the_command_before_it_is_told(folder: Path) -> None:
    command = ["/bin/sh", "-c", "manifold --help"]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, check=False)
    assert done.returncode == 127


@pytest.mark.parametrize("documented", QUICK)
def test_quick_commands_run_as_they_are_documented(folder: Path, names: Mapping[str, str], documented: str) -> None:
    line = QUICK[documented].format(**names)
    assert typed(folder, activation(), line).strip()
    for file in re.findall(r"--to (\S+)", line):
        assert (folder / file).stat().st_size > 10_000


def test_the_forms_of_the_ablation_table_run_as_they_are_documented(folder: Path, names: Mapping[str, str]) -> None:
    (row,) = [line for line in PAGES["docs/launching.md"].splitlines() if line.startswith("| `manifold ablation` |")]
    forms = re.findall(r"`(--[a-z]+)(?: RUN)?`", row)
    assert "--csv" in forms
    for form in forms:
        option = f"{form} '{names['run']}'" if form == "--against" else form
        assert typed(folder, activation(), f"manifold ablation show {names['job']} {option}").strip()


def test_the_blocks_of_commands_are_all_known() -> None:
    known = r"make (run|test|setup|check)$|\. \.venv/bin/activate$|manifold (doctor|serve --no-quickstart|plan .*)$"
    lines = [line for block in blocks("sh") for line in lines_of(block)]
    assert [line for line in lines if not re.match(known, line)] == own_model()


def own_model() -> list[str]:
    """Return the commands for a model and speech of one's own."""
    (found,) = [lines_of(block) for block in blocks("sh", "README.md") if "run.yaml" in block]
    return found


def test_make_shell_opens_one_that_knows_the_command(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (0, 0))
    # Made already: nothing is installed by this test.
    command = ["make", "--no-print-directory", "--old-file=.venv/.stamp", "shell"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(tmp_path),
        input="command -v manifold\nmanifold --help\nexit 0\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/.venv/bin/manifold" in done.stdout or f"{sys.prefix}/bin/manifold" in done.stdout
    assert "ablation" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("documented", [name for name, line in LONG.items() if line])
def test_long_commands_run_as_they_are_documented(folder: Path, names: Mapping[str, str], documented: str) -> None:
    line = LONG[documented].format(**names)
    printed = typed(folder, activation(), line, seconds=800)
    if "--detach" in line:
        (stop,) = re.findall(r"manifold stop \w+", printed)
        typed(folder, activation(), f"{stop} --now")


@pytest.mark.long
@pytest.mark.parametrize("arguments", ["--no-quickstart", ""])
def test_the_studio_opens_and_closes_as_it_is_documented(tmp_path: Path, folder: Path, arguments: str) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    if not arguments:
        # With something in it, the first start has no quick start to begin.
        shutil.copy(folder / "experiments.db", tmp_path / "experiments.db")
    script = f"{activation()}\nexec manifold serve {arguments} --no-browser --port {PORT}"
    with open(tmp_path / "said.txt", "wb") as said:
        process = subprocess.Popen(
            ["/bin/sh", "-c", script], cwd=tmp_path, env=environment(tmp_path), stdout=said, stderr=said
        )
    try:
        deadline = time.monotonic() + 90
        while "127.0.0.1" not in (printed := (tmp_path / "said.txt").read_text(encoding="utf-8")):
            assert process.poll() is None, printed
            assert time.monotonic() < deadline, printed
            time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_of_ones_own_is_checked_run_and_exported_as_it_is_documented(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    splits = prepare(GeneratedSpeech(train=4, development=2, test=2), tmp_path / "speech", lambda done, total: None)
    for name, utterances in (("train", splits.train), ("dev", splits.development), ("test", splits.test)):
        write_manifest(tmp_path / f"{name}.jsonl", utterances)
    (written,) = blocks("yaml", "README.md")
    # The same run of a smaller model, which is on this machine.
    small = re.sub(r"whisper-small.en", "whisper-tiny.en", written)
    small = re.sub(r"encoder_layers: \[.*?\]", "encoder_layers: [0, 1, 3]", small)
    small = re.sub(r"freeze_below: 8", "freeze_below: 2", small)
    assert small.count("tiny") == small.count("[0, 1, 3]") == small.count("freeze_below: 2") == 1
    (tmp_path / "run.yaml").write_text(f"{small}training: {{steps: 4, batch_size: 2, evaluations: 1}}\n")
    *before, export = own_model()
    printed = typed(tmp_path, activation(), *before, seconds=600)
    assert "my cut" in printed
    store = Store.open(f"sqlite:///{tmp_path / 'experiments.db'}")
    (run,) = store.runs()
    store.close()
    typed(tmp_path, activation(), export.replace("RUN", run.id), seconds=200)
    assert (tmp_path / "student" / "model.safetensors").is_file()
