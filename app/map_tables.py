"""Tables of the alignment page: points, neighbours and measures in, data frames out; no st.*."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from app import text
from core.alignment.results import FEWEST_UTTERANCES, has_spread
from core.runs import NEIGHBOURS, AlignmentRecord, MapPoints, ProbeUtterance, UtteranceResult

PRESETS = {
    "moved": "Moved most",
    "lost": "Teacher right, student wrong",
    "worst": "Worst WER",
    "better": "Student beats teacher",
}
"""Ways to order points, and to choose among them."""

MOST_ROWS = 500
"""So many points are listed; the others are found by their name."""

MEASURES = {
    "linear_cka": "Debiased linear CKA ↑",
    "rsa": "RSA ↑",
    "mutual_knn": "Shared neighbours ↑",
    "procrustes_residual": "Procrustes residual ↓",
    "geodesic_angle": "Angle of this layer pair ↓",
}


@dataclass(frozen=True)
class Heard:
    """What teacher and student made of the probe's utterances, by utterance; empty where nobody listened.

    Attributes:
        normaliser: Name of what made the words that were counted.
    """

    teacher: Mapping[str, UtteranceResult]
    student: Mapping[str, UtteranceResult]
    normaliser: str = ""


def labels(points: MapPoints, probe: Sequence[ProbeUtterance], level: str) -> list[str]:
    """Return a name for every point: its utterance, and its moment where it is one."""
    ids = [probe[place].id for place in points.utterance.tolist()]
    if level == "utterances":
        return ids
    return [f"{name}@{moment}" for name, moment in zip(ids, points.moment.tolist(), strict=True)]


def points(
    shown: MapPoints, probe: Sequence[ProbeUtterance], names: Sequence[str], heard: Heard, *, preset: str
) -> pd.DataFrame:
    """Return the points that a preset chooses, in its order: name, angle in degrees, both WER in percent, the text."""
    owners = [probe[place] for place in shown.utterance.tolist()]
    rates = {side: [_wer(getattr(heard, side).get(owner.id)) for owner in owners] for side in ("teacher", "student")}
    frame = pd.DataFrame(
        {
            "Point": list(names),
            "Angle": np.degrees(shown.angle.astype(float)),
            "Student": rates["student"],
            "Teacher": rates["teacher"],
            "Said": [owner.text for owner in owners],
        }
    ).astype({"Student": "float", "Teacher": "float"})
    if preset == "lost":
        frame = frame[(frame["Teacher"] == 0) & (frame["Student"] > 0)]
    elif preset == "better":
        frame = frame[frame["Student"] < frame["Teacher"]]
    elif preset == "worst":
        frame = frame[frame["Student"].notna()]
    by = {"lost": "Student", "worst": "Student", "better": "Teacher"}.get(preset)
    frame = pd.DataFrame(frame).sort_values(by="Angle", ascending=False, kind="stable")
    return frame if by is None else frame.sort_values(by=by, ascending=False, kind="stable")


def found(frame: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """Return the points whose name or text has some letters, large or small."""
    if not wanted.strip():
        return frame
    said = (frame["Point"] + " " + frame["Said"]).str.casefold()
    return frame.loc[said.str.contains(wanted.strip().casefold(), regex=False)]


def neighbours(shown: MapPoints, names: Sequence[str], place: int) -> tuple[pd.DataFrame, int]:
    """Return the nearest of a point in both spaces, those that only one of them has marked, and how many both have.

    Args:
        shown: The map.
        names: Of its points.
        place: Of the point.
    """
    teacher, student = shown.teacher_neighbours[place].tolist(), shown.student_neighbours[place].tolist()
    both = set(teacher) & set(student)
    frame = pd.DataFrame(
        {
            "Near the teacher": [f"{'=' if each in both else '−'} {names[each]}" for each in teacher],
            "Near the student": [f"{'=' if each in both else '+'} {names[each]}" for each in student],
        }
    )
    return frame, len(both)


def keeps(shown: MapPoints, *, trust: float | None) -> str:
    """Return how far a map can be trusted, as a sentence.

    Args:
        shown: The map; where all points of both sides are among the nearest of each, it is no merit to keep them.
        trust: Trustworthiness, where the map has none of its own.
    """
    trust = trust if shown.trustworthiness is None else shown.trustworthiness
    trusted = "" if trust is None else f"trustworthiness {text.decimal(trust, 2)}"
    if shown.kept is None or 2 * len(shown.angle) <= NEIGHBOURS + 1:
        return f" {trusted.capitalize()}." if trusted else ""
    beside = f" ({trusted})" if trusted else ""
    return f" This map keeps {text.percent(shown.kept, 0)} of the {NEIGHBOURS} nearest neighbours{beside}."


def close_up(shown: MapPoints, names: Sequence[str], place: int) -> pd.DataFrame:
    """Return where a point and its neighbours in either space lie; see `app.map_charts.close_up`."""
    rows = []
    for side, at, near in (
        ("Teacher", shown.teacher, shown.teacher_neighbours[place]),
        ("Student", shown.student, shown.student_neighbours[place]),
    ):
        for each in [*near.tolist(), place]:
            x, y = at[each].astype(float)
            rows.append({"x": x, "y": y, "side": side, "name": names[each], "chosen": each == place})
    return pd.DataFrame(rows)


def likeness(
    before: AlignmentRecord, now: AlignmentRecord, measured: Mapping[str, Mapping[str, float]] | None
) -> pd.DataFrame:
    """Return how alike one layer pair is, in words and numbers.

    Args:
        before: Of the first step.
        now: Of the step that is looked at.
        measured: Measures of this step by name, each with value, low, high, floor and ceiling, and floor_low and
            floor_high unless an older version made them; None while they wait.
    """
    rows: list[dict[str, Any]] = []
    for name, title in MEASURES.items():
        old, new = getattr(before, name, None), getattr(now, name, None)
        if measured is None and new is None:
            continue
        row = {"Measure": title, "Before": _value(name, old), f"Step {now.step}": _value(name, new)}
        if measured is not None:
            one = measured[name]
            row[f"Step {now.step}"] = _value(name, one["value"])
            row["95 % interval"] = f"{_value(name, one['low'])} to {_value(name, one['high'])}"
            row["Shuffled"] = _value(name, one["floor"])
            if one.get("floor_low") is not None:
                row["Shuffled"] += f" ({_value(name, one['floor_low'])} to {_value(name, one['floor_high'])})"
            row["Teacher itself"] = _value(name, one["ceiling"])
        rows.append(row)
    return pd.DataFrame(rows)


def how_compared(result: Mapping[str, Any]) -> str:
    """Return how intervals and what stands under "Shuffled" were made, as sentences."""
    if not has_spread(result):
        return (
            "Made by an older version: intervals from a bootstrap that may miss their own value, shuffled by single "
            "points, which makes unrelated speech look more unlike than it is."
        )
    return (
        "Intervals: 95 %, jackknife over utterances. Shuffled: each utterance beside another one of the teacher's, "
        "which is what unrelated speech gives: mean and range of 20 exchanges."
    )


def too_few(utterances: int) -> str:
    """Return what to think of a comparison of so few utterances, as a sentence; empty where there are enough."""
    if utterances >= FEWEST_UTTERANCES:
        return ""
    return (
        f"{utterances} utterances are too few to settle much, {FEWEST_UTTERANCES} or more are needed: intervals "
        "are wide, and unrelated speech looks alike, too, as Shuffled shows. Trust only what lies well outside of both."
    )


def layer_grid(grid: Mapping[str, Any], compared: Sequence[str]) -> pd.DataFrame:
    """Return a grid of layers, one row a cell; see `app.map_charts.layer_grid`.

    Args:
        grid: Of a comparison.
        compared: The run's pairs, "student-teacher".
    """
    return pd.DataFrame(
        [
            {"student": student, "teacher": teacher, "cka": value, "compared": f"{student}-{teacher}" in compared}
            for student, row in zip(grid["student_layers"], grid["cka"], strict=True)
            for teacher, value in zip(grid["teacher_layers"], row, strict=True)
        ]
    )


def _value(name: str, value: float | None) -> str:
    if name == "geodesic_angle":
        return text.degrees(value)
    return text.percent(value, 0) if name == "mutual_knn" else text.decimal(value, 2)


def _wer(result: UtteranceResult | None) -> float | None:
    return None if result is None else 100 * result.errors / max(1, result.words)
