"""How quick the studio stays with a thousand runs and ten million values of curves.

    make bench-studio

makes such a database in a temporary folder (some minutes, half a gigabyte), then measures reading it, and opening its
pages in Chromium without a window. ``--folder`` keeps the database, and goes on with it.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import altair as alt
import numpy as np
from playwright.sync_api import Page, sync_playwright

from app import charts, tables
from benchmarks.measuring import write
from core.config import RunConfig, parse_run, read_preset
from core.runs import AlignmentRecord, ParameterCounts, Studio
from core.store import Store

CURVES = (
    "loss/total",
    "loss/cross_entropy",
    "loss/soft_labels",
    "loss/geodesic",
    "share/cross_entropy",
    "share/soft_labels",
    "share/geodesic",
    "gradient_norm/adapters",
    "gradient_norm/projections",
    "learning_rate",
)
USUAL = ("loss/total", "development/wer")
LIMIT = 2.0
"""Seconds within which a page can be used."""
COMPARED = 50
alt.data_transformers.enable("default", max_rows=None)  # as Streamlit sets it
REPEATS = 5


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=1000)
    asked.add_argument("--steps", type=int, default=1000, help="of each run; every curve has a value at each")
    asked.add_argument("--folder", type=Path, help="where the database is kept; by default nowhere")
    asked.add_argument("--no-browser", action="store_true", help="measure reading alone")
    given = asked.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="many-runs-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        studio = Studio(f"sqlite:///{folder / 'experiments.db'}", folder / "runs")
        there = len(studio.store.summaries())
        if there < given.runs:
            fill(studio.store, runs=given.runs - there, steps=given.steps)
        rows = _reading(studio)
        studio.close()
        if not given.no_browser:
            rows += _pages(folder)
        write("many-runs.json", [{"what": what, "seconds": taken, "limit": LIMIT} for what, taken in rows])
        _print(rows)
        sys.exit(any(seconds > LIMIT for _, seconds in rows))
    finally:
        if given.folder is None:
            shutil.rmtree(folder)


def fill(store: Store, *, runs: int, steps: int) -> None:
    """Store finished runs with curves, evaluations and alignments, in jobs as large as the quick start."""
    random = np.random.default_rng(0)
    configs = _configs(steps)
    for number in range(-(-runs // len(configs))):
        job = store.create_job(f"job {number:03d}", configs[: runs - number * len(configs)])
        for subject, rate in (("teacher", 0.1), ("student_before", 1.0)):
            _evaluate(store, job.id, None, subject, "test", rate)
        for run in store.runs(job_id=job.id):
            decay = np.exp(-np.arange(steps) / (steps / 5))
            drawn = {name: (decay + random.normal(0, 0.02, steps)).tolist() for name in CURVES}
            store.add_curves(run.id, {name: list(enumerate(values)) for name, values in drawn.items()})
            rate = float(random.uniform(0.1, 0.9))
            for step in (steps // 3, 2 * steps // 3, steps):
                store.add_metrics(run.id, step, {"development/wer": rate + 10 / (10 + step)})
                _evaluate(store, job.id, run.id, "student", "development", rate + 10 / (10 + step), step)
            _evaluate(store, job.id, run.id, "student", "test", rate, steps)
            store.set_parameters(run.id, ParameterCounts(37_184_640, 35_410_560, 184_320, 147_456))
            store.add_alignments([_aligned(run.id, step, layer) for step in (0, steps) for layer in (2, 3)])
            store.run_progress(run.id, steps, float(random.uniform(60, 600)))
            if run.position == 0:
                store.change_tags([run.id], add=["baseline"])
        for run in store.runs(job_id=job.id):
            store.run_state(run.id, "finished")
        store.job_state(job.id, "finished")
        if sys.stderr.isatty():
            print(
                f"\rmaking runs: {min(runs, (number + 1) * len(configs))} of {runs}",
                end="",
                file=sys.stderr,
                flush=True,
            )


def _configs(steps: int) -> list[RunConfig]:
    fields = [config.model_dump(mode="json") for config in read_preset("quickstart")[1]]
    return [parse_run({**each, "training": {**each["training"], "steps": steps}}) for each in fields]


def _evaluate(
    store: Store, job_id: str, run_id: str | None, subject: str, test_set: str, rate: float, step: int | None = None
) -> None:
    store.add_evaluation(
        job_id=job_id,
        run_id=run_id,
        subject=subject,  # pyright: ignore[reportArgumentType]
        test_set=test_set,
        test_set_hash=f"hash of {test_set}",
        step=step,
        audio_context=30.0,
        normaliser="whisper-english",
        decoding="greedy",
        wer=rate,
        cer=rate / 2,
        substitutions=int(600 * rate),
        deletions=int(300 * rate),
        insertions=int(100 * rate),
        words=1000,
        heldout_kl=rate,
        real_time_factor=0.05,
        seconds=10.0,
    )


def _aligned(run_id: str, step: int, layer: int) -> AlignmentRecord:
    return AlignmentRecord(run_id, step, "during", "encoder", layer, layer + 1, 1200, 0.9, 0.5, 0.4, 10)


def _reading(studio: Studio) -> list[tuple[str, float]]:
    store = studio.store
    ids = [run.id for run in store.summaries()]
    compared = ids[:: max(1, len(ids) // COMPARED)][:COMPARED]

    def comparison() -> None:
        found = studio.compare(compared)
        labels = tables.labels(found.rows)
        tables.compared(found)
        tables.settings_apart([row.run.config for row in found.rows], labels)
        frame = tables.curves_of(store.curves(compared, USUAL))
        for name in USUAL:
            part = frame.loc[frame["name"] == name]
            named = dict(zip(compared, labels, strict=True))
            charts.curve(part.assign(series=part["run"].map(named)), description=name, series=labels).to_dict()

    return [
        (f"read the list of {len(ids)} runs", _median(store.summaries)),
        ("read it and make its table", _median(lambda: tables.runs(store.summaries()))),
        ("find out that nothing is new", _median(store.list_version)),
        (f"compare {len(compared)} runs: read, tables, two charts", _median(comparison)),
    ]


def _median(what: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        what()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _pages(folder: Path) -> list[tuple[str, float]]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("The pages need Chromium: apt-get install chromium. Without it: --no-browser")
    store = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    ids = [run.id for run in store.summaries()]
    store.close()
    compared = ",".join(ids[:: max(1, len(ids) // COMPARED)][:COMPARED])
    with serving(folder) as address_of, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rows = []
        for name, address, sign in (
            ("open the list of runs", address_of(""), "[data-testid=stDataFrame] canvas"),
            (
                f"open a comparison of {COMPARED} runs",
                address_of(f"/compare?runs={compared}"),
                "[role=graphics-document]",
            ),
        ):
            # The first window of a browser fetches the app's own files; its next ones, as a user's, have them.
            context = browser.new_context()
            _opened(context.new_page(), address, sign)
            rows.append((name, statistics.median(_opened(context.new_page(), address, sign) for _ in range(REPEATS))))
            context.close()
        browser.close()
    return rows


def _opened(page: Page, address: str, sign: str) -> float:
    """Return the seconds until a page's script has ended and what it is for is drawn."""
    began = time.perf_counter()
    page.goto(address)
    page.locator(sign).first.wait_for(state="visible", timeout=60_000)
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached", timeout=60_000)
    taken = time.perf_counter() - began
    page.close()
    return taken


@contextmanager
def serving(folder: Path) -> Iterator[Callable[[str], str]]:
    """Serve a studio, and yield what makes an address of a page: with the token, which windows have to bring."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from core.cli import main; main()", "serve", "--no-browser", "--no-quickstart"]
    command += ["--port", str(port), "--db", f"sqlite:///{folder / 'experiments.db'}", "--runs", str(folder / "runs")]
    with open(folder / "serve.log", "wb") as log:
        served = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ))
    try:
        url, _, token = _printed_address(folder / "serve.log", served).partition("/?token=")
        yield lambda page: f"{url}{page}{'&' if '?' in page else '/?'}token={token}"
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(30)


def _printed_address(log: Path, served: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and served.poll() is None:
        found = re.search(r"The studio is open: (\S+)", log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1]
        time.sleep(0.2)
    sys.exit("The studio does not answer.")


def _print(rows: list[tuple[str, float]]) -> None:
    print(f"\n{'median of ' + str(REPEATS):<52}{'ms':>8}   below {LIMIT:.0f} s")
    for name, seconds in rows:
        print(f"{name:<52}{1000 * seconds:>8.0f}   {'yes' if seconds <= LIMIT else 'NO'}")


if __name__ == "__main__":
    main()
