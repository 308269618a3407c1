"""What error rates cost and go with: frames for the charts of an ablation, and its seeds; no st.*."""

import json
import re
from collections.abc import Mapping
from math import degrees
from statistics import correlation, fmean, stdev
from typing import Any

import pandas as pd

from app import text
from core.runs import AblationRow, AblationTable

SEED = re.compile(r" \(seed \d+\)$|, seed \d+(?=\)$)")
COLUMNS = ["name", "runs", "wer", "low", "high", "parameters", "minutes"]


def costs(table: AblationTable) -> pd.DataFrame:
    """Return one row per kind of run, seeds together.

    Returns:
        Columns ``name``, ``runs`` (their number), ``wer`` (mean, in percent), ``low`` and ``high`` (of the seeds),
        ``parameters`` (trained) and ``minutes`` (mean training time). Runs that are not read or counted are left out.
    """
    found = []
    for rows in _kinds(table):
        read = [row for row in rows if row.evaluation and row.parameters and row.run.seconds is not None]
        if not read:
            continue
        rates = [100 * row.evaluation.wer for row in read if row.evaluation]
        trained = [row.parameters.trainable for row in read if row.parameters]
        seconds = [row.run.seconds for row in read if row.run.seconds is not None]
        found.append(
            {
                "name": _name(read),
                "runs": len(read),
                "wer": fmean(rates),
                "low": min(rates),
                "high": max(rates),
                "parameters": trained[0],
                "minutes": fmean(seconds) / 60,
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


def alignment(table: AblationTable, angles: Mapping[str, float | None]) -> pd.DataFrame:
    """Return one row per run with columns ``name``, ``wer`` in percent and ``angle`` in degrees.

    Args:
        table: The ablation.
        angles: By run, in radians.
    """
    found = [
        {"name": row.run.name, "wer": 100 * row.evaluation.wer, "angle": degrees(angle)}
        for row in table.rows
        if row.evaluation and (angle := angles.get(row.run.id)) is not None
    ]
    return pd.DataFrame(found, columns=["name", "wer", "angle"])


def does_closer_mean_better(frame: pd.DataFrame) -> str:
    """Return Spearman's rank correlation of angle and word error rate in a sentence."""
    if len(frame) < 3:
        return f"{len(frame)} runs are too few to say whether closer means better."
    angles, rates = (frame[column].rank().tolist() for column in ("angle", "wer"))
    if len(set(angles)) == 1 or len(set(rates)) == 1:
        return "All runs are alike in one of the two: nothing can be said."
    rho = correlation(angles, rates)
    says = "the closer, the better" if rho > 0.3 else "the closer, the worse" if rho < -0.3 else "no clear relation"
    few = " Few runs: a hint at most." if len(frame) < 10 else ""
    return f"Spearman's rank correlation {text.decimal(rho, 2)} over {len(frame)} runs: {says}.{few}"


def seeds(table: AblationTable) -> pd.DataFrame:
    """Return mean and spread over seeds, one row per kind of run; empty where every kind has one run.

    The difference is that of runs of the same seed, so that what a seed does to both cancels.
    """
    kinds = [[row for row in rows if row.evaluation] for rows in _kinds(table)]
    kinds = [rows for rows in kinds if rows]
    if not kinds or max(map(len, kinds)) < 2:
        return pd.DataFrame()
    baseline = {row.run.seed: row.evaluation.wer for row in kinds[0] if row.evaluation}
    return pd.DataFrame([_seeds(rows, baseline, first=rows is kinds[0]) for rows in kinds])


def _seeds(rows: list[AblationRow], baseline: Mapping[int, float], *, first: bool) -> dict[str, str]:
    rates = {row.run.seed: row.evaluation.wer for row in rows if row.evaluation}
    differences = [rate - baseline[seed] for seed, rate in rates.items() if seed in baseline]
    better = sum(difference < 0 for difference in differences)
    return {
        "Model": _name(rows),
        "Seeds": str(len(rates)),
        "Mean WER": text.percent(fmean(rates.values())),
        "SD": _spread(list(rates.values())),
        "Range": f"{text.percent(min(rates.values()))} to {text.percent(max(rates.values()))}",
        "Difference": "baseline" if first else text.points(fmean(differences) if differences else None),
        "SD of it": "" if first else _spread(differences),
        "Better in": "" if first else f"{better} of {len(differences)}",
    }


def _spread(rates: list[float]) -> str:
    """Return the sample's standard deviation in points; of one number there is none."""
    return text.decimal(100 * stdev(rates) if len(rates) > 1 else None, 1)


def _kinds(table: AblationTable) -> list[list[AblationRow]]:
    """Return the rows that differ in nothing but their seed and what they are called, together; first ones first."""
    kinds: dict[str, list[AblationRow]] = {}
    for row in table.rows:
        kinds.setdefault(_but_for_seed(row.run.config), []).append(row)
    return list(kinds.values())


def _but_for_seed(config: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in config.items() if key not in ("name", "seed")}, sort_keys=True)


def _name(rows: list[AblationRow]) -> str:
    name = rows[0].run.name
    return name if len(rows) == 1 else SEED.sub("", name)
