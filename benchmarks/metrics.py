"""What a training step waits for while its metrics are stored: ``python -m benchmarks.metrics``.

Straight to the database, as pages store; through the journal, as runs store; and through the journal while another
program holds the database. Medians and the longest of so many steps, one after the other, in one folder.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from core.config import read_preset
from core.store import Store
from core.store.journaled import JournaledStore

VALUES = {f"loss/{number}": 0.5 for number in range(8)}
"""As many curves as a run has."""


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--steps", type=int, default=300)
    steps = asked.parse_args().steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store.open(f"sqlite:///{folder}/runs.db")
        job = store.create_job("metrics", read_preset("quickstart")[1])
        run = store.runs(job_id=job.id)[0]
        with JournaledStore(store, folder, job.id) as journaled:
            print(f"{'ms a step':28}  median  longest")
            _say("straight to the database", _milliseconds(lambda step: _store(store, run.id, step), steps))
            _say("through the journal", _milliseconds(lambda step: _store(journaled, run.id, step), steps))
            with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                held = _milliseconds(lambda step: _store(journaled, run.id, step), steps)
            _say("the same, database held", held)


def _store(store: Store, run_id: str, step: int) -> None:
    store.add_metrics(run_id, step, VALUES)
    store.run_progress(run_id, step, 0.1 * step)


def _milliseconds(act: Callable[[int], None], steps: int) -> list[float]:
    took = []
    for step in range(steps):
        began = time.perf_counter()
        act(step)
        took.append(1000 * (time.perf_counter() - began))
        time.sleep(0.005)  # a step that computes
    return took


def _say(what: str, took: list[float]) -> None:
    print(f"{what:28}  {statistics.median(took):6.3f}  {max(took):7.3f}")


if __name__ == "__main__":
    main()
