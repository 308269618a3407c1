"""What error rates cost and go with."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app import tradeoffs
from core.runs import AblationTable, Studio
from core.store import Store
from tests.app import sample
from tests.app.test_views import texts


@pytest.fixture
def table(store: Store, runs_folder: Path) -> AblationTable:
    """Return two kinds of runs with two seeds each, and a third with one seed that was not read yet."""
    return Studio(store.url, runs_folder).ablation(sample.add_seeds(store).id)


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
    assert "Fewer than three" in tradeoffs.does_closer_mean_better(frame.head(2))
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
    assert "the errors of an utterance summed over these seeds" in texts(page)
    (found,) = [item.value for item in page.dataframe if "Seeds" in item.value]
    assert list(found["Verdict"]) == ["baseline", "too few to test"]
    assert "Dots are means over up to 2 seeds" in texts(page)
