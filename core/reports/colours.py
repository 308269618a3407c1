"""The colour of a run: one on every page and in every report, never the teacher's."""

from collections.abc import Sequence

RUNS = (
    "#D55E00",
    "#0E9F7E",
    "#A65FB5",
    "#B8860B",
    "#0891B2",
    "#C2417E",
    "#7C6FE0",
    "#5F8A1E",
    "#A1694B",
    "#7A858C",
)
"""By the place of a run in its job; each has a contrast of 3 at least to the light and to the dark page."""


def run_colour(position: int) -> str:
    """Return the colour of a run.

    Args:
        position: Its place in its job, from 0.
    """
    return RUNS[position % len(RUNS)]


def run_colours(positions: Sequence[int]) -> list[str]:
    """Return colours of runs of several jobs, told apart: a later one whose colour is taken has the next that is free.

    Of more runs than there are colours, some share one.
    """
    found: list[str] = []
    for position in positions:
        turn = [run_colour(position + step) for step in range(len(RUNS))]
        found.append(next((colour for colour in turn if colour not in found), turn[0]))
    return found
