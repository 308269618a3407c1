"""An ablation: runs that share teachers, student and data, and differ in what their rows say.

Runs may also teach later ones: then a job has several groups, one after the other, each of which shares what is
computed once. Three experts, each with speech of its own, and students of all three are four groups.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pydantic import Field, model_validator

from core.config.base import Name, Settings
from core.config.methods import method_row, method_rows
from core.config.models import ROW
from core.config.run import RunConfig
from core.errors import Problem

SHARED_FIELDS = ("family", "teachers", "student", "freeze_below", "language", "source", "evaluation")
"""Fields of RunConfig in which the runs of a group agree: they decide what is computed once."""

SHARED_TRAINING = ("audio_context", "length_buckets", "precision", "device", "devices", "teacher_outputs")
"""Fields of its training in which they agree for the same reason, or because they are about all of them."""


class Row(Settings):
    """One run of an ablation."""

    method: str | None = Field(default=None, description="Key of a row of 'manifold methods' that it is.")
    name: Name = Field(default="", max_length=120, description="What the run is called; empty takes the method's name.")
    changes: dict[str, Any] = Field(
        default={}, description="Fields of RunConfig that differ from the base and the method, nested as there."
    )

    @model_validator(mode="after")
    def _named(self) -> "Row":
        if self.method is not None and self.method not in (keys := [row.key for row in method_rows()]):
            raise ValueError(f"there is no method '{self.method}'; choose one of {', '.join(keys)}")
        if not self.label:
            raise ValueError("name the row, or say which method it is")
        return self

    @property
    def label(self) -> str:
        """What the run is called."""
        return self.name or ("" if self.method is None else method_row(self.method).name)

    def fields(self, base: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of the row's run: the base, the method's changes over it, and its own over both."""
        of_method = {} if self.method is None else method_row(self.method).changes
        return {**_merged(_merged(base, of_method), self.changes), "name": self.label}


class Ablation(Settings):
    """A base configuration and the rows that change it."""

    name: Name = Field(min_length=1, max_length=60, description="Name of the ablation.")
    description: str = Field(default="", description="What question it answers, in a sentence.")
    base: dict[str, Any] = Field(description="Fields of RunConfig that all rows share.")
    rows: tuple[Row, ...] = Field(min_length=1, description="The runs; the first is the baseline.")

    @model_validator(mode="after")
    def _names_differ(self) -> "Ablation":
        names = [row.label for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError("two rows have the same name")
        return self

    def runs(self) -> tuple[RunConfig, ...]:
        """Return one RunConfig per row.

        Raises:
            ValidationError: If base and changes do not make a run.
        """
        return tuple(RunConfig.model_validate(row.fields(self.base)) for row in self.rows)


def groups(configs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """Return the runs of a job in groups: neighbours that agree in what is computed once."""
    same = groupby(configs, key=lambda config: [getattr(config, field) for field in SHARED_FIELDS])
    return [list(group) for _, group in same]


def group_problems(configs: Sequence[RunConfig]) -> list[Problem]:
    """Return why runs cannot be one job: a row that teaches comes before, and all but the last group must teach."""
    problems: list[Problem] = []
    parts = groups(configs)
    known: list[str] = []
    taught: set[str] = set()
    for part in parts:
        for name in dict.fromkeys(rows_needed(part[0])):
            taught.add(name)
            if known.count(name) != 1:
                what = "there is no earlier row" if name not in known else "several earlier rows are called"
                problems.append(Problem(f"{part[0].name}: teachers", f"{what} '{name}'; name one that comes before"))
        known += [config.name for config in part]
        problems += _shared_problems(part)
    idle = [config for part in parts[:-1] for config in part if config.name not in taught]
    if idle and len(parts) > 1:
        problems += _shared_problems([configs[0], *(config for part in parts[1:] for config in part)])
    return problems


def _shared_problems(configs: Sequence[RunConfig]) -> list[Problem]:
    """Return where runs differ from the first in what is computed once for all of them."""
    first = configs[0]
    pairs = [
        (f"{config.name}: {prefix}{field}", getattr(mine, field), getattr(theirs, field))
        for config in configs[1:]
        for prefix, mine, theirs, fields in (
            ("", config, first, SHARED_FIELDS),
            ("training.", config.training, first.training, SHARED_TRAINING),
        )
        for field in fields
    ]
    said = f"differs from '{first.name}'; runs of one job share it: start it on its own"
    return [Problem(where, said) for where, mine, theirs in pairs if mine != theirs]


def rows_needed(config: RunConfig) -> list[str]:
    """Return the rows whose students a run needs."""
    named = [teacher.row for teacher in config.teachers if teacher.row is not None]
    if config.student.model is not None and config.student.model.startswith(ROW):
        named.append(config.student.model.removeprefix(ROW))
    return named


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return base with changes laid over it, dictionary by dictionary; lists are replaced whole."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result
