"""The machine's GPUs, without PyTorch: a job that waits for one should cost nothing."""

import os
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version

VISIBLE = "CUDA_VISIBLE_DEVICES"

LIST_SECONDS = 20.0

UNIT = re.compile(r"^(?P<part>\s*)(?:GPU|MIG) .*\(UUID: (?P<uuid>[\w-]+)\)\s*$")


def visible_gpus() -> list[str]:
    """Return the UUIDs of the GPUs that this process may use, in the order of nvidia-smi; none where there are none.

    CUDA_VISIBLE_DEVICES is read as CUDA reads it: numbers or (beginnings of) UUIDs, and what follows one that is not
    there does not count. Of a GPU that is split (MIG), its parts stand in its place.
    """
    return chosen(_listed(), os.environ.get(VISIBLE)) if _uses_cuda() else []


def parsed(listing: str) -> list[list[str]]:
    """Return what ``nvidia-smi -L`` lists: for each GPU its UUID, or those of its parts."""
    units: list[list[str]] = []
    for line in listing.splitlines():
        found = UNIT.match(line)
        if found is None:
            continue
        if not found["part"]:
            units.append([found["uuid"]])
        elif units:
            whole = units[-1]
            units[-1] = [*(uuid for uuid in whole if uuid.startswith("MIG-")), found["uuid"]]
    return units


def chosen(units: list[list[str]], visible: str | None) -> list[str]:
    """Return which of the GPUs an environment variable leaves visible; all of them where it is not set."""
    everything = [uuid for unit in units for uuid in unit]
    if visible is None:
        return everything
    found: list[str] = []
    for word in (each.strip() for each in visible.split(",")):
        if word.isdigit() and int(word) < len(units):
            mine = units[int(word)]
        else:
            mine = [uuid for uuid in everything if word and uuid.startswith(word)]
        if len(mine) == 0 or set(mine) & set(found):
            break
        found += mine
    return found


def _listed() -> list[list[str]]:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=LIST_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parsed(done.stdout) if done.returncode == 0 else []


def _uses_cuda() -> bool:
    """Return whether the PyTorch that is installed can use a GPU at all."""
    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
