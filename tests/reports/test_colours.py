"""One colour per run, on all pages and in the report."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import ablation_tables, charts, tradeoffs
from core.reports import page
from core.reports.colours import RUNS, run_colour, run_colours
from core.runs import AblationTable, Studio


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", RUNS)
@pytest.mark.parametrize("background", ["#FFFFFF", "#13171A"])
def test_runs_stand_out_from_light_and_dark_and_are_not_the_teacher(colour: str, background: str) -> None:
    lighter, darker = sorted([luminance(colour), luminance(background)], reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3
    assert colour != charts.TEACHER


@given(st.lists(st.integers(0, 60), max_size=30))
def test_runs_side_by_side_have_colours_of_their_own_as_long_as_there_are_any(positions: list[int]) -> None:
    found = run_colours(positions)
    assert len(set(found)) == min(len(positions), len(RUNS))
    if positions:
        assert found[0] == run_colour(positions[0])
    if len(set(position % len(RUNS) for position in positions)) == len(positions):
        assert found == [run_colour(position) for position in positions]


def test_a_run_has_its_colour_in_every_chart_of_its_job(table: AblationTable) -> None:
    own = {row.run.name: run_colour(row.run.position) for row in table.rows}
    assert len(set(own.values())) == len(own)
    rates, _ = ablation_tables.rates(table)
    for frame in (rates, ablation_tables.contrasts(table), tradeoffs.costs(table)):
        found = dict(zip(frame["name"], frame["colour"], strict=True))
        assert {name: colour for name, colour in found.items() if name != "Teacher"}.items() <= own.items()
    assert dict(zip(rates["name"], rates["colour"], strict=True))["Teacher"] == charts.TEACHER


def test_the_report_has_the_colours_of_the_pages(studio: Studio, table: AblationTable) -> None:
    style = (Path(page.__file__).parent / "report.css").read_text(encoding="utf-8")
    for place, colour in enumerate(RUNS):
        assert f"--r{place}: {colour.lower()};" in style
        assert f".r{place} {{ color: var(--r{place}); }}" in style
    assert f"--teacher: {charts.TEACHER.lower()};" in style
    from datetime import UTC, datetime

    shown = page.render(studio, table.job.id, notes="", clips=0, at=datetime(2026, 1, 1, tzinfo=UTC))
    for row in table.rows:
        assert f'class="mark student r{row.run.position}"' in shown or f"hollow r{row.run.position}" in shown
        assert f'class="line series r{row.run.position}"' in shown
