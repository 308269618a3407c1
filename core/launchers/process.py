"""Processes of this machine, known by more than their number: numbers are used again."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from core.boot import boot_id


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, once and for all.

    Attributes:
        pid: Its number.
        boot_id: The boot of the machine in which the number is meant.
        started: When it started, in seconds after that boot: the clock may be set while it runs.
    """

    pid: int
    boot_id: str
    started: float


def identify(pid: int | None = None) -> ProcessIdentity:
    """Return the identity of a living process; of this one if no number is given.

    Raises:
        psutil.NoSuchProcess: If there is none.
    """
    process = psutil.Process(os.getpid() if pid is None else pid)
    return ProcessIdentity(process.pid, boot_id(), _started(process))


def find(identity: ProcessIdentity) -> psutil.Process | None:
    """Return the process if it still runs. A zombie does not: it is only waiting for its parent to notice."""
    if identity.boot_id != boot_id():
        return None
    try:
        process = psutil.Process(identity.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if abs(_started(process) - identity.started) < 1.0 else None
    except psutil.NoSuchProcess:
        return None


def terminate(identity: ProcessIdentity) -> None:
    """Ask a process to end (SIGTERM). Nothing happens if it is gone already."""
    process = find(identity)
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            process.terminate()


def kill_tree(identity: ProcessIdentity, *, timeout_seconds: float = 5.0) -> list[int]:
    """Kill a process and all its descendants, suspended ones too, and wait until they are gone.

    Return the numbers of those that are still there: the kernel ends none that waits for a disk or a network share
    before that answers. Nothing happens if the process is gone already.
    """
    process = find(identity)
    if process is None:
        return []
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    _, alive = psutil.wait_procs(family, timeout=timeout_seconds)
    return [member.pid for member in alive]


def standing_still(identity: ProcessIdentity) -> str:
    """Return what keeps a process or one of its descendants from working, as far as the kernel says; or nothing."""
    process = find(identity)
    if process is None:
        return ""
    with suppress(psutil.NoSuchProcess):
        for member in (process, *process.children(recursive=True)):
            status = member.status()
            if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                return f"process {member.pid} is suspended (SIGSTOP; kill -CONT {member.pid} lets it go on)"
            if status == psutil.STATUS_DISK_SLEEP:
                return f"process {member.pid} waits for a disk or a network share"
    return ""


def _started(process: psutil.Process) -> float:
    """Return when a process started, in seconds after the boot; psutil's own times follow the clock where it is set."""
    stat = Path(f"/proc/{process.pid}/stat")
    try:
        # The name may hold anything, brackets and blanks too; the 22nd field is the 20th after it.
        ticks = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError, IndexError):
        raise psutil.NoSuchProcess(process.pid) from None
    return int(ticks) / os.sysconf("SC_CLK_TCK")
