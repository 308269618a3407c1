"""What a run can begin from: every method laid over a preset's base, and the preset's own rows; no st.*."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.config import Ablation, MethodRow, Row, RunConfig, method_rows, parse_ablation, parse_run
from core.errors import ConfigError

BASELINE = "ce"
"""Key of the method that others are compared with: the transcripts alone, without a teacher."""

METHODS = {row.key: row for row in method_rows()}


@dataclass(frozen=True)
class Start:
    """Settings to begin from.

    Attributes:
        label: As it is offered: its group and its name.
        method: Which method it is, where it is one.
        fields: All settings, as plain dictionaries.
    """

    label: str
    method: MethodRow | None
    fields: dict[str, Any]


def label(method: MethodRow) -> str:
    """Return a method as it is offered: with the group that it belongs to."""
    return f"{method.group} · {method.name}"


def group(config: RunConfig) -> str | None:
    """Return the group of methods that a run belongs to, by its method's label; None for a method of somebody's own."""
    method = METHODS.get(config.method.name)
    return method.group if method else None


def starts(ablation: Ablation, configs: Sequence[RunConfig]) -> dict[str, Start]:
    """Return all methods on a preset's base, in the order of the ablation, then rows of its own, by key.

    Args:
        ablation: The preset.
        configs: Its runs.
    """
    found = {key: Start(label(method), method, on_base(ablation, key)) for key, method in METHODS.items()}
    known = [start.fields for start in found.values()]
    for number, config in enumerate(configs):
        fields = config.model_dump(mode="json")
        if fields not in known:
            found[f"row-{number + 1}"] = Start(f"This preset · {config.name}", METHODS.get(config.method.name), fields)
    return found


def on_base(ablation: Ablation, key: str) -> dict[str, Any]:
    """Return the settings of a method on a preset's base; as they are written, where they do not make a run."""
    fields = Row(method=key).fields(ablation.base)
    try:
        return parse_run(fields).model_dump(mode="json")
    except ConfigError:
        return fields


def grid(ablation: Ablation, *, methods: Sequence[str], seeds: int) -> tuple[RunConfig, ...]:
    """Return one run for each method and each seed from 0, on a preset's base.

    Raises:
        ConfigError: If a method and the base do not make a run.
    """
    rows = [
        {
            "method": key,
            "name": METHODS[key].name if seeds == 1 else f"{METHODS[key].name} (seed {seed})",
            "changes": {"seed": seed},
        }
        for key in methods
        for seed in range(seeds)
    ]
    fields = {"name": f"{ablation.name}-grid", "base": ablation.base, "rows": rows}
    return parse_ablation(fields, name="the grid")[1]
