"""What error rates cost and go with: frames for the charts of an ablation; no st.*."""

from collections.abc import Mapping
from math import degrees
from statistics import fmean

import pandas as pd

from app import text
from core.rank_correlation import rank_correlation
from core.reports.colours import run_colour
from core.runs import AblationTable

FEWEST_RUNS = 5
"""Of fewer, not even the same order in both would be more than chance."""

COLUMNS = ["name", "runs", "wer", "low", "high", "parameters", "minutes", "colour"]


def costs(table: AblationTable) -> pd.DataFrame:
    """Return one row per kind of run, seeds together.

    Returns:
        Columns ``name``, ``runs`` (their number), ``wer`` (mean, in percent), ``low`` and ``high`` (of the seeds),
        ``parameters`` (trained), ``minutes`` (mean training time) and ``colour`` (of the first of them). Runs that are
        not read or counted are left out.
    """
    found = []
    for name, rows in table.kinds:
        heard = [row for row in rows if row.evaluation and row.evaluation.words]
        read = [row for row in heard if row.parameters and row.run.seconds is not None]
        if not read:
            continue
        rates = [100 * row.evaluation.wer for row in read if row.evaluation]
        trained = [row.parameters.trainable for row in read if row.parameters]
        seconds = [row.run.seconds for row in read if row.run.seconds is not None]
        found.append(
            {
                "name": name,
                "runs": len(read),
                "wer": fmean(rates),
                "low": min(rates),
                "high": max(rates),
                "parameters": trained[0],
                "minutes": fmean(seconds) / 60,
                "colour": run_colour(rows[0].run.position),
            }
        )
    return pd.DataFrame(found, columns=COLUMNS)


def with_front(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return rows by rising cost, with a column ``best``: whether no other is as cheap and as good, and better in one.

    Args:
        frame: As `costs` returns it.
        cost: Column of the cost.
    """
    ordered = frame.sort_values([cost, "wer"], kind="stable")
    best: list[bool] = []
    lowest = float("inf")
    for rate in ordered["wer"]:
        best.append(rate < lowest)
        lowest = min(lowest, rate)
    return ordered.assign(best=best).reset_index(drop=True)


def front_in_words(frame: pd.DataFrame) -> str:
    """Return the rows that no other beats in both, from the cheapest to the best."""
    best = frame.loc[frame["best"]]
    return ", ".join(f"{name} {rate:.1f} %" for name, rate in zip(best["name"], best["wer"], strict=True))


def with_numbers(said: str, numbers: Mapping[int, str]) -> str:
    """Return a sentence with the names after it that only a number stands for in the chart."""
    listed = ", ".join(f"{number} {name}" for number, name in sorted(numbers.items()))
    return f"{said} Numbers: {listed}." if listed else said


def alignment(table: AblationTable, angles: Mapping[str, float | None]) -> pd.DataFrame:
    """Return one row per kind of run, seeds together, which are no runs of their own.

    Args:
        table: The ablation.
        angles: By run, in radians.

    Returns:
        Columns ``name``, ``wer`` in percent and ``angle`` in degrees, both the mean over the seeds that have them, and
        ``colour``.
    """
    found = []
    for name, rows in table.kinds:
        known = [
            (100 * row.evaluation.wer, degrees(angle))
            for row in rows
            if row.evaluation and row.evaluation.words and (angle := angles.get(row.run.id)) is not None
        ]
        if known:
            wer, angle = (fmean(side) for side in zip(*known, strict=True))
            found.append((name, wer, angle, run_colour(rows[0].run.position)))
    return pd.DataFrame(found, columns=["name", "wer", "angle", "colour"])


def does_closer_mean_better(frame: pd.DataFrame) -> str:
    """Return whether runs with smaller angles have lower error rates, in a sentence; see core.rank_correlation."""
    if len(frame) < FEWEST_RUNS:
        return f"Fewer than {FEWEST_RUNS} runs (seeds count once) do not say whether closer means better."
    found = rank_correlation(frame["angle"].tolist(), frame["wer"].tolist())
    if found is None:
        return "All runs are alike in one of the two: nothing can be said."
    says = "no clear relation" if found.p_value >= 0.05 else f"the closer, the {'better' if found.rho > 0 else 'worse'}"
    p = "p < 0.001" if found.p_value < 0.001 else f"p = {text.decimal(found.p_value, 3)}"
    return f"Spearman's rank correlation {text.decimal(found.rho, 2)} over {len(frame)} runs, {p}: {says}."
