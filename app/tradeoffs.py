"""What error rates cost and go with: frames for the charts of an ablation; no st.*."""

from collections.abc import Mapping
from math import degrees
from statistics import correlation, fmean

import pandas as pd

from app import text
from core.reports.colours import run_colour
from core.runs import AblationTable

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
    """Return one row per run with columns ``name``, ``wer`` in percent, ``angle`` in degrees and ``colour``.

    Args:
        table: The ablation.
        angles: By run, in radians.
    """
    found = [
        (row.run.name, 100 * row.evaluation.wer, degrees(angle), run_colour(row.run.position))
        for row in table.rows
        if row.evaluation and row.evaluation.words and (angle := angles.get(row.run.id)) is not None
    ]
    return pd.DataFrame(found, columns=["name", "wer", "angle", "colour"])


def does_closer_mean_better(frame: pd.DataFrame) -> str:
    """Return Spearman's rank correlation of angle and word error rate in a sentence."""
    if len(frame) < 3:
        return "Fewer than three runs do not say whether closer means better."
    angles, rates = (frame[column].rank().tolist() for column in ("angle", "wer"))
    if len(set(angles)) == 1 or len(set(rates)) == 1:
        return "All runs are alike in one of the two: nothing can be said."
    rho = correlation(angles, rates)
    says = "the closer, the better" if rho > 0.3 else "the closer, the worse" if rho < -0.3 else "no clear relation"
    few = " Few runs: a hint at most." if len(frame) < 10 else ""
    return f"Spearman's rank correlation {text.decimal(rho, 2)} over {len(frame)} runs: {says}.{few}"
