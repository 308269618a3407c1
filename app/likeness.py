"""How alike teacher and student are, in numbers: now with intervals, over the steps, and layer by layer."""

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import charts, map_charts, map_tables, parts, state, text
from core.alignment.results import has_spread
from core.reports.colours import run_colour
from core.runs import AlignmentRecord, ComparisonRecord


def show(own: Sequence[AlignmentRecord], now: AlignmentRecord, *, asks: bool = True) -> None:
    """Show the measures of one layer pair and the grid of all layers.

    Args:
        own: Of the pair, at all its steps.
        now: Of the step that is looked at.
        asks: Whether states are there from which intervals and the grid can be computed; those that are known are
            shown anyway.
    """
    st.header("How alike")
    left, right = st.columns([3, 2], gap="large")
    with left:
        compared = _compared(now, asks=asks)
        _measures(own, now, compared)
    with right:
        _over_steps(sorted(own, key=lambda item: item.step))
    if compared is not None and compared.result is not None:
        _grid(compared, now)


def _compared(now: AlignmentRecord, *, asks: bool) -> ComparisonRecord | None:
    """Return the comparison of the step that is looked at, asking for it once; say where it waits or failed."""
    known = _known(now)
    if not asks:
        return known if known is not None and known.state == "finished" else None
    # What failed is asked for again by a button only; what an older version found, at once.
    older = known is not None and known.result is not None and not has_spread(known.result)
    record = _request(now) if known is None or older else known
    if record.state == "finished":
        return record
    if record.state == "failed":
        st.error(text.plain(record.message), icon=":material/error:")
        if st.button("Compare again", icon=":material/refresh:"):
            _request(now)
            st.rerun()
        return None
    asked = record.id

    def part() -> bool:
        st.caption(":material/hourglass_top: Intervals, floors and the grid of layers are being computed.")
        return state.studio().store.comparison(asked).state in ("finished", "failed")

    state.live(part, seconds=1.0)
    return None


def _known(now: AlignmentRecord) -> ComparisonRecord | None:
    wanted = (now.side, now.step, now.teacher_number)
    found = state.studio().store.comparisons(now.run_id)
    return next((item for item in found if (item.side, item.step, item.teacher_number) == wanted), None)


def _request(now: AlignmentRecord) -> ComparisonRecord:
    studio = state.studio()
    return studio.request_comparison(now.run_id, now.side, now.step, teacher_number=now.teacher_number)


def _measures(own: Sequence[AlignmentRecord], now: AlignmentRecord, compared: ComparisonRecord | None) -> None:
    before = min(own, key=lambda item: item.step)
    result = compared.result if compared is not None else None
    measured = None if result is None else result["pairs"].get(f"{now.student_layer}-{now.teacher_layer}")
    frame = map_tables.likeness(before, now, measured)
    parts.table(frame, alt="Measures of alignment before and at the chosen step", numbers=list(frame.columns[1:]))
    count = f"{text.count(now.points)} pairs of states" if result is None else _count(result)
    st.caption(
        f"{count}. The angle is that of this layer pair where the losses compare it, after the projection, mean over "
        f"the points; all else is of the states as they are. CKA is linear and debiased (Song et al. 2012); neighbours "
        f"are the {now.neighbours} nearest." + ("" if result is None else f" {map_tables.how_compared(result)}")
    )
    few = "" if result is None else map_tables.too_few(result["utterances"])
    if few:
        st.caption(f":material/warning: {few}")


def _count(result: dict[str, int]) -> str:
    points, total = text.count(result["points"]), text.count(result["points_total"])
    shown = f"{points} of {total}" if points != total else points
    return f"{shown} pairs of states of {text.count(result['utterances'])} utterances"


def _over_steps(own: Sequence[AlignmentRecord]) -> None:
    """Show the measures that every step has."""
    if len(own) < 2:
        return
    colour = run_colour(state.studio().store.run(own[0].run_id).position)
    for title, values in (
        ("Debiased linear CKA ↑", [item.linear_cka for item in own]),
        ("Angle of this layer pair, ° ↓", [math.degrees(item.geodesic_angle) for item in own]),
        ("Shared neighbours % ↑", [100 * item.mutual_knn for item in own]),
    ):
        data = pd.DataFrame({"step": [item.step for item in own], "series": title, "value": values}).dropna()
        if data.empty:
            continue
        about = f"{title} over the steps, from {data['value'].iloc[0]:.3g} to {data['value'].iloc[-1]:.3g}"
        st.markdown(f"**{title}**")
        st.altair_chart(
            charts.curve(data, description=about, markers=True, height=110, colour=colour), key=f"over:{title}"
        )


def _grid(compared: ComparisonRecord, now: AlignmentRecord) -> None:
    assert compared.result is not None
    grid, pairs = compared.result["grid"], list(compared.result["pairs"])
    frame = map_tables.layer_grid(grid, pairs)
    st.markdown(f"**Debiased linear CKA of every {now.side} layer, step {compared.step}**")
    best = frame.loc[frame["cka"].idxmax()]
    st.altair_chart(
        map_charts.layer_grid(
            frame,
            description=(
                f"Grid of {len(grid['student_layers'])} student by {len(grid['teacher_layers'])} teacher layers; "
                f"most alike are student {best['student']} and teacher {best['teacher']}, {best['cka']:.2f}"
            ),
        )
    )
    st.caption("Framed: the pairs that the run compares.")
