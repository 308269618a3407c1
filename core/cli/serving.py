"""The studio's process: started, waited for, and ended with the command that started it."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import JobError

ADDRESS = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 10.0


class StudioServer:
    """A running studio.

    Attributes:
        url: Where it answers.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        """Take over a process that was started."""
        self._process = process
        self.url = url
        self._log = log

    def require_alive(self) -> None:
        """Raise JobError when the studio has ended by itself."""
        code = self._process.poll()
        if code is not None:
            raise JobError(
                f"The studio ended by itself (exit status {code}). The end of {self._log}:\n{_tail(self._log)}"
            )

    def end(self) -> None:
        """End the studio, by force if it does not listen."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_until_it_answers(self) -> None:
        """Wait for the health page.

        Raises:
            JobError: If the studio ends, or does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.require_alive()
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise JobError(
            f"The studio does not answer after {START_SECONDS:.0f} s. The end of {self._log}:\n{_tail(self._log)}"
        )


@contextmanager
def studio_server(*, database_url: str, runs_folder: Path, port: int) -> Iterator[StudioServer]:
    """Serve the studio while the block runs.

    Args:
        database_url: Passed on as MANIFOLD_DB.
        runs_folder: Passed on as MANIFOLD_RUNS; the studio's own output goes to studio.log in it.
        port: On the loopback address; nothing else can reach the studio.

    Raises:
        JobError: If the port is in use or the studio cannot be started.
    """
    _require_free(port)
    spec = importlib.util.find_spec("app.main")
    if spec is None or spec.origin is None:
        raise JobError("The studio's pages are not installed. Install the project whole: make setup")
    options = {
        "server.address": ADDRESS,
        "server.port": str(port),
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    command = [sys.executable, "-m", "streamlit", "run", spec.origin]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    environment = {**os.environ, "MANIFOLD_DB": database_url, "MANIFOLD_RUNS": str(runs_folder)}
    log = runs_folder / "studio.log"
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
    except OSError as error:
        raise JobError(f"The studio could not be started: {error}.") from error
    server = StudioServer(process, f"http://{ADDRESS}:{port}", log)
    try:
        yield server
    finally:
        server.end()


def open_browser(url: str) -> None:
    """Open a browser where there is a screen; in a terminal alone, one would take the terminal over."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            raise JobError(
                f"Port {port} is in use, perhaps by a studio that is open already. Give another one with --port."
            ) from None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
