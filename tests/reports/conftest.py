from collections.abc import Iterator
from pathlib import Path

import pytest

from core.ablation import ablation_table
from core.runs import AblationTable, Studio
from core.store import Store
from tests.app import sample

NAME = r"<script>alert(1)</script> | $x_1$ & 100 % #1 \input{/etc/passwd} ~^ *b* `c` [d](e) Łódź naïve 中 🎧 −1"
"""What a run may be called, and no table may take for anything but letters."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, new_database: Path) -> Iterator[Studio]:
    """Yield an installation with a finished quick start."""
    folder = tmp_path_factory.mktemp("studio")
    path = folder / "experiments.db"
    path.write_bytes(new_database.read_bytes())
    opened = Studio(f"sqlite:///{path}", folder / "runs")
    sample.add_finished_job(opened.store, opened.runs_folder)
    yield opened
    opened.close()


@pytest.fixture
def table(studio: Studio) -> AblationTable:
    return studio.ablation(studio.store.jobs()[0].id)


@pytest.fixture
def seeds(store: Store) -> AblationTable:
    """Return the table of two kinds of runs with three seeds each, on enough utterances to test."""
    return ablation_table(store, sample.add_seeds(store, utterances=120, third=True).id)


@pytest.fixture
def foreign(table: AblationTable) -> AblationTable:
    """Return the table of a job and runs that bear a name made to break tables."""
    from dataclasses import replace

    def named(each: AblationTable) -> AblationTable:
        rows = tuple(
            replace(row, run=replace(row.run, name=NAME), against=row.against and NAME, p_value=row.against and 0.001)
            for row in each.rows
        )
        return replace(each, rows=rows, baseline=NAME, job=replace(each.job, name=NAME))

    return replace(named(table), extra={NAME: replace(named(table.extra["real"]), test_set=NAME)})
