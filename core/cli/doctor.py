"""What this machine has and lacks."""

import platform
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from core.cli.text import Text
from core.cli.watching import counted
from core.config import read_preset
from core.errors import ManifoldError
from core.paths import expanded
from core.storage_problems import FULL_BYTES
from core.store import Store
from core.store.database import database_path
from core.store.files import free_bytes

ENOUGH_BYTES = 5 * 1024**3
ENOUGH_FOR_NUMBERS = 512 * 1024**2
RACE_FREE_SQLITE = (3, 51, 3)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        needed: Whether runs fail without it.
        note: What was found, and what to do if it is not well.
    """

    name: str
    well: bool
    needed: bool
    note: str


def examine(*, database_url: str, runs_folder: Path) -> list[Finding]:
    """Look at everything that a run needs; nothing is changed."""
    return [
        Finding("python", True, True, platform.python_version()),
        _torch(),
        *_disks(database_url, runs_folder),
        _sqlite(),
        _database(database_url),
        _models(),
        *_recorded(runs_folder),
        _chromium(),
    ]


def findings_json(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings for programs."""
    return {"well": _all_well(findings), "findings": [asdict(finding) for finding in findings]}


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print one line per finding."""
    shown = Table(box=None, show_header=False)
    for finding in findings:
        mark = "ok" if finding.well else "missing" if finding.needed else "-"
        shown.add_row(finding.name, mark, Text(finding.note))
    console.print(shown)


def _all_well(findings: list[Finding]) -> bool:
    return all(finding.well for finding in findings if finding.needed)


def _attempted(name: str, needed: bool, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except ManifoldError as error:
        return Finding(name, False, needed, str(error))


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", False, True, f"{error}. Install the project: make setup")
    cuda = f"CUDA: {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else "no CUDA device; runs use the CPU"
    return Finding("torch", True, True, f"{torch.__version__}, {counted(torch.get_num_threads(), 'thread')}, {cuda}")


def _disks(database_url: str, runs_folder: Path) -> list[Finding]:
    """Look at the disk of the runs and at that of the database, which may be another one."""
    found = [_disk("disk", expanded(runs_folder).absolute(), ENOUGH_BYTES, "runs may fill it")]
    with suppress(ManifoldError):
        found.append(
            _disk("disk of the database", database_path(database_url), ENOUGH_FOR_NUMBERS, "what runs say may fill it")
        )
    return found


def _disk(name: str, path: Path, enough: int, otherwise: str) -> Finding:
    free, full = free_bytes(path), free_bytes(path) < FULL_BYTES
    note = f"{free / 1024**3:.1f} GiB free for {path}"
    if full:
        otherwise = "it is full: free some space, for example of runs that nobody needs"
    return Finding(name, free >= enough, full, note if free >= enough else f"{note}; {otherwise}")


def _sqlite() -> Finding:
    note = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < RACE_FREE_SQLITE:
        note += (
            "; versions 3.7.0 to 3.51.2 can lose a commit that meets a checkpoint of another process, "
            "so writers take turns here (a lock file beside the database)"
        )
    return Finding("sqlite", True, True, note)


def _database(url: str) -> Finding:
    def look() -> Finding:
        path = database_path(url)
        if not path.exists():
            return Finding("database", True, True, f"none at {path} yet; the first run makes it")
        store = Store.open(url)
        count = len(store.jobs(limit=1000))
        store.close()
        if store.unwritable:
            return Finding("database", False, True, store.unwritable)
        if store.exposed:
            open_to_all = ", ".join(map(str, store.exposed))
            return Finding("database", False, False, f"{store.path}: others can read {open_to_all} (chmod go= PATH)")
        return Finding("database", True, True, f"{store.path}, {counted(count, 'job')}")

    return _attempted("database", True, look)


def _models() -> Finding:
    from core.weights import check

    teacher = read_preset("quickstart")[1][0].teachers[0]

    def look() -> Finding:
        return Finding("models", True, True, f"{teacher.model} from {check(teacher.model, teacher.revision)}")

    return _attempted("models", True, look)


def _recorded(runs_folder: Path) -> list[Finding]:
    """Look for the manifests of recorded speech; nothing is fetched or written."""
    from core.sources import DATA_SETS

    folder = expanded(runs_folder).absolute() / "data"
    return [
        Finding(f"speech {each.name}", True, False, str(folder / each.manifest))
        if each.here(folder)
        else Finding(
            f"speech {each.name}",
            False,
            False,
            f"not here; the quick start does without: manifold data get {each.name}",
        )
        for each in DATA_SETS
    ]


def _chromium() -> Finding:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    return Finding(
        "chromium", path is not None, False, path or "none; only browser tests need it (apt-get install chromium)"
    )
