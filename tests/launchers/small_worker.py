"""A worker whose jobs are small: what a job does is its name. Started as ``python -m small_worker JOB_ID ...``."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from core.errors import Stopped
from core.store import Store
from core.worker import main


def work(job_id: str, *, store: Store, runs_folder: Path, stop: Callable[[], bool]) -> None:
    what = store.job(job_id).name
    store.job_state(job_id, "running", only_from=("starting",))
    print(f"at work on {what}")
    runs = store.runs(job_id=job_id)
    (runs_folder / f"{job_id}.gpus").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    if what.startswith("count"):
        store.run_state(runs[0].id, "running")
    for step in range({"count": 10_000, "breed": 10_000, "count to 200": 200}.get(what, 3)):
        if what.startswith("count"):
            store.add_metrics(runs[0].id, step, {"total": float(step)})
            # Written after the store has the step: what a reader finds here must be in the database.
            with open(runs_folder / f"{job_id}.acknowledged", "a") as acknowledged:
                acknowledged.write(f"{step}\n")
        if what == "breed" and step == 0:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
            (runs_folder / "child.pid").write_text(str(child.pid))
        if stop():
            raise Stopped("Stopped by the user.")
        time.sleep(0.01)
    for run in runs:
        store.run_state(run.id, "finished")


if __name__ == "__main__":
    sys.exit(main(work=work))
