"""Points, neighbours and measures as tables, on a map of four points that is made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from app import map_tables
from app.map_tables import Heard
from core.runs import MapPoints, ProbeUtterance, UtteranceResult

PROBE = [
    ProbeUtterance(f"u{place}", said, "", None, 1.0, "development")
    for place, said in enumerate(("A cat", "no", "so", "a Cat"))
]
NAMES = ["u0", "u1", "u2", "u3"]


def shown() -> MapPoints:
    at = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], dtype=np.float32)
    return MapPoints(
        student=at,
        teacher=at + 1,
        utterance=np.arange(4),
        moment=np.full(4, -1),
        angle=np.array([0.1, 0.4, 0.2, 0.3]),
        student_neighbours=np.array([[1, 2], [0, 2], [1, 3], [2, 1]]),
        teacher_neighbours=np.array([[2, 3], [0, 2], [3, 1], [2, 1]]),
        kept=None,
        trustworthiness=None,
        extent=np.array([[0, 0], [4, 1]]),
    )


def result(place: int, errors: int) -> UtteranceResult:
    return UtteranceResult(f"u{place}", place, "a b c d", "", errors, 0, 0, 4, None, 1.0, "")


HEARD = Heard(
    {f"u{place}": result(place, errors) for place, errors in enumerate((0, 0, 2, 1))},
    {f"u{place}": result(place, errors) for place, errors in enumerate((0, 3, 1, 4))},
)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("moved", ["u1", "u3", "u2", "u0"]),
        ("lost", ["u1"]),
        ("worst", ["u3", "u1", "u2", "u0"]),
        ("better", ["u2"]),
    ],
)
def test_a_preset_chooses_its_points_in_its_order(preset: str, expected: list[str]) -> None:
    frame = map_tables.points(shown(), PROBE, NAMES, HEARD, preset=preset)
    assert list(frame["Point"]) == expected


def test_points_have_their_angle_in_degrees_and_rates_in_percent() -> None:
    row = map_tables.points(shown(), PROBE, NAMES, HEARD, preset="moved").iloc[0]
    assert (row["Angle"], row["Student"], row["Teacher"]) == pytest.approx((np.degrees(0.4), 75, 0))


@pytest.mark.parametrize("preset", list(map_tables.PRESETS))
def test_where_nobody_listened_only_moves_are_listed(preset: str) -> None:
    frame = map_tables.points(shown(), PROBE, NAMES, Heard({}, {}), preset=preset)
    assert len(frame) == (4 if preset == "moved" else 0)


def test_points_are_found_by_letters_of_any_size_in_their_name_or_text() -> None:
    frame = map_tables.points(shown(), PROBE, NAMES, HEARD, preset="moved")
    assert list(map_tables.found(frame, " CAT ")["Point"]) == ["u3", "u0"]
    assert list(map_tables.found(frame, "u2")["Point"]) == ["u2"]
    assert list(map_tables.found(frame, "(")["Point"]) == []
    assert len(map_tables.found(frame, " ")) == 4


def test_neighbours_that_changed_are_marked() -> None:
    frame, shared = map_tables.neighbours(shown(), NAMES, 0)
    assert shared == 1
    assert list(frame["Near the teacher"]) == ["= u2", "− u3"]
    assert list(frame["Near the student"]) == ["+ u1", "= u2"]


def test_a_close_up_has_the_point_and_its_neighbours_on_their_own_side() -> None:
    frame = map_tables.close_up(shown(), NAMES, 0)
    assert list(frame.loc[frame["chosen"], "side"]) == ["Teacher", "Student"]
    assert list(frame.loc[frame["side"] == "Teacher", "name"]) == ["u2", "u3", "u0"]
    assert frame.loc[(frame["side"] == "Student") & (frame["name"] == "u2"), "x"].item() == 2


def test_a_moment_is_part_of_a_points_name() -> None:
    points = shown()
    assert map_tables.labels(points, PROBE, "points")[1] == "u1@-1"
    assert map_tables.labels(points, PROBE, "utterances") == NAMES


def test_a_map_of_few_points_does_not_boast_of_the_neighbours_that_it_cannot_lose() -> None:
    few = replace(shown(), kept=1.0, trustworthiness=0.75)
    many = replace(few, angle=np.zeros(16), kept=0.8)
    assert map_tables.keeps(few, trust=None) == " Trustworthiness 0.75."
    assert map_tables.keeps(many, trust=None) == (
        " This map keeps 80 % of the 15 nearest neighbours (trustworthiness 0.75)."
    )
    assert map_tables.keeps(replace(few, trustworthiness=None), trust=0.5) == " Trustworthiness 0.50."
    unknown = replace(many, trustworthiness=None)
    assert map_tables.keeps(unknown, trust=None) == " This map keeps 80 % of the 15 nearest neighbours."


def test_what_shuffled_means_and_how_few_utterances_there_are_is_said() -> None:
    older = {"value": 0.6, "low": 0.5, "high": 0.7, "floor": 0.4, "ceiling": 1.0}
    measured = {**older, "floor_low": 0.3, "floor_high": 0.5}
    assert "jackknife over utterances" in map_tables.how_compared({"pairs": {"0-0": {"rsa": measured}}})
    assert "older version" in map_tables.how_compared({"pairs": {"0-0": {"rsa": older}}})
    assert map_tables.too_few(16).startswith("16 utterances are too few")
    assert map_tables.too_few(30) == ""
