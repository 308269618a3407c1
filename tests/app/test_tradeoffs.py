"""What error rates cost and go with."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app import tradeoffs
from core.config import parse_run
from core.runs import AblationTable, Studio
from core.store import Store
from tests.app import sample
from tests.app.test_views import texts

RATES = {("ce", 0): 0.5, ("ce", 1): 0.7, ("kd", 0): 0.3, ("kd", 1): 0.6}


@pytest.fixture
def table(store: Store, runs_folder: Path) -> AblationTable:
    """Return two kinds of runs with two seeds each, and a third with one seed that was not read yet."""
    base = sample.rows("quickstart")[0].model_dump(mode="json")
    losses = {"ce": [{"kind": "cross_entropy"}], "kd": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}]}
    configs = [
        parse_run(
            {**base, "name": f"{key} (seed {seed})", "seed": seed, "method": {"name": key, "losses": losses[key]}}
        )
        for key, seed in [*RATES, ("ce", 2)]
    ]
    job = store.create_job("seeds", configs)
    for run, rate in zip(store.runs(job_id=job.id), RATES.values(), strict=False):
        store.run_progress(run.id, 160, 60.0 * (1 + run.position))
        store.set_parameters(run.id, sample.counts(projections=100 if run.method == "kd" else 0))
        sample.evaluate(store, job.id, run.id, "student", "test", 160, rate, [f"u{n}" for n in range(24)])
    return Studio(store.url, runs_folder).ablation(job.id)


def rate(table: AblationTable, row: int) -> float:
    evaluation = table.rows[row].evaluation
    assert evaluation is not None
    return 100 * evaluation.wer


def test_seeds_of_a_kind_are_one_row_with_their_mean_and_their_ends(table: AblationTable) -> None:
    frame = tradeoffs.costs(table)
    assert list(frame["name"]) == ["ce", "kd"]
    assert list(frame["runs"]) == [2, 2]
    assert list(frame["wer"]) == pytest.approx(
        [(rate(table, 0) + rate(table, 1)) / 2, (rate(table, 2) + rate(table, 3)) / 2]
    )
    assert list(frame["high"]) == [rate(table, 1), rate(table, 3)]
    assert list(frame["minutes"]) == pytest.approx([1.5, 3.5])
    assert list(frame["parameters"]) == [184_320, 184_420]


def test_seeds_have_a_mean_a_spread_and_a_difference_by_seed(table: AblationTable) -> None:
    frame = tradeoffs.seeds(table)
    assert list(frame["Seeds"]) == ["2", "2"]
    first, second = rate(table, 2) - rate(table, 0), rate(table, 3) - rate(table, 1)
    assert frame["Difference"].tolist()[1] == f"{(first + second) / 2:+.1f}".replace("-", "−")
    # Of two numbers the standard deviation is their distance over the root of two.
    assert frame["SD of it"].tolist()[1] == f"{abs(first - second) / 2**0.5:.1f}"
    assert frame["Better in"].tolist()[1] == "2 of 2"


points = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(points)
def test_the_front_is_what_no_other_beats(given_points: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(given_points, columns=["minutes", "wer"])
    found = tradeoffs.with_front(frame, "minutes")
    best = {(cost, wrong) for cost, wrong, best in found.to_numpy().tolist() if best}
    beaten = {
        (cost, wrong)
        for cost, wrong in given_points
        if any(c <= cost and w <= wrong and (c, w) != (cost, wrong) for c, w in given_points)
    }
    assert best == set(given_points) - beaten


def test_the_correlation_of_ranks_is_said_with_its_size() -> None:
    frame = pd.DataFrame({"name": list("abcd"), "angle": [10.0, 20, 40, 30], "wer": [1.0, 2, 3, 50]})
    # 1 - 6 * (1 + 1) / (4 * 15), Spearman 1904
    assert "0.80 over 4 runs: the closer, the better. Few runs" in tradeoffs.does_closer_mean_better(frame)
    assert "too few" in tradeoffs.does_closer_mean_better(frame.head(2))
    assert "nothing can be said" in tradeoffs.does_closer_mean_better(frame.assign(wer=1.0))


def test_the_page_draws_costs_and_alignment_of_a_job(
    open_page: Callable[..., AppTest], store: Store, runs_folder: Path
) -> None:
    runs = sample.add_finished_job(store, runs_folder)
    page = open_page("ablations", job=runs[0].job_id)
    assert not page.exception
    said = texts(page)
    assert "From the cheapest: " in said
    # The sample's runs all end at the same angle.
    assert "All runs are alike in one of the two" in said
    assert len(page.get("vega_lite_chart")) == 5


def test_the_page_shows_seeds_where_there_are_several(open_page: Callable[..., AppTest], table: AblationTable) -> None:
    page = open_page("ablations", job=table.job.id)
    assert not page.exception
    assert [item.value for item in page.header if item.value == "Over seeds"]
    assert "Dots are means over up to 2 seeds" in texts(page)
