"""Names beside the dots of a chart whose width nobody knows: each nearest to its own dot, and none on a dot, on another
name, or over an edge."""

from collections.abc import Mapping, Sequence
from math import hypot
from typing import NamedTuple
from unicodedata import east_asian_width

WIDTHS = (250.0, 560.0)
"""Of the plot in pixels, without its axis: of one of three charts side by side or on a phone, and of a wide one."""

HEIGHT = 195.0
"""Of the plot of a chart of 260 pixels."""

LETTER = 6.5
"""Width of a letter of 11 pixels, rather too wide; of Chinese, Japanese and Korean ones the half."""

LINE = 15.0
RADIUS = 7.0
"""Height of a name, and half that of a dot."""

Spot = tuple[float, float]
"""How far right and how far down, from 0 to 1."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


class Place(NamedTuple):
    """Where a name stands: which of its ends is at the dot, and how far right of it and below it, in pixels."""

    end: str
    right: float
    below: float


PLACES = (
    Place("right", -4, 15),
    Place("left", 4, 15),
    Place("left", 4, -15),
    Place("right", -4, -15),
    Place("right", -12, 0),
    Place("left", 12, 0),
)
"""From the best: left of a dot of the front, and below it, there is no other of the front."""


def places(spots: Sequence[Spot], names: Mapping[int, str], lines: Sequence[Box] = ()) -> dict[int, Place]:
    """Return where names stand; one for which there is no place is left out.

    Args:
        spots: Of all dots.
        names: By the number of the dot, those that matter most first.
        lines: Upright or level lines as boxes, in the fractions of spots; a name stands on one where it must.
    """
    found: dict[int, Place] = {}
    taken = {width: [_pixels((*spot, *spot), width, RADIUS) for spot in spots] for width in WIDTHS}
    drawn = {width: [_pixels(line, width) for line in lines] for width in WIDTHS}

    def free(number: int, place: Place, *, crossing: bool) -> bool:
        for width in WIDTHS:
            box = _around(spots[number], names[number], place, width)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= HEIGHT
            own = _far(box, spots[number], width)
            if (
                not inside
                or own > min(_far(box, spot, width) for spot in spots)
                or any(_meet(box, other) for other in taken[width] + drawn[width] * (not crossing))
            ):
                return False
        return True

    for number, name in names.items():
        fitting = (place for crossing in (False, True) for place in PLACES if free(number, place, crossing=crossing))
        place = next(fitting, None)
        if place is not None:
            found[number] = place
            for width in WIDTHS:
                taken[width].append(_around(spots[number], name, place, width))
    return found


def _pixels(box: Box, width: float, more: float = 0.0) -> Box:
    left, top, right, bottom = box
    return left * width - more, top * HEIGHT - more, right * width + more, bottom * HEIGHT + more


def _around(spot: Spot, name: str, place: Place, width: float) -> Box:
    end, middle = spot[0] * width + place.right, spot[1] * HEIGHT + place.below
    long = LETTER * sum(1 + (east_asian_width(letter) in "WF") for letter in name)
    left = end - long if place.end == "right" else end
    return left, middle - LINE / 2, left + long, middle + LINE / 2


def _far(box: Box, spot: Spot, width: float) -> float:
    """Return how far a dot is from a box, in pixels."""
    x, y = spot[0] * width, spot[1] * HEIGHT
    return hypot(max(box[0] - x, 0.0, x - box[2]), max(box[1] - y, 0.0, y - box[3]))


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
