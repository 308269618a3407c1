"""Names beside dots: none on a dot, on another name, or over an edge."""

from itertools import combinations
from math import hypot

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from app import charts, labels

fractions = st.floats(0.05, 0.95)
named = st.lists(st.tuples(fractions, fractions, st.text("abcdefgh +", min_size=1, max_size=22)), max_size=9)


def box(spot: labels.Spot, name: str, place: labels.Place, width: float) -> labels.Box:
    end, middle = spot[0] * width + place.right, spot[1] * labels.HEIGHT + place.below
    left = end - labels.LETTER * len(name) * (place.end == "right")
    return left, middle - labels.LINE / 2, left + labels.LETTER * len(name), middle + labels.LINE / 2


def away(around: labels.Box, spot: labels.Spot, width: float) -> float:
    x, y = spot[0] * width, spot[1] * labels.HEIGHT
    left, top, right, bottom = around
    return hypot(x - min(max(x, left), right), y - min(max(y, top), bottom))


def meet(one: labels.Box, other: labels.Box) -> bool:
    return max(one[0], other[0]) < min(one[2], other[2]) and max(one[1], other[1]) < min(one[3], other[3])


@given(named)
def test_no_name_covers_a_dot_or_another_name_or_leaves_the_plot(given_dots: list[tuple[float, float, str]]) -> None:
    spots = [(right, down) for right, down, _ in given_dots]
    names = {number: name for number, (_, _, name) in enumerate(given_dots)}
    found = labels.places(spots, names)
    for width in labels.WIDTHS:
        boxes = [box(spots[number], names[number], place, width) for number, place in found.items()]
        around = [
            (x * width - 5, y * labels.HEIGHT - 5, x * width + 5, y * labels.HEIGHT + 5)
            for x, y in (spots[number] for number in names)
        ]
        assert not any(meet(one, other) for one, other in combinations(boxes, 2))
        assert not any(meet(one, dot) for one in boxes for dot in around)
        assert all(left >= 0 and top >= 0 and right <= width for left, top, right, _ in boxes)
        assert all(bottom <= labels.HEIGHT for *_, bottom in boxes)


@given(named)
def test_no_other_dot_is_nearer_to_a_name_than_its_own(given_dots: list[tuple[float, float, str]]) -> None:
    spots = [(right, down) for right, down, _ in given_dots]
    found = labels.places(spots, {number: name for number, (_, _, name) in enumerate(given_dots)})
    for width in labels.WIDTHS:
        for number, place in found.items():
            around = box(spots[number], given_dots[number][2], place, width)
            own, nearest = away(around, spots[number], width), min(away(around, spot, width) for spot in spots)
            assert own <= nearest + 1e-6


def test_a_name_stands_on_a_line_only_where_it_must() -> None:
    at, name = (0.5, 0.5), {0: "a name"}
    assert labels.places([at], name)[0] == labels.PLACES[0]
    below = (0.0, 0.57, 1.0, 0.57)
    assert labels.places([at], name, [below])[0].below < 0
    everywhere = [(0.0, tenth / 40, 1.0, tenth / 40) for tenth in range(41)]
    assert labels.places([at], name, everywhere)[0] == labels.PLACES[0]


def trials(number: int, *, apart: float = 1.0) -> pd.DataFrame:
    rows = [(f"run number {place} of many", 20 + place * apart, 1 + place % 3) for place in range(number)]
    return pd.DataFrame(rows, columns=["name", "wer", "minutes"]).assign(colour="#D55E00")


def test_every_dot_is_named_and_a_long_name_is_cut() -> None:
    frame = pd.DataFrame(
        {
            "name": ["LoRA + CE", "+ logit KD", "a student of the best of several teachers"],
            "wer": [24.6, 30.5, 15.4],
            "minutes": [0.9, 1.0, 1.1],
            "best": [True, False, True],
            "colour": ["#D55E00", "#0E9F7E", "#A65FB5"],
        }
    )
    for each in (frame, frame.drop(columns="best")):
        drawn = charts.tradeoff(each, x="minutes", title="", description="").to_dict()
        (rows,) = drawn["datasets"].values()
        assert [row["label"] for row in rows] == ["LoRA + CE", "+ logit KD", "a student…al teachers"]
        assert charts.numbered(each, "minutes") == {}


def test_a_name_without_room_has_a_number_that_is_told() -> None:
    for number, apart in ((10, 1.0), (25, 0.1), (2, 0.0), (12, 0.0)):
        frame = trials(number, apart=apart)
        drawn = charts.tradeoff(frame, x="minutes", title="", description="").to_dict()
        (rows,) = drawn["datasets"].values()
        numbers = charts.numbered(frame, "minutes")
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        for row in rows:
            named = row["label"] == row["name"] or ("…" in row["label"])
            assert named or numbers[int(row["label"])] == row["name"]


def test_a_name_of_digits_is_not_taken_for_a_number() -> None:
    frame = trials(3).assign(name=["1", "2", "lr 1e-3"])
    assert charts.numbered(frame, "minutes") == {1: "1", 2: "2"}
