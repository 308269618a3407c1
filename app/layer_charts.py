"""The figure of a scan of layers: how much each does, and which was cut. No Streamlit here."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from app.charts import NEUTRAL, STUDENT, Layers
from core.layer_cuts import layers_cut
from core.runs import LayerScan

CUT, KEPT = "cut", "kept"

HEIGHT = 190


def single_layers(scan: LayerScan, side: str, student: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each layer of a side: ``layer``, ``distance``, ``error`` and ``what`` became of it."""
    gone = next((layers for name, layers in layers_cut(scan, student).items() if name == side), ())
    rows = [
        (each.first, each.distance, each.standard_error, CUT if each.first in gone else KEPT)
        for each in scan.distances
        if each.side == side and each.first == each.last
    ]
    return pd.DataFrame(rows, columns=["layer", "distance", "error", "what"])


def distances(frame: pd.DataFrame, *, description: str) -> Layers:
    """Draw the angular distance of each layer with its standard error; cut ones differ in colour, and bear the word.

    Args:
        frame: See `single_layers`.
        description: What the chart shows, for people who do not see it.
    """
    frame = frame.assign(
        low=frame["distance"] - frame["error"],
        high=frame["distance"] + frame["error"],
        said=frame["what"].where(frame["what"] == CUT, ""),
    )
    top = alt.Scale(domain=[0, 1.15 * max(frame["high"].tolist())], nice=False)
    base = alt.Chart(frame).encode(x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0, ticks=False)))
    bars = base.mark_bar().encode(
        y=alt.Y("distance:Q", title="Angular distance, of π", scale=top, axis=alt.Axis(tickCount=4)),
        color=alt.Color("what:N", legend=None, scale=alt.Scale(domain=[KEPT, CUT], range=[NEUTRAL, STUDENT])),
        tooltip=[
            alt.Tooltip("layer:O", title="Layer"),
            alt.Tooltip("distance:Q", title="Angular distance", format=".3f"),
            alt.Tooltip("error:Q", title="Standard error", format=".3f"),
            alt.Tooltip("what:N", title="It was"),
        ],
    )
    errors = base.mark_rule(strokeWidth=1.5, color=NEUTRAL).encode(y=alt.Y("low:Q", title=""), y2="high:Q")
    words = base.mark_text(dy=-9, color=STUDENT, fontWeight="bold").encode(y=alt.Y("high:Q", title=""), text="said:N")
    return alt.layer(bars, errors, words).properties(height=HEIGHT, description=description)


def in_words(frame: pd.DataFrame, side: str) -> str:
    """Return what the chart shows."""
    each = ", ".join(
        f"layer {layer} {distance:.3f}{' (cut)' if what == CUT else ''}"
        for layer, distance, what in zip(frame["layer"], frame["distance"], frame["what"], strict=True)
    )
    return f"Angular distance of each {side} layer of the teacher: {each}"
