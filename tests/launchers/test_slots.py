import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from core.launchers.slots import SLOTS, device_slots, slot_taken, take_slot, take_slots


def test_a_slot_is_given_once_until_it_is_given_back(tmp_path: Path) -> None:
    assert not slot_taken(tmp_path, "cpu")
    first = take_slot(tmp_path, "cpu")
    assert first is not None
    assert take_slot(tmp_path, "cpu") is None
    assert slot_taken(tmp_path, "cpu")
    other = take_slot(tmp_path, "analysis")
    assert other is not None
    other.close()
    first.close()
    assert not slot_taken(tmp_path, "cpu")


def test_a_killed_process_gives_its_slot_back(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from core.launchers.slots import take_slot\n"
        "slot = take_slot(Path(sys.argv[1]), 'cpu'); print('taken', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        assert slot_taken(tmp_path, "cpu")
        process.kill()
        process.wait()
        assert not slot_taken(tmp_path, "cpu")


def test_some_of_several_slots_are_taken_or_none(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    first = take_slots(tmp_path, names, 2)
    assert first is not None
    assert first[0] == ["a", "b"]
    assert take_slots(tmp_path, names, 2) is None
    assert not slot_taken(tmp_path, "c")
    second = take_slots(tmp_path, names, 1)
    assert second is not None
    assert second[0] == ["c"]
    first[1].close()
    second[1].close()
    assert not any(slot_taken(tmp_path, name) for name in names)


def test_the_machines_locks_are_open_to_all_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SLOTS)
    folder = device_slots()
    assert str(folder) in ("/run/lock/manifold-studio", "/tmp/manifold-studio")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    slot = take_slot(folder, f"test-{os.getpid()}")
    assert slot is not None
    path = Path(folder / f"test-{os.getpid()}.lock")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.unlink()
    slot.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
def test_another_user_cannot_take_a_slot_that_is_taken_and_can_take_one_that_is_free(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    script = (
        "import os, sys; from pathlib import Path; from core.launchers.slots import take_slot; os.setuid(65534)\n"
        "print(take_slot(Path(sys.argv[1]), 'gpu') is not None, take_slot(Path(sys.argv[1]), 'other') is not None)\n"
    )
    command = [sys.executable, "-c", script, str(folder)]

    def ask() -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr

    try:
        slot = take_slot(folder, "gpu")
        assert slot is not None
        with slot:
            assert ask() == "False True"
        assert ask() == "True True"
        # Made by the other one, it is taken by this one, too.
        other = take_slot(folder, "other")
        assert other is not None
        other.close()
    finally:
        shutil.rmtree(folder)
