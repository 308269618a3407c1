"""The studio's process: started, waited for, and ended with the command that started it."""

import html
import http.client
import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from core.errors import JobError

ADDRESS = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 10.0


class StudioServer:
    """A running studio.

    Attributes:
        url: Where it answers; known once it does.
        address: The same with its token, which a browser has to have brought once.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], line: socket.socket, *, port: int, token: str, log: Path
    ) -> None:
        """Take over a process that was started.

        Args:
            process: The studio's.
            line: To its standard input. The process ends when this end of it is closed, however that happens.
            port: Where it answers.
            token: What it asks for.
            log: Where its output goes.
        """
        self._process = process
        self._line = line
        self._port = port
        self._token = token
        self._log = log
        self._base_path = ""

    @property
    def url(self) -> str:  # noqa: D102
        return f"http://{ADDRESS}:{self._port}{self._base_path}"

    @property
    def address(self) -> str:  # noqa: D102
        return f"{self.url}/?token={self._token}"

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
        self._line.close()

    def wait_until_it_answers(self) -> None:
        """Wait until the studio says where its pages are, and for its health page.

        Raises:
            JobError: If the studio ends, or does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        said = b""
        self._line.settimeout(0.2)
        while time.monotonic() < deadline:
            self.require_alive()
            if not said.endswith(b"\n"):
                with suppress(OSError):
                    said += self._line.recv(4096)
                continue
            path = json.loads(said)["base_path"].strip("/")
            self._base_path = quote(f"/{path}") if path else ""
            if self._answers():
                return
            time.sleep(0.2)
        raise JobError(
            f"The studio does not answer after {START_SECONDS:.0f} s. The end of {self._log}:\n{_tail(self._log)}"
        )

    def _answers(self) -> bool:
        # Not by urllib, which would go through the proxy that the environment names.
        connection = http.client.HTTPConnection(ADDRESS, self._port, timeout=2)
        try:
            connection.request("GET", f"{self._base_path}/_stcore/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@contextmanager
def studio_server(*, database_url: str, runs_folder: Path, port: int) -> Iterator[StudioServer]:
    """Serve the studio while the block runs, with a new token.

    Args:
        database_url: Passed on as MANIFOLD_DB.
        runs_folder: Passed on as MANIFOLD_RUNS; the studio's own output goes to studio.log in it.
        port: On the loopback address; nothing else can reach the studio.

    Raises:
        JobError: If the port is in use or the studio cannot be started.
    """
    _require_free(port)
    if importlib.util.find_spec("app.server") is None:
        raise JobError("The studio's pages are not installed. Install the project whole: make setup")
    environment = {**os.environ, "MANIFOLD_DB": database_url, "MANIFOLD_RUNS": str(runs_folder)}
    log = runs_folder / "studio.log"
    token = secrets.token_urlsafe(32)
    ours, its = socket.socketpair()
    try:
        with its, open(log, "wb", opener=_private) as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.server"],
                stdin=its.fileno(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
    except OSError as error:
        ours.close()
        raise JobError(f"The studio could not be started: {error}.") from error
    # By a line of its own: what stands in arguments or in the environment can be seen by others.
    ours.sendall(json.dumps({"token": token, "port": port}).encode() + b"\n")
    server = StudioServer(process, ours, port=port, token=token, log=log)
    try:
        yield server
    finally:
        server.end()


def open_browser(address: str, *, page: Path) -> None:
    """Open a browser where there is a screen; in a terminal alone, one would take the terminal over.

    Args:
        address: What to open.
        page: A file that leads there, and that is opened instead: every user of the machine can see what a browser was
            started with, but only its owner can read the file.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    with open(page, "w", encoding="utf-8", opener=_private) as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
    webbrowser.open(page.absolute().as_uri())


def _private(path: str, flags: int) -> int:
    """Open a file that only its owner can read, whoever made it."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


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
