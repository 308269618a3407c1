"""What error rates cost and go with."""

from collections.abc import Callable
from math import degrees
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


def test_a_direction_is_told_only_beyond_chance() -> None:
    frame = pd.DataFrame({"angle": [10.0, 20, 40, 30, 50], "wer": [1.0, 2, 3, 50, 60]})
    # 1 - 6 * (1 + 1) / (5 * 24), Spearman 1904; of five runs only the same order in both is beyond 5 %.
    said = tradeoffs.does_closer_mean_better(frame)
    assert said == "Spearman's rank correlation 0.90 over 5 runs, p = 0.083: no clear relation."
    alike = frame.assign(wer=frame["angle"].rank())
    assert tradeoffs.does_closer_mean_better(alike).endswith("1.00 over 5 runs, p = 0.017: the closer, the better.")
    assert tradeoffs.does_closer_mean_better(alike.assign(wer=-alike["wer"])).endswith("the closer, the worse.")
    assert "nothing can be said" in tradeoffs.does_closer_mean_better(frame.assign(wer=1.0))


@pytest.mark.parametrize("runs", [0, 1, 3, 4])
def test_nothing_is_said_of_fewer_than_five_runs(runs: int) -> None:
    frame = pd.DataFrame({"angle": [float(each) for each in range(runs)], "wer": [2.0 * each for each in range(runs)]})
    assert tradeoffs.does_closer_mean_better(frame).startswith("Fewer than 5 runs (seeds count once)")


def test_ten_runs_with_a_weak_correlation_show_no_relation() -> None:
    frame = pd.DataFrame({"wer": range(1, 11), "angle": [4, 2, 9, 1, 7, 3, 10, 5, 8, 6]})
    assert tradeoffs.does_closer_mean_better(frame).endswith("0.38 over 10 runs, p = 0.280: no clear relation.")


def test_seeds_of_a_kind_are_one_point(table: AblationTable) -> None:
    angles = {row.run.id: 0.1 * (place + 1) for place, row in enumerate(table.rows)}
    frame = tradeoffs.alignment(table, angles)
    assert list(frame["name"]) == ["ce", "kd"]
    assert list(frame["angle"]) == pytest.approx([degrees(0.15), degrees(0.35)])
    assert frame["wer"].tolist()[0] == pytest.approx((rate(table, 0) + rate(table, 1)) / 2)
    without = tradeoffs.alignment(table, {**angles, table.rows[0].run.id: None})
    assert without["angle"].tolist() == pytest.approx([degrees(0.2), degrees(0.35)])


def test_the_page_draws_costs_and_alignment_of_a_job(
    open_page: Callable[..., AppTest], store: Store, runs_folder: Path
) -> None:
    runs = sample.add_finished_job(store, runs_folder)
    page = open_page("ablations", job=runs[0].job_id)
    assert not page.exception
    said = texts(page)
    assert "From the cheapest: " in said
    assert "Fewer than 5 runs (seeds count once)" in said
    assert len(page.get("vega_lite_chart")) == 5


def test_the_page_shows_seeds_where_there_are_several(open_page: Callable[..., AppTest], table: AblationTable) -> None:
    page = open_page("ablations", job=table.job.id)
    assert not page.exception
    assert [item.value for item in page.header if item.value == "Over seeds"]
    assert "Fewer than 3 seeds are not tested." in texts(page)
    (found,) = [item.value for item in page.dataframe if "Seeds" in item.value]
    assert list(found["Verdict"]) == ["baseline", "too few seeds to test"]
    assert "Dots are means over up to 2 seeds" in texts(page)
