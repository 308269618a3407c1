"""Figures: data in, figure out. No Streamlit here, and nothing that depends on the time or on chance.

Teacher and student always have the same pair of colours (blue and vermilion, distinct for every kind of
colour vision, with at least 3:1 contrast on the light and on the dark background) and the same pair of
shapes (circle and diamond), so that neither colour nor shape is needed alone.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import altair as alt
import pandas as pd

from app import labels

TEACHER = "#2F7FD1"
STUDENT = "#D55E00"
NEUTRAL = "#7A858C"

Layers = alt.LayerChart | alt.FacetChart
"""What Altair says that it makes of layers."""

MOST_POINTS_OF_A_CURVE = 500

SMALL = 210
"""Height of a small chart with its axis and its legend, in pixels: charts in a row end on one line."""

MOST_NAMED = 10
"""Series that a legend names; it would be larger than the chart of more. Of those, the pointer tells the name."""

MOST_POINTS = 3000
"""Of all series of a chart together: a browser draws no more of them at once."""

TERMS = ("#0E9F7E", "#A65FB5", "#B8860B", NEUTRAL, "#0891B2", "#C2410C", "#7C6FE0", "#5F8A1E", "#C2417E", "#A1694B")
"""Colours of the terms of an objective, none of them the teacher's or the student's."""


def colours(terms: Sequence[str], *, run: str = STUDENT) -> dict[str, str]:
    """Return the colour of each term of a run: the same in all its charts, whenever the term sets in.

    Args:
        terms: In the order of the objective.
        run: Colour of the run, which no term has.
    """
    free = [colour for colour in TERMS if colour != run]
    return {term: free[place % len(free)] for place, term in enumerate(terms)}


def curve(
    frame: pd.DataFrame,
    *,
    description: str,
    height: int = SMALL,
    markers: bool = False,
    colour: str = STUDENT,
    last_step: int | None = None,
    series: Sequence[str] = (),
    palette: Sequence[str] = (),
) -> Layers:
    """Draw one or a few series over the steps of a run.

    Args:
        frame: Columns ``step``, ``series`` (label) and ``value``, thinned; see `thinned`.
        description: What the chart shows, for people who do not see it.
        height: In pixels, axis and legend included.
        markers: Whether to mark each value, for series of few values.
        colour: Of the first series.
        last_step: Where the axis ends, so that charts of one run can be compared; None ends it with the series.
        series: All series of the page, so that each has its colour and its dashes in every chart; by default those of
            the frame.
        palette: Their colours, where it is not the first one's and those of terms.
    """
    frame = thinned(frame)
    names = list(series) or list(dict.fromkeys(frame["series"]))
    palette = list(palette) or [colour, *(term for term in TERMS if term != colour)]
    base = alt.Chart(frame).encode(
        x=_steps(last_step),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=3)),
        color=alt.Color(
            "series:N",
            title=None,
            scale=alt.Scale(domain=names, range=palette[: len(names)]),
            legend=_legend(names, symbolType="stroke") if 1 < len(names) <= MOST_NAMED else None,
        ),
        tooltip=[
            alt.Tooltip("series:N", title="Curve"),
            alt.Tooltip("step:Q", title="Step"),
            alt.Tooltip("value:Q", title="Value", format=".4~g"),
        ],
    )
    line = base.mark_line(strokeWidth=1.75).encode(
        strokeDash=alt.StrokeDash("series:N", legend=None, scale=alt.Scale(domain=names, range=_dashes(len(names))))
    )
    spots = base.mark_point(filled=True, size=46, shape="diamond") if markers else base.mark_point(opacity=0, size=60)
    return alt.layer(line, spots).properties(height=height, padding=_PADDING, description=description)


def shares(
    frame: pd.DataFrame,
    *,
    description: str,
    height: int = SMALL,
    palette: Mapping[str, str] | None = None,
    last_step: int | None = None,
) -> alt.Chart:
    """Draw which share of the objective each term has over the steps, stacked to one.

    Args:
        frame: Columns ``step``, ``series`` (term) and ``value`` (fraction); a term without a value at a step has none.
        description: What the chart shows, for people who do not see it.
        height: In pixels, axis and legend included.
        palette: Colour of each term.
        last_step: Where the axis ends; None ends it with the series.
    """
    names = list(dict.fromkeys(frame["series"]))
    palette = palette or colours(names)
    frame = thinned(_at_every_step(frame))
    return (
        alt.Chart(frame)
        .mark_area(opacity=0.85)
        .encode(
            x=_steps(last_step),
            y=alt.Y("value:Q", title=None, stack="normalize", axis=alt.Axis(labelExpr=_PERCENT, tickCount=4)),
            color=alt.Color(
                "series:N",
                title=None,
                scale=alt.Scale(domain=names, range=[palette[name] for name in names]),
                legend=_legend(names),
            ),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("series:N", title="Term"),
                alt.Tooltip("step:Q", title="Step"),
                alt.Tooltip("percent:Q", title="Share, %", format=".1f"),
            ],
        )
        .transform_calculate(percent="100 * datum.value")
        .properties(height=height, padding=_PADDING, description=description)
    )


def _steps(last_step: int | None) -> alt.X:
    scale = alt.Scale() if last_step is None else alt.Scale(domain=[0, last_step], nice=False)
    return alt.X("step:Q", title=None, scale=scale, axis=alt.Axis(grid=False, tickCount=4, format="d"))


def _at_every_step(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a value of each series at every step of any of them, 0 where it has none: only so can areas be stacked."""
    names = list(dict.fromkeys(frame["series"]))
    wide = frame.pivot_table(index="step", columns="series", values="value", fill_value=0.0)[names]
    filled = wide.reset_index().melt(id_vars="step", value_name="value")
    return filled.assign(place=filled["series"].map(names.index))


_PADDING = {"left": 0, "right": 4, "top": 5, "bottom": 5}
"""An axis ends with its last label, which may be a little wider than it was taken for."""


def _legend(names: Sequence[str], **fields: Any) -> alt.Legend:
    """Return a legend below a chart, in as many columns as a phone is wide enough for."""

    def width(columns: int) -> float:
        return sum(5 * max(map(len, names[place::columns])) + 24 for place in range(columns))

    columns = next((number for number in (3, 2) if width(min(number, len(names))) <= _ON_A_PHONE), 1)
    return alt.Legend(
        orient="bottom",
        columns=columns,
        labelFontSize=11,
        labelLimit=_ON_A_PHONE - 24,
        symbolSize=70,
        offset=4,
        **fields,
    )


_ON_A_PHONE = 280
"""Pixels that a legend has there."""


def most_points(series: int) -> int:
    """Return how many points each of some series has at most."""
    return min(MOST_POINTS_OF_A_CURVE, MOST_POINTS // max(1, series))


def thinned(frame: pd.DataFrame) -> pd.DataFrame:
    """Return at most 500 rows of each series, fewer where there are many, evenly spread, always with its last."""
    kept, most = [], most_points(len(set(frame["series"])))
    for _, series in frame.groupby("series", sort=False):
        every = -(-len(series) // most)
        kept.append(series.iloc[::-1].iloc[::every].iloc[::-1])
    return pd.concat(kept) if kept else frame


def rates(frame: pd.DataFrame, *, description: str) -> alt.Chart:
    """Draw word error rates as dots, one row per model.

    Args:
        frame: Columns ``name``, ``role`` ("Teacher", "Ensemble" or "Student"), ``wer`` in percent and ``colour``; rows
            in order.
        description: What the chart shows, for people who do not see it.
    """
    roles = ["Teacher", "Ensemble", "Student"]
    shape = alt.Scale(domain=roles, range=["circle", "square", "diamond"])
    # The rate stands in the row's name: an axis takes the theme's colour for text, a mark does not.
    frame = frame.assign(name=[f"{name} · {wer:.1f} %" for name, wer in zip(frame["name"], frame["wer"], strict=True)])
    return (
        alt.Chart(frame)
        .mark_point(filled=True, size=120, opacity=1)
        .encode(
            x=alt.X("wer:Q", title="WER, %, lower is better", scale=alt.Scale(zero=True, nice=True)),
            y=_rows(frame),
            # The rows' names tell what each is; a legend would say it again.
            color=_OWN,
            shape=alt.Shape("role:N", scale=shape, legend=None),
            tooltip=[alt.Tooltip("name:N", title="Model, WER")],
        )
        .properties(height=_height(frame), padding=_PADDING, description=description)
    )


def contrasts(frame: pd.DataFrame, *, description: str) -> Layers:
    """Draw how far each run is from the baseline: a dot with its interval, filled where it is more than chance.

    Args:
        frame: Columns ``name``, ``difference``, ``low`` and ``high`` in points, ``verdict`` (words), ``clear`` and
            ``colour``.
        description: What the chart shows, for people who do not see it.
    """
    base = alt.Chart(frame).encode(
        y=_rows(frame),
        tooltip=[
            alt.Tooltip("name:N", title="Run"),
            alt.Tooltip("difference:Q", title="Points", format="+.1f"),
            alt.Tooltip("low:Q", title="from", format="+.1f"),
            alt.Tooltip("high:Q", title="to", format="+.1f"),
            alt.Tooltip("verdict:N", title="Verdict"),
        ],
    )
    zero = alt.Chart(pd.DataFrame({"at": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[4, 3]).encode(x="at:Q")
    title = "WER points, left of 0 is better"
    whiskers = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q", color=_OWN)
    dots = base.mark_point(shape="diamond", size=120, opacity=1, strokeWidth=2).encode(
        x=alt.X("difference:Q", title=title), color=_OWN, fill=_filled("datum.clear")
    )
    return alt.layer(zero, whiskers, dots).properties(height=_height(frame), padding=_PADDING, description=description)


_PERCENT = "format(100 * datum.value, '.0f') + ' %'"
"""A share on an axis, written as percentages are everywhere else."""

_OWN = alt.Color("colour:N", scale=None, legend=None)
"""Each has the colour that stands in its row."""


def _filled(where: str) -> Any:
    own = alt.Fill("colour:N", scale=None, legend=None)
    return alt.condition(where, own, alt.value("transparent"))


def tradeoff(frame: pd.DataFrame, *, x: str, title: str, description: str, digits: str = ".4~g") -> Layers:
    """Draw word error rates against what they cost or go with; all are named, those that none beats filled and joined.

    Where there is no room for a name stands a number; `numbered` tells whose.

    Args:
        frame: At least one row; columns ``name``, ``wer`` in percent, ``colour`` and the one of the abscissa; ``low``
            and ``high`` are drawn where they are there, and so is ``best`` (whether no other is cheaper and better):
            rows then go by rising cost.
        x: Column of the abscissa.
        title: Of the abscissa.
        digits: How its numbers are written, as d3 has it.
        description: What the chart shows, for people who do not see it.
    """
    across, up = _domain(frame[x].tolist()), _domain(_rates_of(frame))
    base = alt.Chart(_named(frame, x)).encode(
        x=alt.X(f"{x}:Q", title=title, scale=_fixed(across), axis=alt.Axis(tickCount=4, format=digits)),
        tooltip=[
            alt.Tooltip("name:N", title="Run"),
            alt.Tooltip("wer:Q", title="WER %", format=".1f"),
            alt.Tooltip(f"{x}:Q", title=title, format=".4~g"),
        ],
    )
    rate = alt.Y("wer:Q", title="WER, %", scale=_fixed(up))
    layers: list[alt.Chart] = []
    if "low" in frame:
        low = alt.Y("low:Q", title="WER, %", scale=_fixed(up))
        layers.append(base.mark_rule(strokeWidth=2).encode(y=low, y2="high:Q", color=_OWN))
    dots = base.mark_point(shape="diamond", size=110, opacity=1, strokeWidth=2).encode(y=rate, color=_OWN)
    if "best" in frame:
        front = base.transform_filter("datum.best").mark_line(
            color=NEUTRAL, strokeDash=[4, 3], interpolate="step-after"
        )
        layers.append(front.encode(y=rate))
        dots = dots.encode(fill=_filled("datum.best"))
    # The page's style gives them the colour of its text. Where the plot is narrower than any place was sought for,
    # there are none.
    names = base.transform_filter("datum.label").mark_text(
        align=alt.expr("datum.end"),
        dx=alt.expr("datum.right"),
        dy=alt.expr("datum.below"),
        baseline="middle",
        fontSize=11,
        color=NEUTRAL,
        opacity=alt.expr(f"width < {labels.WIDTHS[0]} ? 0 : 1"),
    )
    layers += [dots, names.encode(y=rate, text="label:N").properties(name="names")]
    return alt.layer(*layers).properties(height=_TRADEOFF, padding=_PADDING, description=description)


_TRADEOFF = 260
_MOST_LETTERS = 22


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """Return where an axis begins and ends: no dot but of 0 is at its edge, and below the lowest a name has room."""
    low, high = min(values), max(values)
    room = 0.17 * (high - low) or 0.1 * abs(high) or 1.0
    return max(0.0, low - room) if low >= 0 else low - room, high + room


def _fixed(domain: tuple[float, float]) -> alt.Scale:
    return alt.Scale(domain=list(domain), zero=False, nice=False)


def numbered(frame: pd.DataFrame, x: str) -> dict[int, str]:
    """Return the names that have no room in a chart of `tradeoff`, by the number that stands for each."""
    named = _named(frame, x)
    return {int(number): name for number, name in zip(named["label"], named["name"], strict=True) if number.isdecimal()}


def _named(frame: pd.DataFrame, x: str) -> pd.DataFrame:
    """Return rows with a ``label`` and its place: the name, or where there is no room for it, a number.

    A name of digits alone would look like such a number, so that it gets one.
    """
    across, up = _domain(frame[x].tolist()), _domain(_rates_of(frame))

    def spot(cost: float, rate: float) -> labels.Spot:
        return (cost - across[0]) / (across[1] - across[0]), (up[1] - rate) / (up[1] - up[0])

    spots = [spot(*each) for each in zip(frame[x], frame["wer"], strict=True)]
    front = [number for number, best in enumerate(frame["best"]) if best] if "best" in frame else []
    # The front first, and of both the best first: they have the best of the places.
    order = sorted(range(len(frame)), key=lambda number: (number not in front, frame["wer"].iloc[number]))
    names = {number: _short(frame["name"].iloc[number]) for number in order}
    lines: list[labels.Box] = []
    for (left, top), (right, bottom) in pairwise(spots[number] for number in front):
        lines += [(left, top, right, top), (right, top, right, bottom)]
    if "low" in frame:
        ends = zip(frame[x], frame["high"], frame["low"], strict=True)
        lines += [(*spot(cost, high), *spot(cost, low)) for cost, high, low in ends]
    wordy = {number: name for number, name in names.items() if not name.strip().isdecimal()}
    found = labels.places(spots, wordy, lines)
    # Numbers go from the left to the right.
    left_over = sorted(set(names) - set(found), key=lambda number: (spots[number], number))
    said = {number: wordy[number] for number in found} | {number: str(n) for n, number in enumerate(left_over, 1)}
    # Once more with the numbers: they take less room than any name, and no name loses its place.
    found = labels.places(
        spots, {**{n: said[n] for n in names if n in found}, **{n: said[n] for n in left_over}}, lines
    )
    at = [found.get(number, labels.PLACES[0]) for number in range(len(frame))]
    return frame.assign(
        label=[said[number] for number in range(len(frame))],
        end=[place.end for place in at],
        right=[place.right for place in at],
        below=[place.below for place in at],
    )


def _rates_of(frame: pd.DataFrame) -> list[float]:
    return [value for column in ("wer", "low", "high") if column in frame for value in frame[column]]


def _short(name: str) -> str:
    """Return a name without its middle where it is long: names that begin alike often end differently."""
    half = _MOST_LETTERS // 2
    return name if len(name) <= _MOST_LETTERS else f"{name[: half - 1].rstrip()}…{name[-half:].lstrip()}"


def _rows(frame: pd.DataFrame) -> alt.Y:
    axis = alt.Axis(labelLimit=190, ticks=False, domain=False)
    return alt.Y("name:N", sort=list(frame["name"]), title=None, axis=axis)


def _height(frame: pd.DataFrame) -> int:
    return 34 * len(frame) + 70


def _dashes(number: int) -> list[list[int]]:
    return [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3]][:number]
