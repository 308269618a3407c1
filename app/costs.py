"""What runs cost, as tables and sentences: parameters, computation, time, memory and disk; no st.*."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from app import text
from core.runs import Estimate, ParameterCounts, RunRecord

_MODULE = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)$")


def counts_of(found: Mapping[str, Any]) -> ParameterCounts:
    """Return the counts that a check found; it tells shares beside them."""
    return ParameterCounts(
        **{field.name: found[field.name] for field in fields(ParameterCounts) if field.name in found}
    )


def parameters(counts: ParameterCounts) -> pd.DataFrame:
    """Return what a run has and trains, as numbers and as shares of the teacher, or of all and of the largest."""
    rows = {
        "Teacher": counts.teacher,
        "Student, deployed": counts.student,
        "Student, active for one frame or token": counts.student_active if _leaves_out(counts) else None,
        "Student, without tables of tokens and positions": counts.student_non_embedding,
        "Adapters: trained, deployed": counts.adapters,
        "Projections: trained, discarded": counts.projections,
        "Trained together": counts.trainable,
    }
    known = {name: number for name, number in rows.items() if number is not None}
    frame = pd.DataFrame({"Part": list(known), "Parameters": [text.count(number) for number in known.values()]})
    shares = [counts.shares(number) for number in known.values()]
    if counts.largest_teacher in (None, counts.teacher):
        return frame.assign(**{"Of the teacher": [text.percent(of_all, 2) for of_all, _ in shares]})
    return frame.assign(
        **{
            "Of all teachers": [text.percent(of_all, 2) for of_all, _ in shares],
            "Of the largest teacher": [text.percent(of_one, 2) for _, of_one in shares],
        }
    )


def _leaves_out(counts: ParameterCounts) -> bool:
    return counts.student_active not in (None, counts.student)


def computation(counts: ParameterCounts) -> pd.DataFrame | None:
    """Return what teacher and student compute; None where a run is older than the count."""
    if counts.teacher_flops is None or counts.student_flops is None:
        return None
    rows = {"Teacher": counts.teacher_flops, "Student": counts.student_flops}
    return pd.DataFrame(
        {
            "Model": list(rows),
            "GFLOP per second of audio": [f"{flops / 1e9:.2f}" for flops in rows.values()],
            "Of the teacher": [text.percent(flops / counts.teacher_flops) for flops in rows.values()],
        }
    )


def adapted(modules: Sequence[str], rank: int, experts: Mapping[str, int] | None = None) -> str:
    """Return which modules get an adapter, or experts: layers that have the same are told together."""
    layers: dict[tuple[str, int], list[str]] = {}
    for path in modules:
        found = _MODULE.search(path)
        side, layer, name = (found[1], int(found[2]), found[3]) if found else ("", 0, path)
        layers.setdefault((side, layer), []).append(name)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (side, layer), names in layers.items():
        alike.setdefault((side, tuple(names)), []).append(str(layer))
    parts = [
        f"{side} {'layer' if len(numbers) == 1 else 'layers'} {', '.join(numbers)}: {', '.join(names)}".strip()
        for (side, names), numbers in alike.items()
    ]
    many = "One module gets" if len(modules) == 1 else f"{len(modules)} modules get"
    what = (
        f"{experts['number']} experts of rank {experts['rank']} and a router"
        if experts
        else f"an adapter of rank {rank}"
    )
    return f"{many} {what} ({'; '.join(parts)})."


def outcome(run: RunRecord, *, disk: int | None) -> pd.DataFrame | None:
    """Return what a run was expected to take beside what it took; None where nothing was expected.

    Args:
        run: The run.
        disk: What its files take, in bytes; None before it is known.
    """
    expected = run.estimate
    if expected is None:
        return None
    # What was measured is the time of a whole run; one that ended early is compared by its steps alone.
    seconds = run.seconds if run.step >= run.steps else None
    rows = (
        ("One step", expected.step_seconds, run.step_seconds, _seconds),
        ("Training", expected.training_seconds, seconds, text.duration),
        ("Peak memory", expected.peak_memory, run.peak_memory, text.size),
        ("Disk", expected.adapter_bytes + expected.state_bytes, disk, text.size),
    )
    return pd.DataFrame(
        {
            "What": [name for name, *_ in rows],
            "Expected": [say(before) for _, before, _, say in rows],
            "Happened": [say(after) for _, _, after, say in rows],
            "Happened / expected": [_ratio(after, before) for _, before, after, _ in rows],
        }
    )


KEPT = ("cache/utterances", "cache/found", "cache/bytes_before", "cache/bytes_after")


def kept(values: Mapping[str, float]) -> str | None:
    """Return what a run's job found of its teachers' outputs in the cache, as a sentence; None where it asked nobody.

    Args:
        values: Of the metrics that `KEPT` names.
    """
    if not all(name in values for name in KEPT):
        return None
    asked, found, before, after = (round(values[name]) for name in KEPT)
    return (
        f"Teacher outputs: {text.count(found)} of {text.count(asked)} utterances were in the cache, which held "
        f"{text.size(before)} before and {text.size(after)} after."
    )


def checked(names: Sequence[str], results: Sequence[Mapping[str, Any] | None]) -> pd.DataFrame:
    """Return what checks found of several runs, one row each.

    Args:
        names: Of the runs.
        results: See core.checking.check; None for a run that was not looked at yet.
    """
    return pd.DataFrame([_checked(name, result or {}) for name, result in zip(names, results, strict=True)])


def _checked(name: str, result: Mapping[str, Any]) -> dict[str, str]:
    problems = len(result.get("problems", ()))
    state = text.NOTHING if not result else "✓ can start" if not problems else f"✕ {_mistakes(problems)}"
    row = {"Run": name, "Check": state}
    counts = counts_of(result["parameters"]) if "parameters" in result else None
    estimate = Estimate(**result["estimate"]) if result.get("estimate") else None
    return {
        **row,
        "Adapted": str(len(result["adapted"])) if counts else text.NOTHING,
        "Rank": _rank(result) if counts else text.NOTHING,
        "Adapters": text.count(counts.adapters if counts else None),
        "Projections": text.count(counts.projections if counts else None),
        "Trained, of the teacher": text.percent(counts.share_of_teacher if counts else None, 2),
        "Step": _seconds(estimate.step_seconds if estimate else None),
        "Training": text.duration(estimate.training_seconds if estimate else None),
        "Whole run": text.duration(estimate.run_seconds if estimate else None),
        "Peak memory": text.size(estimate.peak_memory if estimate else None),
    }


def _rank(result: Mapping[str, Any]) -> str:
    experts = result.get("experts")
    return f"{experts['number']} × {experts['rank']}" if experts else str(result["rank"])


def _mistakes(count: int) -> str:
    return "one mistake" if count == 1 else f"{count} mistakes"


def _seconds(seconds: float | None) -> str:
    return text.NOTHING if seconds is None else f"{seconds:.2f} s"


def _ratio(after: float | None, before: float) -> str:
    return text.NOTHING if after is None or not before else f"{after / before:.2f}"
