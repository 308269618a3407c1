"""How quick maps are made, and how quick a click on a map of 20,000 points is answered.

    make bench-studio

generates the stored states of a run (200 utterances of 100 frames), draws its map as the analysis worker does, opens it
in Chromium without a window, and clicks points: a click is answered when audio, texts and neighbours of the point are
there. How long UMAP takes, `make bench` measures.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import Page, sync_playwright
from safetensors.numpy import save_file

from benchmarks.many_runs import serving
from benchmarks.measuring import write
from benchmarks.wandering import FRAMES, states
from core.analysis import make_map
from core.config import parse_run
from core.store import AlignmentRecord, RunRecord, Store, UtteranceResult

UTTERANCES, STEP = 200, 100
CLICKS = 9
MOST_CLICK_SECONDS = 1.0
ARGUMENTS = ["--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
SAID = ("she", "keeps", "the", "old", "maps", "in", "a", "drawer", "under", "the", "window")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory(prefix="map-click-") as folder:
        clicks = _clicks(Path(folder))
    measured = [
        (f"click on one of {UTTERANCES * FRAMES:,} points, median", statistics.median(clicks), MOST_CLICK_SECONDS),
        (f"the slowest of {len(clicks)}", max(clicks), MOST_CLICK_SECONDS),
    ]
    write("map-click.json", [{"what": what, "seconds": taken, "limit": limit} for what, taken, limit in measured])
    for what, taken, limit in measured:
        print(f"{what:<52}{taken:>8.2f} s   {'below' if taken <= limit else 'NOT BELOW'} {limit:g} s")
    sys.exit(any(taken > limit for _, taken, limit in measured))


def _clicks(folder: Path) -> list[float]:
    """Return how long clicks took to be answered, in seconds."""
    store = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    run = _fill(store, folder / "runs")
    store.request_map(run.id, "encoder", 2, 3, STEP, "points")
    wanted = store.claim_map()
    assert wanted is not None
    began = time.process_time()
    make_map(wanted, store=store, runs_folder=folder / "runs")
    made = store.map(wanted.id)
    print(f"a map of {made.points:,} points, {2 * made.points:,} states: {time.process_time() - began:.1f} CPU s")
    store.close()
    with serving(folder) as address_of, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address_of(f"/alignment?run={run.id}&level=points&map=one"))
        chart = page.locator(".js-plotly-plot")
        chart.locator("canvas").first.wait_for(timeout=120_000)
        # Until a point is chosen the first that is listed is told.
        page.get_by_text("Nearest neighbours").first.wait_for()
        element = page.evaluate(DRAWN)
        taken = [_click(page, number) for number in range(CLICKS + 1)]
        if page.evaluate(DRAWN) != element:
            sys.exit("The map was drawn anew by a click.")
        browser.close()
    # The first click warms the server's caches.
    return taken[1:]


DRAWN = """() => {
    const chart = document.querySelector('.js-plotly-plot')
    window.drawn = window.drawn || chart
    return window.drawn === chart
}"""
PLACE = """number => {
    const chart = document.querySelector('.js-plotly-plot')
    const { xaxis, yaxis } = chart._fullLayout
    const teacher = chart._fullData[1]
    const box = chart.getBoundingClientRect()
    const at = number * 1777 % teacher.x.length
    return [box.x + xaxis._offset + xaxis.d2p(teacher.x[at]), box.y + yaxis._offset + yaxis.d2p(teacher.y[at])]
}"""


def _click(page: Page, number: int) -> float:
    """Click a point and return after how many seconds another one's audio, texts and neighbours were there."""
    before = page.url
    page.locator(".js-plotly-plot").scroll_into_view_if_needed()
    x, y = page.evaluate(PLACE, number + 1)
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    began = time.perf_counter()
    page.mouse.click(x, y)
    page.wait_for_url(lambda url: url != before and "point=" in url, timeout=30_000)
    chosen = page.url.split("point=")[1].split("&")[0].replace("%40", "@")
    # The page joins what stands before an @ with a mark of no width, so that it is no address to write to.
    named = re.compile("\u2060?@".join(map(re.escape, chosen.split("@"))))
    page.locator("strong").filter(has_text=named).first.wait_for()
    page.get_by_test_id("stAudio").first.wait_for()
    page.get_by_text("Nearest neighbours", exact=True).wait_for()
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached")
    return time.perf_counter() - began


def _fill(store: Store, runs_folder: Path) -> RunRecord:
    """Store a finished run with its states, its probe, and what was heard of it."""
    config = parse_run(
        {
            "name": "many points",
            "training": {"steps": STEP},
            "method": {"name": "manifold", "losses": [{"kind": "geodesic"}]},
        }
    )
    job = store.create_job("many points", [config])
    (run,) = store.runs(job_id=job.id)
    names = [f"development-{number:03d}" for number in range(UTTERANCES)]
    student, teacher = (side.astype(np.float16) for side in states(UTTERANCES * FRAMES))
    for path, tensors in (
        (
            runs_folder / run.probe_folder / "teacher_states.safetensors",
            {
                "encoder.utterance": np.repeat(np.arange(UTTERANCES), FRAMES).astype(np.int32),
                "encoder.frame": np.tile(4 * np.arange(FRAMES), UTTERANCES).astype(np.int32),
                "teacher.encoder.3": teacher,
                "mean.encoder.3": teacher.astype(np.float32).mean(axis=0),
            },
        ),
        (
            runs_folder / run.id / "states" / f"{STEP:06d}.safetensors",
            {
                "student.encoder.2": student,
                "aligned_student.encoder.2-3": student,
                "aligned_teacher.encoder.2-3": teacher,
            },
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
    random = np.random.default_rng(0)
    (runs_folder / "data").mkdir()
    for name in names:
        soundfile.write(runs_folder / "data" / f"{name}.flac", 0.1 * random.normal(size=16_000 * 8), 16_000)
    described = [
        {
            "id": name,
            "text": " ".join(SAID),
            "audio_path": f"data/{name}.flac",
            "speaker": f"speaker {number % 8}",
            "duration": 8.0,
            "split": "development",
        }
        for number, name in enumerate(names)
    ]
    (runs_folder / run.probe_folder / "probe.json").write_text(json.dumps(described), encoding="utf-8")
    for subject, of, step in (("teacher", None, None), ("student", run.id, STEP)):
        _hear(store, job.id, of, subject, step, names)
    store.add_alignments([AlignmentRecord(run.id, STEP, "after", "encoder", 2, 3, 2000, 0.8, 0.6, 0.4, 10)])
    store.run_state(run.id, "finished")
    store.job_state(job.id, "finished")
    return store.run(run.id)


def _hear(store: Store, job_id: str, run_id: str | None, subject: str, step: int | None, names: list[str]) -> None:
    random = np.random.default_rng(1)
    results = []
    for number, name in enumerate(names):
        heard = [word for word in SAID if random.random() > 0.2] if run_id else SAID
        missed = len(SAID) - len(heard)
        said, words = " ".join(SAID), len(SAID)
        results.append(
            UtteranceResult(name, number, said, " ".join(heard), 0, missed, 0, words, None, 8.0, f"data/{name}.flac")
        )
    errors, words = sum(item.deletions for item in results), len(SAID) * len(names)
    store.add_evaluation(
        job_id=job_id,
        run_id=run_id,
        subject=subject,  # pyright: ignore[reportArgumentType]
        test_set="development",
        test_set_hash="generated",
        step=step,
        audio_context=10.0,
        normaliser="none",
        decoding="none",
        wer=errors / words,
        cer=errors / words,
        substitutions=0,
        deletions=errors,
        insertions=0,
        words=words,
        heldout_kl=None,
        real_time_factor=0.1,
        seconds=1.0,
        results=results,
    )


if __name__ == "__main__":
    main()
