"""Figures of the alignment page: the map, a look at one point of it, and the grid of layers; no Streamlit here.

Teacher and student have the colours and shapes that `app.charts` gives them.
"""

import math
from collections.abc import Sequence
from html import escape

import altair as alt
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts import NEUTRAL, STUDENT, TEACHER

MOST_LINES = 200
"""So many lines between a student state and its teacher state are drawn at most, of the pairs furthest apart."""

MOST_NAMED = 2000
"""Of more points the names are not sent: they would be most of the page."""

MARGIN = 0.05
"""Of the map's width, left free around it."""


def alignment_map(
    *,
    student: np.ndarray,
    teacher: np.ndarray,
    apart: np.ndarray,
    labels: Sequence[str],
    extent: np.ndarray,
    what: str = "utterance",
) -> go.Figure:
    """Draw student and teacher states on one map, thin lines between the pairs that are furthest apart.

    The figure depends on its arguments alone: the page shows a selection beside it, never in it, so that
    zoom and selection survive a rerun.

    Args:
        student: Positions, one row of two per point.
        teacher: Positions of the same points.
        apart: How far the two states of each point are apart, before the map.
        labels: Name of each point, shown as it is when it is pointed at, where there are few.
        extent: Smallest and largest x and y, rows of two: maps that follow each other share them.
        what: What a point is, for the text that stands for the picture.
    """
    student, teacher = np.asarray(student, dtype=np.float32), np.asarray(teacher, dtype=np.float32)
    named = len(labels) <= MOST_NAMED
    figure = go.Figure()
    lines = _lines(student, teacher, apart)
    figure.add_trace(
        go.Scattergl(
            x=lines[:, 0],
            y=lines[:, 1],
            mode="lines",
            line={"color": NEUTRAL, "width": 0.7},
            opacity=0.45,
            hoverinfo="skip",
            showlegend=False,
        )
    )
    size = 9 if len(labels) <= 400 else 5 if named else 3
    for name, at, colour, symbol in (
        ("Teacher", teacher, TEACHER, "circle"),
        ("Student", student, STUDENT, "diamond"),
    ):
        figure.add_trace(
            go.Scattergl(
                x=at[:, 0],
                y=at[:, 1],
                mode="markers",
                name=name,
                marker={"color": colour, "symbol": symbol, "size": size, "opacity": 0.8 if named else 0.6},
                customdata=[escape(label, quote=False) for label in labels] if named else None,
                hovertemplate=f"{name} · {what} %{{{'customdata' if named else 'pointNumber'}}}<extra></extra>",
            )
        )
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "title": {"text": ""}}
    low, high = np.asarray(extent, dtype=float)
    free = MARGIN * float(max(*(high - low), 1e-6))
    figure.update_layout(
        height=480,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "itemsizing": "constant"},
        xaxis={**hidden, "range": [low[0] - free, high[0] + free]},
        yaxis={**hidden, "range": [low[1] - free, high[1] + free], "scaleanchor": "x"},
        dragmode="pan",
        uirevision="map",
    )
    return figure


def _lines(student: np.ndarray, teacher: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Return the lines of the pairs that are furthest apart: teacher, student, gap, and so on."""
    furthest = np.sort(np.argsort(-apart, kind="stable")[:MOST_LINES])
    gap = np.full((len(furthest), 2), np.nan, dtype=np.float32)
    return np.stack([teacher[furthest], student[furthest], gap], axis=1).reshape(-1, 2)


def close_up(points: pd.DataFrame, path: pd.DataFrame, *, description: str) -> alt.LayerChart | alt.FacetChart:
    """Draw one point of the map with its neighbours: what the map itself must not show.

    Args:
        points: Columns ``x``, ``y``, ``side`` ("Teacher" or "Student"), ``name`` and ``chosen`` (bool).
        path: Columns ``x``, ``y`` and ``order``: from the teacher's state to the student's, or the student's way
            over the steps.
        description: What the chart shows, for people who do not see it.
    """
    hidden = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
    x = alt.X("x:Q", title=None, axis=hidden, scale=alt.Scale(zero=False, padding=12))
    y = alt.Y("y:Q", title=None, axis=hidden, scale=alt.Scale(zero=False, padding=12))
    scales = {
        "color": alt.Color(
            "side:N",
            title=None,
            scale=alt.Scale(domain=["Teacher", "Student"], range=[TEACHER, STUDENT]),
            legend=alt.Legend(orient="bottom"),
        ),
        "shape": alt.Shape(
            "side:N", title=None, scale=alt.Scale(domain=["Teacher", "Student"], range=["circle", "diamond"])
        ),
    }
    line = alt.Chart(path).mark_line(color=NEUTRAL, strokeWidth=1.5).encode(x=x, y=y, order="order:Q")
    dots = (
        alt.Chart(points)
        .mark_point(filled=True)
        .encode(
            x=x,
            y=y,
            **scales,
            size=alt.condition("datum.chosen", alt.value(220), alt.value(50)),
            opacity=alt.condition("datum.chosen", alt.value(1), alt.value(0.55)),
            tooltip=[alt.Tooltip("side:N", title="Side"), alt.Tooltip("name:N", title="Point")],
        )
    )
    return alt.layer(line, dots).properties(height=220, description=description)


CELLS = ("#F3F7FB", "#1F66AE")
"""Colours of a cell of the grid for 0 and for 1; between them each channel goes straight."""

INKS = ("#000000", "#FFFFFF")
"""Of these two, one has a contrast of 4.5 at least to any colour."""


def cell_colour(share: float) -> str:
    """Return the colour of a cell of the grid, as the chart's scale draws it."""
    at = min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0
    low, high = ([int(end[place : place + 2], 16) for place in (1, 3, 5)] for end in CELLS)
    return "#" + "".join(f"{round(start + at * (end - start)):02X}" for start, end in zip(low, high, strict=True))


def ink(background: str) -> str:
    """Return the colour of a text that stands out most from its background; colours as #RRGGBB."""
    return max(INKS, key=lambda colour: contrast(colour, background))


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, from 1 to 21 (WCAG 2.2, relative luminance of sRGB)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def layer_grid(frame: pd.DataFrame, *, description: str) -> alt.LayerChart | alt.FacetChart:
    """Draw how alike every student layer is to every teacher layer, the number in each cell.

    Args:
        frame: Columns ``student`` and ``teacher`` (layers), ``cka``, and ``compared`` (whether the run pairs them).
        description: What the chart shows, for people who do not see it.
    """
    frame = frame.assign(ink=[ink(cell_colour(value)) for value in frame["cka"]])
    base = alt.Chart(frame).encode(
        x=alt.X("teacher:O", title="Teacher layer", axis=alt.Axis(labelAngle=0, orient="bottom")),
        y=alt.Y("student:O", title="Student layer", sort="descending"),
    )
    # From nearly white to blue in both themes: a cell brings its own background for its number.
    scale = alt.Scale(domain=[0, 1], range=list(CELLS), clamp=True, interpolate="rgb")
    colour = alt.Color("cka:Q", scale=scale, legend=None)
    cells = base.mark_rect(stroke=STUDENT).encode(
        color=colour,
        strokeWidth=alt.condition("datum.compared", alt.value(2.5), alt.value(0)),
        tooltip=[
            alt.Tooltip("student:O", title="Student layer"),
            alt.Tooltip("teacher:O", title="Teacher layer"),
            alt.Tooltip("cka:Q", title="CKA", format=".3f"),
        ],
    )
    small = len(frame) > 150
    numbers = base.mark_text(fontSize=9 if small else 12).encode(
        text=alt.Text("cka:Q", format=".1f" if small else ".2f"), color=alt.Color("ink:N", scale=None)
    )
    rows = frame["student"].nunique()
    # One scale for both would be none: the ink of a number is a colour already.
    both = alt.layer(cells, numbers).resolve_scale(color="independent")
    return both.properties(height=60 + max(80, 34 * rows), description=description)
