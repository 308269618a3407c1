"""Takes the README's pictures: every page of the studio, light and dark, from the newest job in experiments.db."""

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from core.runs import Studio

ASSETS = Path(__file__).parent
ROOT = ASSETS.parent
DATABASE = f"sqlite:///{ROOT / 'experiments.db'}"
RUNS = ROOT / "runs"
# Software rendering, so that WebGL maps are drawn on machines without a screen; nothing that calls home.
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--use-gl=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DRAWN = """() => !document.querySelector('[data-testid=stSkeleton]')
  && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(chart => chart.querySelector('canvas'))"""
"""Whether nothing is still being fetched, and maps have what they are drawn on."""


def pages() -> dict[str, str]:
    """Return the address of each picture, relative to the studio's own."""
    studio = Studio(DATABASE, RUNS)
    jobs = [job for job in studio.store.jobs(limit=50) if job.state == "finished"]
    if not jobs:
        sys.exit("experiments.db holds no finished job. Run the quick start first: make run, or manifold quickstart.")
    runs = sorted(studio.store.runs(job_id=jobs[0].id), key=lambda run: run.position)
    shown = next((run.id for run in runs if run.method == "manifold"), runs[-1].id)
    return {
        "runs": "",
        "new-run": "new",
        "run": f"run?run={shown}",
        "alignment": f"alignment?run={shown}&point={studio.probe(jobs[0].id)[-1].id}",
        "ablations": f"ablations?job={jobs[0].id}",
        "compare": f"compare?runs={','.join(run.id for run in runs)}",
        "reports": "reports",
    }


@contextmanager
def studio_server() -> Iterator[str]:
    """Serve the studio on a free port while the block runs, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    manifold = Path(sys.executable).with_name("manifold")
    places = ["--db", DATABASE, "--runs", str(RUNS), "--port", str(port), "--no-browser"]
    server = subprocess.Popen([str(manifold), "serve", *places])
    try:
        wait_for(f"{address}/_stcore/health", server)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return once the address answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    sys.exit("The studio did not start; its own message is above.")


def settled(page: Page) -> None:
    """Wait until Streamlit has run the page and its charts have been drawn."""
    page.wait_for_selector("[data-testid=stAppViewContainer] h1", timeout=60_000)
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')", timeout=60_000)
    page.wait_for_function(DRAWN, timeout=60_000)
    page.wait_for_timeout(2_500)


def save(picture: bytes, path: Path) -> None:
    """Write a PNG of few colours: a screen has few, and the file is a third."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(colors=192, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} kB")


def take(browser: Browser, address: str, theme: Literal["light", "dark"]) -> None:
    """Take every page in one theme."""
    context = browser.new_context(
        color_scheme=theme, viewport={"width": 1280, "height": 860}, device_scale_factor=1.5, reduced_motion="reduce"
    )
    page = context.new_page()
    for name, path in pages().items():
        page.goto(f"{address}/{path}")
        settled(page)
        save(page.screenshot(), ASSETS / f"{name}-{theme}.png")
    context.close()


def main() -> None:
    """Take all pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("The pictures are taken with Chromium: apt-get install chromium")
    with studio_server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        for theme in ("light", "dark"):
            take(browser, address, theme)
        browser.close()


if __name__ == "__main__":
    main()
