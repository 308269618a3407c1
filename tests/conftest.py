"""What every test may use."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.config import RunConfig, parse_run
from core.launchers.slots import SLOTS
from core.store import Store


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, metavar="FOLDER", help="where to put the pictures of the documentation")


@pytest.fixture(scope="session", autouse=True)
def _machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lock the machine's devices in a folder of the tests' own: who works on it meanwhile is not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SLOTS, str(tmp_path_factory.mktemp("slots")))
        yield


@pytest.fixture(autouse=True)
def _own_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for what another one has left at work."""
    monkeypatch.setenv(SLOTS, str(tmp_path_factory.mktemp("slots")))


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database without rows, to be copied: making the tables takes longer than most tests."""
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('database') / 'new.db'}")
    store.close()
    return store.path


@pytest.fixture
def store(tmp_path: Path, new_database: Path) -> Iterator[Store]:
    """Yield a database of the test's own, without rows."""
    path = tmp_path / "experiments.db"
    shutil.copy(new_database, path)
    opened = Store.open(f"sqlite:///{path}")
    yield opened
    opened.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the folder of a disk of 4 MB; where none can be mounted the test is skipped, and says so."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"A full disk is not tried here: only root can mount a small one ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def fill() -> Callable[[Path], Path]:
    """Return what writes to a disk until it takes no more; the file that it returns can be removed."""

    def written(folder: Path) -> Path:
        file = folder / "filling"
        with open(file, "wb", buffering=0) as filling, suppress(OSError):
            while True:
                filling.write(b"x" * 4096)
        assert shutil.disk_usage(folder).free == 0
        return file

    return written


@pytest.fixture
def make_config() -> Callable[..., RunConfig]:
    """Return what makes the settings of a run; fields that are given replace the plainest ones."""

    def make(**fields: Any) -> RunConfig:
        return parse_run({"method": {"name": "ce", "losses": [{"kind": "cross_entropy"}]}, **fields})

    return make


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium; without one a browser test fails, and says how to get it."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("The browser tests need Chromium: apt-get install chromium", pytrace=False)
    return path


@pytest.fixture(scope="session")
def pdflatex() -> str:
    """Return the path of LaTeX. Without it a test is skipped, but for where every change is checked: there it fails."""
    path = shutil.which("pdflatex")
    if path is None:
        sentence = "LaTeX is compiled with pdflatex: apt-get install texlive-latex-base"
        pytest.fail(sentence, pytrace=False) if os.environ.get("CI") else pytest.skip(sentence)
    return path
