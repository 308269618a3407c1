"""Names beside the dots of a chart whose width nobody knows: none on a dot, on another name, or over an edge."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTHS = (250.0, 560.0)
"""Of the plot in pixels, without its axis: of one of three charts side by side or on a phone, and of a wide one."""

HEIGHT = 195.0
"""Of the plot of a chart of 260 pixels."""

LETTER = 6.0
"""Width of a letter, rather too wide."""

LINE = 13.0
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
    Place("right", -4, 14),
    Place("left", 4, 14),
    Place("left", 4, -14),
    Place("right", -4, -14),
    Place("right", -12, 0),
    Place("left", 12, 0),
    Place("right", -4, 27),
    Place("left", 4, 27),
    Place("left", 4, -27),
)
"""From the best: left of a dot of the front, and below it, there is never another dot."""


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
            if not inside or any(_meet(box, other) for other in taken[width] + drawn[width] * (not crossing)):
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
    long = LETTER * len(name)
    left = end - long if place.end == "right" else end
    return left, middle - LINE / 2, left + long, middle + LINE / 2


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
