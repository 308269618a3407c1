"""The result of a comparison, as it is stored."""

import math
from collections.abc import Mapping
from typing import Any

MEASURES = ("linear_cka", "rsa", "mutual_knn", "procrustes_residual", "geodesic_angle")
PARTS = ("value", "low", "high", "floor", "ceiling")
SPREAD = ("floor_low", "floor_high")
"""Range of what exchanged utterances give. Results of older versions, whose floor was of points drawn one by one and
whose interval could lie beside its value, have none."""

FEWEST_UTTERANCES = 30
"""With fewer, intervals are wide, and unrelated speech looks alike: what they say is a hint, no finding."""


def has_spread(result: Mapping[str, Any]) -> bool:
    """Return whether a comparison was made of whole utterances, see `SPREAD`."""
    return all(part in measured for pair in result["pairs"].values() for measured in pair.values() for part in SPREAD)


def is_comparison(result: Any) -> bool:
    """Return whether something that came from elsewhere has the form that `core.analysis.compare` returns."""
    try:
        pairs, grid = result["pairs"], result["grid"]
        values = [pairs[pair][measure][part] for pair in pairs for measure in MEASURES for part in PARTS]
        values += [pairs[pair][measure].get(part) for pair in pairs for measure in MEASURES for part in SPREAD]
        layers = [*grid["student_layers"], *grid["teacher_layers"]]
        counts = [result["points"], result["points_total"], result["utterances"]]
        rows = [len(row) == len(grid["teacher_layers"]) for row in grid["cka"]]
        values += [value for row in grid["cka"] for value in row]
    except (AttributeError, KeyError, TypeError, IndexError):
        return False
    numbers = all(value is None or (isinstance(value, float | int) and math.isfinite(value)) for value in values)
    whole = all(isinstance(value, int) for value in [*layers, *counts])
    return numbers and whole and all(rows) and len(rows) == len(grid["student_layers"])
