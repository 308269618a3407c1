"""Goals 8 and 9: what the studio's pages wait for: maps, the start, and the list of runs.

Maps and the start are measured in processes of their own, from their first instruction on.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks import goals
from benchmarks.goals import Ratio
from benchmarks.measuring import ROOT, Bench, Found

RUNS, STEPS = 1_000, 20
"""The list reads no curves: few steps of each run are enough (`make bench-studio` has ten million values)."""

MAPS = """
import json, time
from threadpoolctl import threadpool_limits
import core.analysis_worker, core.analysis
from benchmarks.wandering import states
from core.alignment.maps import joint_map
with threadpool_limits(limits=1, user_api="blas"):
    student, teacher = states(2_500)
    joint_map(student=student, teacher=teacher, seed=0)
    cold = time.process_time()
    student, teacher = states(10_000)
    began = time.process_time()
    joint_map(student=student, teacher=teacher, seed=0)
print(json.dumps([cold, time.process_time() - began]))
"""
"""As the analysis worker does it, with all that it imports: no PyTorch, for instance."""

START = """
import sys, time
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app/main.py", default_timeout=120).run()
assert not page.exception, page.exception
assert "torch" not in sys.modules, "the app's process has loaded torch"
print(time.process_time())
"""


def measure(bench: Bench) -> Found:
    """Measure maps, the app's start, and the list of runs."""
    rounds = 1 if bench.quick else 3
    maps = []
    for number in range(1, rounds + 1):
        bench.say(f"round {number} of {rounds}, maps of 5,000 states in a new process and of 20,000 in a warm one")
        maps.append(_in_a_new_process(MAPS, {}))
    places = {
        "MANIFOLD_DB": f"sqlite:///{bench.folder / 'start.db'}",
        "MANIFOLD_RUNS": str(bench.folder / "start"),
    }
    # The first start makes the database.
    starts = []
    for number in range(rounds + 1):
        bench.say(f"round {number} of {rounds}, the app's start")
        starts.append(_in_a_new_process(START, places))
    found = Found()
    for goal, values in (
        (goals.MAP_COLD, [cold for cold, _ in maps]),
        (goals.MAP_WARM, [warm for _, warm in maps]),
        (goals.START, starts[1:]),
        (goals.LIST, [1_000 * seconds for seconds in _list(bench)]),
    ):
        found.goals[goal] = Ratio(statistics.median(values), len(values), min(values), max(values))
    return found


def _in_a_new_process(script: str, environment: dict[str, str]):
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _list(bench: Bench) -> list[float]:
    """Return the CPU seconds of reading the list, each time anew."""
    from benchmarks.many_runs import fill
    from core.store import Store

    store = Store.open(f"sqlite:///{bench.folder / 'many.db'}")
    bench.say(f"making {RUNS:,} runs")
    fill(store, runs=RUNS, steps=STEPS)
    store.summaries()
    taken = []
    for _ in range(9):
        began = time.process_time()
        found = store.summaries()
        taken.append(time.process_time() - began)
        assert len(found) == RUNS
    store.close()
    return taken
