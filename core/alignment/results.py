"""The result of a comparison, as it is stored."""

import math
from typing import Any

MEASURES = ("linear_cka", "rsa", "mutual_knn", "procrustes_residual", "geodesic_angle")
PARTS = ("value", "low", "high", "floor", "ceiling")


def is_comparison(result: Any) -> bool:
    """Return whether something that came from elsewhere has the form that `core.analysis.compare` returns."""
    try:
        pairs, grid = result["pairs"], result["grid"]
        values = [pairs[pair][measure][part] for pair in pairs for measure in MEASURES for part in PARTS]
        layers = [*grid["student_layers"], *grid["teacher_layers"]]
        counts = [result["points"], result["points_total"], result["utterances"]]
        rows = [len(row) == len(grid["teacher_layers"]) for row in grid["cka"]]
        values += [value for row in grid["cka"] for value in row]
    except (KeyError, TypeError, IndexError):
        return False
    numbers = all(value is None or (isinstance(value, float | int) and math.isfinite(value)) for value in values)
    whole = all(isinstance(value, int) for value in [*layers, *counts])
    return numbers and whole and all(rows) and len(rows) == len(grid["student_layers"])
