"""A real studio, started by its command, in a real browser."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from core.store import Store
from tests.app import sample
from tests.browser import pages

START_SECONDS = 90
WAIT_MS = 30_000
ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=swiftshader",
    "--enable-unsafe-swiftshader",
)
"""The last two draw WebGL without a graphics card."""


@dataclass(frozen=True)
class OpenStudio:
    """A studio that answers.

    Attributes:
        url: Of its home page, without a slash at the end.
        process: The command that was started; the pages' server is a child of it.
    """

    url: str
    process: subprocess.Popen[bytes]

    @property
    def server(self) -> psutil.Process:
        """The process in which the pages run."""
        (server,) = psutil.Process(self.process.pid).children()
        return server


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """Yield a browser without a window."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=WAIT_MS)
        opened = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page in a window of its own, where no script may fail and nothing but the studio may be asked."""
    with new_page(browser) as opened:
        yield opened


@contextmanager
def new_page(
    browser: Browser, *, width: int = 1280, height: int = 900, scale: float = 1, dark: bool = False
) -> Iterator[Page]:
    """Open a page in a window of its own; see `page`.

    Args:
        browser: In which.
        width: Of the window, in CSS pixels.
        height: The same.
        scale: Pixels of the screen in a CSS pixel.
        dark: Whether the system asks for dark pages.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: None if _is_own(request.url) else errors.append(request.url))
    yield opened
    context.close()
    assert errors == []


def _is_own(url: str) -> bool:
    return urlsplit(url).hostname == "127.0.0.1" or url.startswith(("data:", "blob:", "file:"))


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[OpenStudio]:
    """Yield a studio on an empty database."""
    with open_studio(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def sample_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenStudio]:
    """Yield a studio with a finished quick start, and a failed job after it."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "runs").mkdir()
    store = Store.open(database(folder))
    sample.add_finished_job(store, folder / "runs")
    sample.add_job(store, folder / "runs", "failed", "The disk is full.\nFree some space and run it again.")
    store.close()
    with open_studio(folder) as opened:
        yield opened


@contextmanager
def open_studio(folder: Path, *, port: int | None = None) -> Iterator[OpenStudio]:
    """Serve a studio whose database and runs are in a folder; afterwards nothing that it started is left."""
    runs_folder, port = folder / "runs", port or _free_port()
    command = [sys.executable, "-c", "from core.cli import main; main()", "serve", "--no-browser", "--no-quickstart"]
    command += ["--port", str(port), "--db", database(folder), "--runs", str(runs_folder)]
    with open(folder / "serve.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())
    try:
        address = _printed_address(process, folder / "serve.log")
        pages.ADDRESSES[urlsplit(address).netloc] = address
        yield OpenStudio(address.partition("/?token=")[0], process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        _end_workers(runs_folder)


def database(folder: Path) -> str:
    """Return the address of the database of a studio that `open_studio` serves."""
    return f"sqlite:///{folder / 'experiments.db'}"


def _environment() -> dict[str, str]:
    # Two threads: the suite has the machine's other cores at work.
    return {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _printed_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address that the command prints once the studio answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"The studio is open: (\S+)", log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1]
        time.sleep(0.2)
    pytest.fail(f"The studio does not answer. It said:\n{log.read_text(encoding='utf-8', errors='replace')}")


def _end_workers(runs_folder: Path) -> None:
    """End the workers of one test, which outlive the studio on purpose."""
    for process in psutil.process_iter(["cmdline"]):
        if str(runs_folder) in (process.info["cmdline"] or ()):
            process.kill()
            process.wait(10)
