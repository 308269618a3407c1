import subprocess
import sys
from pathlib import Path

from core.launchers.slots import slot_taken, take_slot


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
