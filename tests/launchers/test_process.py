import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from core.launchers.process import find, identify, kill_tree, standing_still, terminate

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_living_process_is_found_by_its_identity() -> None:
    me = identify()
    found = find(me)
    assert found is not None
    assert found.pid == os.getpid()
    assert identify() == me


def test_a_process_of_another_boot_or_start_is_not_found() -> None:
    me = identify()
    assert find(replace(me, boot_id="another boot")) is None
    assert find(replace(me, started=me.started - 60)) is None


def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    me = identify()
    boot = psutil.boot_time()
    for hours in (-5, 2, 24 * 400):
        # Linux gives the time of the boot by the clock of now.
        monkeypatch.setattr(psutil, "boot_time", lambda hours=hours: boot + 3600 * hours)
        assert find(me) is not None
        assert identify() == me


def test_a_suspended_tree_is_killed() -> None:
    with started(SLEEP) as process:
        identity = identify(process.pid)
        process.send_signal(signal.SIGSTOP)
        until_stopped = time.monotonic() + 10
        while not standing_still(identity):
            assert time.monotonic() < until_stopped
            time.sleep(0.01)
        assert "suspended" in standing_still(identity)
        assert kill_tree(identity) == []
        assert find(identity) is None


def test_a_zombie_does_not_live() -> None:
    with started(SLEEP) as process:
        identity = identify(process.pid)
        assert find(identity) is not None
        os.kill(process.pid, signal.SIGKILL)
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert find(identity) is None


def test_a_process_can_be_asked_to_end() -> None:
    with started(SLEEP) as process:
        terminate(identify(process.pid))
        assert process.wait(10) == -signal.SIGTERM


def test_killing_a_tree_reaches_children_in_sessions_of_their_own(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        f"pathlib.Path({str(tmp_path)!r}, 'part').write_text(str(child.pid))\n"
        f"pathlib.Path({str(tmp_path)!r}, 'part').rename({str(tmp_path / 'pid')!r})\n"
        "time.sleep(60)\n"
    )
    with started([sys.executable, "-c", parent]) as process:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        child = identify(int((tmp_path / "pid").read_text()))
        parent_itself = identify(process.pid)
        assert find(child) is not None
        kill_tree(parent_itself)
        assert find(child) is None
        assert find(parent_itself) is None


def test_what_is_gone_can_be_ended_again_without_harm() -> None:
    with started(SLEEP) as process:
        identity = identify(process.pid)
        process.kill()
        process.wait()
    terminate(identity)
    kill_tree(identity)
    assert find(identity) is None
