"""What a run can begin from: every method laid over a preset's base, and the preset's own rows; no st.*."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from core.config import (
    Ablation,
    Lora,
    MethodRow,
    Row,
    RunConfig,
    dump_text,
    method_rows,
    parse_ablation,
    parse_run,
    parse_text,
    rows_needed,
)
from core.errors import ConfigError
from core.runs import RunRecord

BASELINE = "ce"
"""Key of the method that others are compared with: the transcripts alone, without a teacher."""

MOST_OF_A_GRID = 200

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


def again(run: RunRecord, job: Sequence[RunRecord]) -> list[RunConfig]:
    """Return a run as it was, after the runs whose students it needs, and those that they need.

    Args:
        run: The run.
        job: All runs of its job, in their order.

    Raises:
        ConfigError: If this version does not know its settings.
    """
    needed, configs = {run.name}, []
    for other in reversed(job[: run.position + 1]):
        if other.name in needed:
            configs.insert(0, parse_run(other.config))
            needed.update(rows_needed(configs[0]))
    return configs


def grid(
    ablation: Ablation,
    *,
    methods: Sequence[str],
    seeds: int,
    ranks: Sequence[int] = (),
    learning_rates: Sequence[float] = (),
) -> tuple[Ablation, tuple[RunConfig, ...]]:
    """Return an ablation of its own: a run for each method, rank, learning rate and seed from 0, on a preset's base.

    Args:
        ablation: The preset.
        methods: Keys of methods.
        seeds: Their number.
        ranks: Of the adapters, with the preset's alpha / rank and without a budget, which would decide instead; none
            leaves the rank as it is.
        learning_rates: None leaves the rate as it is.

    Raises:
        ConfigError: If a method and the base do not make a run, or there are too many runs.
    """
    axes = list(product(methods, ranks or (None,), learning_rates or (None,), range(seeds)))
    if len(axes) > MOST_OF_A_GRID:
        raise ConfigError(f"These are {len(axes)} runs; a grid has at most {MOST_OF_A_GRID}. Choose fewer values.")
    rows = [_cell(ablation, *axis, with_seed=seeds > 1) for axis in axes]
    fields = {"name": f"{ablation.name[:55]}-grid", "base": ablation.base, "rows": rows}
    return parse_ablation(fields, name="the grid")


def _cell(
    ablation: Ablation, key: str, rank: int | None, rate: float | None, seed: int, *, with_seed: bool
) -> dict[str, Any]:
    changes: dict[str, Any] = {"seed": seed}
    said = [f"seed {seed}"] if with_seed else []
    if rate is not None:
        changes["training"] = {"learning_rate": rate}
        said.insert(0, f"rate {rate:g}")
    if rank is not None:
        lora = {**Lora().model_dump(), **on_base(ablation, key).get("lora", {})}
        changes["lora"] = {"rank": rank, "alpha": max(1, round(rank * lora["alpha"] / lora["rank"])), "budget": None}
        said.insert(0, f"rank {rank}")
    name = METHODS[key].name
    return {"method": key, "name": f"{name} ({', '.join(said)})" if said else name, "changes": changes}


def written(ablation: Ablation) -> str:
    """Return an ablation as YAML that ``manifold run`` and New run read."""
    fields = ablation.model_dump(mode="json", exclude_defaults=True)
    return dump_text(fields)


def read(content: str) -> tuple[str, tuple[RunConfig, ...]]:
    """Return the name and the runs of a file: one run, or an ablation.

    Raises:
        ConfigError: With every mistake in `problems`.
    """
    fields = parse_text(content)
    if isinstance(fields, dict) and "rows" in fields:
        ablation, configs = parse_ablation(fields, name="the file")
        return ablation.name, configs
    config = parse_run(fields, name="the file")
    return config.name, (config,)
