"""Goals 8 and 9: what the studio's pages wait for: maps, the start, and the list of runs.

These are seconds, not ratios: the fewest of all rounds count, because other work on the machine only adds to them.
Maps and the start are measured in processes of their own, from their first instruction on.
"""

import json
import os
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
from core.alignment.neighbours import nearest
with threadpool_limits(limits=1, user_api="blas"):
    student, teacher = states(2_500)
    joint_map(student=student, teacher=teacher, seed=0)
    cold = time.process_time()
    student, teacher = states(10_000)
    began = time.process_time()
    joint_map(student=student, teacher=teacher, seed=0)
    warm = time.process_time() - began
    began = time.process_time()
    nearest(student, teacher, 16)
print(json.dumps([cold, warm, time.process_time() - began]))
"""
"""As the analysis worker does it, with all that it imports: no PyTorch, for instance."""

AS_SERVED = {"STREAMLIT_RUNNER_MAGIC_ENABLED": "false"}
"""The setting of app/.streamlit/config.toml that counts: AppTest does not read that file."""

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
    rounds, starts_measured = (1, 2) if bench.quick else (3, 7)
    maps = []
    for number in range(1, rounds + 1):
        bench.say(f"round {number} of {rounds}, maps of 5,000 states in a new process and of 20,000 in a warm one")
        maps.append(_in_a_new_process(MAPS, {}))
    places = {
        **AS_SERVED,
        "MANIFOLD_DB": f"sqlite:///{bench.folder / 'start.db'}",
        "MANIFOLD_RUNS": str(bench.folder / "start"),
    }
    # The first start makes the database and the byte code, which stays as it does for everyone.
    starts = []
    for number in range(starts_measured + 1):
        bench.say(f"round {number} of {starts_measured}, the app's start")
        starts.append(_in_a_new_process(START, places))
    found = Found()
    for goal, values in (
        (goals.MAP_COLD, [cold for cold, _, _ in maps]),
        (goals.MAP_WARM, [warm for _, warm, _ in maps]),
        (goals.START, starts[1:]),
        (goals.LIST, [1_000 * seconds for seconds in _list(bench)]),
    ):
        found.goals[goal] = Ratio(min(values), len(values), min(values), max(values))
    found.seconds["the exact neighbours of 20,000 states, of such a map"] = [exact for _, _, exact in maps]
    return found


def _in_a_new_process(script: str, environment: dict[str, str]):
    command = [sys.executable, "-W", "ignore", "-c", script]
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env={**ours, **environment}, stdout=subprocess.PIPE, text=True, check=True)
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
    for _ in range(25):
        began = time.process_time()
        found = store.summaries()
        taken.append(time.process_time() - began)
        assert len(found) == RUNS
    store.close()
    return taken
