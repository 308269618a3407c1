"""Charts as SVG without a script: drawn once, shown by any browser, coloured by the page's own style.

Teacher and student keep the pair of colours and shapes that they have in the studio: a circle and a diamond, so that
neither colour nor shape is needed alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from core.reports.colours import RUNS

WIDTH = 640
LABELS = 190
"""Where the plot begins: names stand left of it."""

ROW = 30
RIGHT = 24
MOST_LETTERS = 27
MOST_DOTS = 600
"""Of each side of a map: more make the page slow to draw."""

MAP_HEIGHT = 420
LINES_HEIGHT = 240

Point = tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """A row of a chart: a name, a value, and its interval where it has one.

    Attributes:
        kind: "teacher" or "student", as the style has them.
        place: Of the run in its job, which gives the colour; None for what is no run of the job.
        hollow: The value is not more than chance.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = "student"
    hollow: bool = False
    place: int | None = None


def dots(rows: Sequence[Dot], *, label: str, unit: str, signed: bool = False) -> Markup:
    """Draw one row per value, with the value written beside its name.

    Args:
        rows: From top to bottom.
        label: What the chart shows, for people who do not see it; the values are added.
        unit: Under the axis.
        signed: Values are differences: they bear a sign, and zero has a line.
    """
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    ticks = _ticks(min([0.0, *ends]), max([0.0, *ends]))
    left, right = ticks[0], ticks[-1]
    height = ROW * len(rows) + 44

    def across(value: float) -> float:
        return LABELS + (value - left) / (right - left) * (WIDTH - LABELS - RIGHT)

    said = ", ".join(f"{row.name} {row.value:{'+' if signed else ''}.1f}" for row in rows)
    svg = _svg(height, f"{label}: {said}.")
    bottom = ROW * len(rows) + 6
    _axis(svg, ticks, across, top=4, bottom=bottom, unit=unit)
    if signed:
        _line(svg, (across(0), 4), (across(0), bottom), "zero")
    for place, row in enumerate(rows):
        y = ROW * place + ROW / 2 + 4
        name = row.name if len(row.name) <= MOST_LETTERS else f"{row.name[: MOST_LETTERS - 1]}…"
        value = f"{row.value:{'+' if signed else ''}.1f}".replace("-", "−")
        _text(svg, LABELS - 12, y + 4, f"{name} · {value}", "end")
        if row.low is not None and row.high is not None:
            _line(svg, (across(row.low), y), (across(row.high), y), f"whisker {_colour(row.place)}".strip())
        _mark(svg, (across(row.value), y), row.kind, 6, hollow=row.hollow, place=row.place)
    return _markup(svg)


def lines(
    series: Mapping[str, Sequence[Point]],
    *,
    label: str,
    unit: str,
    along: str = "step",
    most: float = math.inf,
    places: Mapping[str, int] | None = None,
) -> Markup:
    """Draw values over the steps of some runs, told apart by colour, dashes and a legend.

    Args:
        series: (step, value) by run, in the order of the legend; values that are not finite are left out.
        label: What the chart shows, for people who do not see it.
        unit: Of the values, above the axis.
        along: What the other axis counts.
        most: What the values cannot exceed, where there is such a number: the axis does not, either.
        places: Place of each run in its job, which gives its colour and dashes; by default in the order given.
    """
    places = places or {name: place for place, name in enumerate(series)}
    known = {name: [point for point in points if math.isfinite(point[1])] for name, points in series.items()}
    known = {name: points for name, points in known.items() if points}
    every = [point for points in known.values() for point in points]
    steps = _ticks(0.0, max([1.0, *(step for step, _ in every)]))
    values = [value for _, value in every]
    ticks = _ticks(min([math.inf, *values]), max([-math.inf, *values]), most)
    legend = 20 * math.ceil(len(known) / 2)
    height = LINES_HEIGHT + legend
    bottom = LINES_HEIGHT - 40

    def across(step: float) -> float:
        return 48 + (step - steps[0]) / (steps[-1] - steps[0]) * (WIDTH - 48 - RIGHT)

    def up(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - 24)

    last = ", ".join(f"{name} ends at {points[-1][1]:.3g}" for name, points in known.items())
    svg = _svg(height, f"{label}: {last}.")
    for tick in ticks:
        _line(svg, (48, up(tick)), (WIDTH - RIGHT, up(tick)), "grid")
        _text(svg, 42, up(tick) + 4, f"{tick:g}".replace("-", "−"), "end")
    for step in steps:
        _text(svg, across(step), bottom + 16, f"{step:g}", "middle")
    _text(svg, 0, 12, unit, "start")
    _text(svg, WIDTH - RIGHT, bottom + 32, along, "end")
    for place, (name, points) in enumerate(known.items()):
        kind = f"series {_colour(places[name])}"
        path = " ".join(f"{across(step):.1f},{up(value):.1f}" for step, value in points)
        SubElement(svg, "polyline", {"points": path, "class": f"line {kind}"})
        for step, value in points:
            SubElement(svg, "circle", {"cx": _n(across(step)), "cy": _n(up(value)), "r": "2.6", "class": f"dot {kind}"})
        x, y = 48 + (place % 2) * 300, LINES_HEIGHT + 20 * (place // 2) + 4
        _line(svg, (x, y - 4), (x + 26, y - 4), f"line {kind}")
        _text(svg, x + 34, y, name if len(name) <= 36 else f"{name[:35]}…", "start")
    return _markup(svg)


def alignment_map(
    student: Float[np.ndarray, "points 2"], teacher: Float[np.ndarray, "points 2"], *, label: str
) -> tuple[Markup, int]:
    """Draw student and teacher states on one map; return it and how many points of each side it shows.

    Args:
        student: Where the student's states lie.
        teacher: Where the teacher's states of the same points lie.
        label: What the map shows, for people who do not see it.
    """
    shown = np.linspace(0, len(student) - 1, min(MOST_DOTS, len(student))).round().astype(int)
    both = np.concatenate([student[shown], teacher[shown]]).astype(float)
    low, span = both.min(axis=0), float(np.ptp(both, axis=0).max()) or 1.0
    scale = min(WIDTH - 32, MAP_HEIGHT - 32) / span
    offset = (np.array([WIDTH, MAP_HEIGHT]) - np.ptp(both, axis=0) * scale) / 2
    places = (both - low) * scale + offset
    svg = _svg(MAP_HEIGHT, label)
    count = len(shown)
    joined = " ".join(
        f"M{_n(a[0])} {_n(a[1])}L{_n(b[0])} {_n(b[1])}" for a, b in zip(places[:count], places[count:], strict=True)
    )
    SubElement(svg, "path", {"d": joined, "class": "pair"})
    size = 4.5 if count <= 100 else 2.6
    for kind, at in (("teacher", places[count:]), ("student", places[:count])):
        for x, y in at:
            _mark(svg, (float(x), float(y)), kind, size)
    return _markup(svg), count


def _svg(height: float, label: str) -> Element:
    return Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "aria-label": label})


def _axis(
    svg: Element, ticks: Sequence[float], across: Callable[[float], float], *, top: float, bottom: float, unit: str
) -> None:
    for tick in ticks:
        _line(svg, (across(tick), top), (across(tick), bottom), "grid")
        _text(svg, across(tick), bottom + 16, f"{tick:g}".replace("-", "−"), "middle")
    _text(svg, WIDTH - RIGHT, bottom + 32, unit, "end")


def _colour(place: int | None) -> str:
    """Return the class that gives a run its colour."""
    return "" if place is None else f"r{place % len(RUNS)}"


def _mark(svg: Element, at: Point, kind: str, size: float, *, hollow: bool = False, place: int | None = None) -> None:
    x, y = at
    look = {"class": " ".join(filter(None, ("mark", kind, "hollow" if hollow else "", _colour(place))))}
    if kind == "teacher":
        SubElement(svg, "circle", {"cx": _n(x), "cy": _n(y), "r": _n(size), **look})
    else:
        corners = ((x, y - size * 1.25), (x + size * 1.25, y), (x, y + size * 1.25), (x - size * 1.25, y))
        SubElement(svg, "polygon", {"points": " ".join(f"{_n(a)},{_n(b)}" for a, b in corners), **look})


def _line(svg: Element, start: Point, end: Point, kind: str) -> None:
    ends = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
    SubElement(svg, "line", {**{name: _n(value) for name, value in ends.items()}, "class": kind})


def _text(svg: Element, x: float, y: float, text: str, anchor: str) -> None:
    SubElement(svg, "text", {"x": _n(x), "y": _n(y), "text-anchor": anchor}).text = text


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _ticks(low: float, high: float, most: float = math.inf) -> list[float]:
    """Return from three to eight round numbers that reach from the lowest to the highest, none above the most."""
    if not math.isfinite(low) or not math.isfinite(high):
        low, high = 0.0, 1.0
    elif high - low < 1e-9:
        low, high = (low, low + 1.0) if low + 1.0 <= most else (low - 1.0, low)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def _markup(svg: Element) -> Markup:
    # Names come from outside: ElementTree has escaped them.
    return Markup(tostring(svg, encoding="unicode"))
