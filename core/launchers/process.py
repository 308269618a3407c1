"""Processes of this machine, known by more than their number: numbers are used again."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


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


def boot_id() -> str:
    """Return the identity of the machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


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


def kill_tree(identity: ProcessIdentity, *, timeout_seconds: float = 5.0) -> None:
    """Kill a process and all its descendants, and wait until they are gone. Nothing happens if it is gone already."""
    process = find(identity)
    if process is None:
        return
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=timeout_seconds)


def _started(process: psutil.Process) -> float:
    return process.create_time() - psutil.boot_time()
