import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import core.cli.serving as serving
from core.cli import main
from core.cli.serving import StudioServer, open_browser, studio_server
from core.config import RunConfig
from core.errors import JobError
from core.runs import JobRecord, Studio


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


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


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
    seen: list[bool] = []

    def hear(said: str, times: int = 1) -> None:
        deadline = time.monotonic() + 90
        while errors.getvalue().count(said) < times and time.monotonic() < deadline:
            time.sleep(0.05)

    def use_and_close() -> None:
        hear("Waiting for its turn")
        seen.append(answers(f"{url}/_stcore/health"))
        (quick_start,) = studio.store.jobs()
        complete(quick_start, state="failed", message="One run did not learn.")
        studio.start(configs, name="another")
        hear(url, times=2)
        seen.append(answers(url))
        os.kill(os.getpid(), signal.SIGTERM)

    user = threading.Thread(target=use_and_close)
    user.start()
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--port", str(port), "--no-browser", *places])
    user.join()
    another = studio.store.jobs()[0]
    studio.stop(another.id)
    assert ended.value.code == 0
    assert seen == [True, True]
    assert not answers(url)
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
    with open(log, "wb") as output:
        process = subprocess.Popen([sys.executable, "-c", command], stdout=output, stderr=output)
    return StudioServer(process, "http://127.0.0.1:9", log)


def test_a_studio_that_ends_by_itself_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    ended = server("print('no module named streamlit'); raise SystemExit(3)", tmp_path / "log.txt")
    with pytest.raises(JobError, match=r"exit status 3.*\nno module named streamlit"):
        ended.wait_until_it_answers()


def test_a_studio_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "START_SECONDS", 0.5)
    silent = server("import time; print('thinking', flush=True); time.sleep(3)", tmp_path / "log.txt")
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


def test_a_browser_is_not_opened_without_a_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    open_browser("http://127.0.0.1:1/a")
    assert not (tmp_path / "opened").exists()
    monkeypatch.setenv("DISPLAY", ":0")
    open_browser("http://127.0.0.1:1/b")
    assert (tmp_path / "opened").read_text() == "http://127.0.0.1:1/b\n"
