"""Jobs on this machine: a detached process each, that outlives whoever started it."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from core.errors import JobError
from core.launchers.process import ProcessIdentity, identify

PASSED_ON = re.compile(
    r"PATH|HOME|LANG|LC_\w+|TMPDIR|XDG_CACHE_HOME|VIRTUAL_ENV|LD_LIBRARY_PATH|SSL_CERT_\w+"
    r"|MANIFOLD_SLOTS|(HF|CUDA|NVIDIA|OMP|MKL|OPENBLAS|NUMBA|PYTHON)\w*|(https?|no)_proxy|(HTTPS?|NO)_PROXY"
)
"""Environment variables that a worker gets; nothing else of its parent's reaches it."""


@dataclass(frozen=True)
class LocalLauncher:
    """Starts workers as processes of this machine.

    Attributes:
        worker: Module that works on a job: ``python -m WORKER JOB_ID --database-url URL --runs FOLDER``.
        analysis_worker: Module that makes maps and checks, with the same options and no job.
    """

    worker: str = "core.worker"
    analysis_worker: str = "core.analysis_worker"
    name: str = "local"

    def submit(self, job_id: str, *, database_url: str, runs_folder: Path, log: Path) -> ProcessIdentity:
        """Start the worker of a job.

        Raises:
            JobError: If no process could be started.
        """
        return start_detached([*_python(self.worker), job_id, *_places(database_url, runs_folder)], log=log)

    def submit_analysis(self, *, database_url: str, runs_folder: Path, log: Path) -> ProcessIdentity:
        """Start the analysis worker; one that finds another at work ends at once."""
        return start_detached([*_python(self.analysis_worker), *_places(database_url, runs_folder)], log=log)


def start_detached(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> ProcessIdentity:
    """Start a command in a session of its own, its output appended to a file.

    A pipe would stop the command once nobody reads it, and a shared session would end it with the terminal.

    Args:
        command: Program and arguments; no shell sees them.
        log: Where its output goes; the folder is made.
        environment: What it gets; by default the `PASSED_ON` part of this process's own.

    Raises:
        JobError: If it cannot be started, saying why.
    """
    own = os.environ if environment is None else environment
    passed = {name: value for name, value in own.items() if PASSED_ON.fullmatch(name)}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
                env=passed,
            )
        identity = identify(process.pid)
    except (OSError, psutil.NoSuchProcess) as error:
        raise JobError(f"The worker could not be started: {error}. Nothing was lost; start it again.") from error
    # Somebody has to take note of the end of a child, or it stays in the process table.
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return identity


def _python(module: str) -> list[str]:
    return [sys.executable, "-u", "-m", module]


def _places(database_url: str, runs_folder: Path) -> list[str]:
    return ["--database-url", database_url, "--runs", str(runs_folder)]
