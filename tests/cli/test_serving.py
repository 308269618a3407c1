import http.client
import io
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import core.cli.serving as serving
from core.cli import main
from core.cli.serving import StudioServer, open_browser, studio_server
from core.config import RunConfig
from core.errors import JobError
from core.runs import JobRecord, Studio

ROOT = Path(__file__).parents[2]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back the handlers that `serve` sets."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def status(port: int, path: str, headers: dict[str, str] | None = None, *, method: str = "GET") -> int:
    """Return what the studio at a port answers; 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.mark.usefixtures("signals", "busy")
def test_the_studio_shows_the_quick_start_and_answers_until_it_is_closed(
    studio: Studio,
    places: list[str],
    port: int,
    configs: tuple[RunConfig, ...],
    complete: Callable[..., JobRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"http://127.0.0.1:{port}"
    output, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    seen: list[int] = []

    def hear(said: str, times: int = 1) -> None:
        deadline = time.monotonic() + 90
        while errors.getvalue().count(said) < times and time.monotonic() < deadline:
            time.sleep(0.05)

    def use_and_close() -> None:
        hear("Waiting for its turn")
        seen.append(status(port, "/_stcore/health"))
        (quick_start,) = studio.store.jobs()
        complete(quick_start, state="failed", message="One run did not learn.")
        studio.start(configs, name="another")
        hear(url, times=2)
        seen.append(status(port, "/"))
        os.kill(os.getpid(), signal.SIGTERM)

    user = threading.Thread(target=use_and_close)
    user.start()
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--port", str(port), "--no-browser", *places])
    user.join()
    another = studio.store.jobs()[0]
    studio.stop(another.id)
    assert ended.value.code == 0
    assert seen == [200, 401]
    assert not status(port, "/")
    assert another.active
    assert "+ manifold" in output.getvalue()
    for said in ("the quick start begins", "One run did not learn.", "The studio is closed. One job goes on"):
        assert said in errors.getvalue()


def test_a_port_in_use_is_one_clear_sentence(places: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--port", str(taken), "--no-browser", "--no-quickstart", *places])
    assert ended.value.code == 1
    expected = f"Port {taken} is in use, perhaps by a studio that is open already. Give another one with --port.\n"
    assert capsys.readouterr().err == expected


def server(command: str, log: Path) -> StudioServer:
    ours, its = socket.socketpair()
    with its, open(log, "wb") as output:
        process = subprocess.Popen([sys.executable, "-c", command], stdin=its.fileno(), stdout=output, stderr=output)
    return StudioServer(process, ours, port=9, token="a token", log=log)


def test_a_studio_that_ends_by_itself_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    ended = server("print('no module named streamlit'); raise SystemExit(3)", tmp_path / "log.txt")
    with pytest.raises(JobError, match=r"exit status 3.*\nno module named streamlit"):
        ended.wait_until_it_answers()
    ended.end()


@pytest.mark.parametrize("said", ["", """import os; os.write(0, b'{"base_path": "a"}\\n')"""])
def test_a_studio_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(serving, "START_SECONDS", 1.0)
    silent = server(f"{said}\nimport time; print('thinking', flush=True); time.sleep(5)", tmp_path / "log.txt")
    with pytest.raises(JobError, match="does not answer"):
        silent.wait_until_it_answers()
    silent.end()


def test_a_program_that_cannot_be_started_is_a_job_error(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with (
        pytest.raises(JobError, match="could not be started"),
        studio_server(database_url="sqlite:///x.db", runs_folder=tmp_path, port=port),
    ):
        pass


def test_a_browser_is_opened_only_where_there_is_a_screen_and_its_arguments_show_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, page = tmp_path / "browser", tmp_path / "studio.html"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    open_browser("http://127.0.0.1:1/?token=a", page=page)
    assert not (tmp_path / "opened").exists()
    assert not page.exists()
    page.write_text("of a start before, by whoever")
    page.chmod(0o644)
    monkeypatch.setenv("DISPLAY", ":0")
    open_browser("http://127.0.0.1:1/?token=b", page=page)
    assert (tmp_path / "opened").read_text() == f"{page.as_uri()}\n"
    assert "url=http://127.0.0.1:1/?token=b" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


SERVE = "from core.cli import main; import sys; main(['serve', *sys.argv[1:]])"


@contextmanager
def command(folder: Path, port: int, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run ``manifold serve`` in a folder, and yield its process and the address that it prints."""
    folder.mkdir(exist_ok=True)
    log = folder / "said.txt"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "--port", str(port), "--no-browser", "--no-quickstart"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"The studio is open: (\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process, found[1]
    finally:
        process.terminate()
        process.wait(30)


def token_of(address: str) -> str:
    return address.partition("?token=")[2]


def kept(address: str, port: int) -> dict[str, str]:
    return {"cookie": f"manifold_token_{port}={token_of(address)}"}


PROXIES = dict.fromkeys(
    ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9"
)
HOSTILE = """
[server]
address = "0.0.0.0"
port = 1
headless = false
baseUrlPath = "/of/the folder/"
enableXsrfProtection = false
enableCORS = false
allowedHosts = ["evil.example"]
corsAllowedOrigins = ["http://evil.example"]
enableStaticServing = true
enableAgentApi = true
scriptHealthCheckEnabled = true
sslCertFile = "/no/such/file"
sslKeyFile = "/no/such/file"
[browser]
serverAddress = "evil.example"
serverPort = 2
[global]
developmentMode = true
"""


@pytest.mark.parametrize(
    ("environment", "settings", "place", "path"),
    [
        ({**PROXIES, "STREAMLIT_SERVER_ADDRESS": "0.0.0.0", "STREAMLIT_SERVER_PORT": "1"}, "", "", ""),
        ({}, HOSTILE, ".streamlit", "/of/the%20folder"),
        ({}, '[server]\nbaseUrlPath = "of-home"', "home/.streamlit", "/of-home"),
        ({"STREAMLIT_SERVER_BASE_URL_PATH": "/of/environment/"}, HOSTILE, ".streamlit", "/of/environment"),
    ],
    ids=["environment", "settings of the folder", "settings of home", "both"],
)
def test_the_studio_opens_whatever_the_environment_and_settings_of_streamlit_say(
    tmp_path: Path, port: int, environment: dict[str, str], settings: str, place: str, path: str
) -> None:
    if settings:
        (tmp_path / "w" / place).mkdir(parents=True)
        (tmp_path / "w" / place / "config.toml").write_text(settings)
    with command(tmp_path / "w", port, **environment) as (_, address):
        assert address.startswith(f"http://127.0.0.1:{port}{path}/?token=")
        assert status(port, f"{path}/") == 401
        assert status(port, f"{path}/", kept(address, port)) == 200
        assert status(port, f"{path}/_stcore/host-config", kept(address, port)) == 200
        assert status(port, f"{path}/static/", {**kept(address, port), "host": "evil.example"}) == 403
        assert status(port, f"{path}/", {**kept(address, port), "origin": "http://evil.example"}) == 403
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect(("127.0.0.2", port))


def test_every_start_has_a_new_token_which_only_the_terminal_shows(tmp_path: Path, port: int) -> None:
    with command(tmp_path / "w", port) as (process, address):
        token = token_of(address)
        assert len(token) >= 43
        (server,) = psutil.Process(process.pid).children()
        for each in (server, psutil.Process(process.pid)):
            assert token not in " ".join(each.cmdline())
            assert token not in str(each.environ())
        assert status(port, f"/?token={token}") == 303
        written = [path for path in (tmp_path / "w").rglob("*") if path.is_file() and path.name != "said.txt"]
        assert len(written) >= 2
        assert [path for path in written if token.encode() in path.read_bytes()] == []
    with command(tmp_path / "w", port) as (_, again):
        assert token_of(again) != token
        assert status(port, "/", kept(again, port)) == 200
        assert status(port, "/", kept(address, port)) == 401


def test_killed_outright_the_command_takes_its_server_with_it(tmp_path: Path, port: int) -> None:
    with command(tmp_path / "w", port) as (process, _):
        (server,) = psutil.Process(process.pid).children()
        process.kill()
        process.wait(10)
        server.wait(15)
    assert status(port, "/_stcore/health") == 0


def test_what_the_studio_writes_is_its_owners_whatever_the_mask(tmp_path: Path, port: int) -> None:
    before = os.umask(0)
    try:
        with command(tmp_path / "w", port):
            modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "w").iterdir()}
            log = (tmp_path / "w" / "runs" / "studio.log").stat()
    finally:
        os.umask(before)
    files = {"experiments.db", "experiments.db-wal", "experiments.db-shm", "experiments.db.lock"}
    assert {name: modes[name] for name in files} == dict.fromkeys(files, "0o600")
    assert modes["runs"] == "0o700"
    assert stat.S_IMODE(log.st_mode) == 0o600
