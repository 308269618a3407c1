"""The app's process must start, and stay, without anything that trains or maps."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "peft", "umap", "numba", "faiss"}

CHECK = f"""
import importlib, pkgutil, sys, app
names = [item.name for item in pkgutil.walk_packages(app.__path__, "app.")]
for name in names:
    if name != "app.main":  # a script, which is run below as Streamlit runs it
        importlib.import_module(name)
from streamlit.runtime.context import ContextProxy
ContextProxy.cookies = dict(manifold_token_8501="the token")
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app/main.py", default_timeout=60).run()
assert not page.exception, page.exception
print(len(names), sorted({HEAVY!r} & set(sys.modules)))
"""


def test_no_page_imports_what_trains_or_maps(tmp_path: Path) -> None:
    environment = {
        "MANIFOLD_DB": f"sqlite:///{tmp_path / 'experiments.db'}",
        "MANIFOLD_RUNS": str(tmp_path / "runs"),
        "MANIFOLD_TOKEN": "the token",
    }
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    count, _, heavy = done.stdout.strip().partition(" ")
    assert heavy == "[]", done.stdout + done.stderr
    assert int(count) >= 12
