"""The terms of an objective as they are drawn: their units, and when they count; no st.*."""

import math
from collections.abc import Mapping
from typing import Any

from core.config import LOSSES

UNITS = {
    "total": "weighted sum",
    "balance": "1 where all experts have the same load; of the k largest, k",
    **{loss.model_fields["kind"].default: loss.unit for loss in LOSSES},
}
"""Units of the terms, as they stand over the curves; alignments are means over layer pairs, summed over sides."""


def stage(loss: Mapping[str, Any], steps: int) -> str:
    """Return in which steps of a run a term counts, in words; nothing where it always does.

    Args:
        loss: Its settings.
        steps: Of the whole run.
    """
    # As the weights are: above the share at which it begins, up to the share at which it ends.
    first, last = (math.floor(loss.get(name, usual) * steps + 1e-9) for name, usual in (("begins", 0.0), ("ends", 1.0)))
    if first and last < steps:
        return f"steps {first + 1} to {last}"
    return f"from step {first + 1}" if first else f"to step {last}" if last < steps else ""
