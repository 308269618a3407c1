"""What is watched of a run while it trains."""

import shutil
from pathlib import Path

import pytest

from core.config import parse_run
from core.errors import ManifoldError
from core.job import run_job
from core.store import Store
from tests.test_job import MANIFOLD, SMALL


def test_a_run_whose_folder_is_deleted_while_it_trains_has_failed_and_says_so(store: Store, tmp_path: Path) -> None:
    training = {**SMALL["training"], "steps": 6}
    job = store.create_job("one", [parse_run({**SMALL, "training": training, "method": MANIFOLD, "name": "one"})])

    def look() -> bool:
        (run,) = store.runs()
        if run.step == 2:
            shutil.rmtree(tmp_path / run.id, ignore_errors=True)
        return False

    with pytest.raises(ManifoldError, match=r"The folder of the run, .*, was deleted or moved while it trained"):
        run_job(job.id, store=store, runs_folder=tmp_path, stop=look)
    (run,) = store.runs()
    assert (run.state, run.step) == ("failed", 2)
