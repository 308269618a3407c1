"""What a process of a job does instead of training: each run does what its name says."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from core.families.whisper import Whisper
from core.handover import handed_over
from core.parts import train_in_parts
from core.preflight import load_models
from core.processes import Company, Duty, Outcome
from core.progress import Progress
from core.recording import Recorder
from core.shared import Shared
from core.spread import spread
from core.store import Store
from core.team import ALONE, Team
from tests.engine import run_config


def by_name(company: Company, *, shared: Shared, recorder: Recorder, progress: Progress, team: Team = ALONE) -> Outcome:
    """Do what a run's name says; in a team "killed 1" is done by number 1, and the others wait for it."""
    for run, _ in company:
        recorder.store.run_state(run.id, "running")
        recorder.store.add_metrics(run.id, team.number, {"process": os.getpid(), "threads": torch.get_num_threads()})
        progress.begin(f"Training {run.name}")
        progress.advance(1)
        what, *who = run.name.split()
        if team.size > 1 and who and int(who[0]) != team.number:
            team.summed(torch.ones(1))
        if what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "memory":
            raise MemoryError
        if what == "wrong":
            recorder.store.run_state(run.id, "failed", "It went wrong.")
            return Outcome([f"{run.name}: It went wrong."])
        while what == "endless":
            time.sleep(0.01)
            team.summed(torch.ones(1))
            # Only the first of a team is asked to end.
            progress.advance(0)
        while what == "deaf":
            time.sleep(60)
        time.sleep(0.2)
        if team.number == 0:
            recorder.store.run_state(run.id, "finished")
    return Outcome((), [run.id for run, _ in company])


def start(
    store: Store, folder: Path, companies: list[list[str]], progress: Progress, *, devices: int = 2, parts: bool = False
) -> list[Outcome]:
    """Deal companies of runs, given by their names, to processes on the CPU; or have one run trained in parts."""
    names = [name for company in companies for name in company]
    configs = [run_config(name=name) for name in names]
    job = store.create_job("spread", configs)
    runs = {run.name: run for run in store.runs(job_id=job.id)}
    dealt = [[(runs[name], configs[0]) for name in company] for company in companies]
    duty = Duty(configs, job.id, 0, store.url, folder, progress.total, by_name)
    trained = train_in_parts if parts else spread
    with handed_over(nothing_shared(load_models(configs[0])[1]), folder) as handed:
        return trained(dealt, [torch.device("cpu")] * devices, duty=duty, handed=handed, store=store, progress=progress)


def nothing_shared(student: Whisper) -> Shared:
    return Shared((), student, [], [], [], [], {}, [], (), (), {})


if __name__ == "__main__":
    opened = Store.open(sys.argv[1])
    quiet = Progress(total=1.0, report=lambda *said: None, stop=lambda: False)
    if sys.argv[3:]:
        start(opened, Path(sys.argv[2]), [["endless"]], quiet, parts=True)
    else:
        start(opened, Path(sys.argv[2]), [["endless"], ["deaf"]], quiet)
