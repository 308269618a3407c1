"""An ablation: runs that share teachers, student and data, and differ in what their rows say."""

from typing import Any

from pydantic import Field, model_validator

from core.config.base import Settings
from core.config.run import RunConfig

SHARED_FIELDS = ("family", "teachers", "student", "freeze_below", "language", "source", "evaluation")
"""Fields of RunConfig in which the rows of one job agree: they decide what is computed once."""


class Row(Settings):
    """One run of an ablation."""

    name: str = Field(min_length=1, max_length=120, description="What the run is called.")
    changes: dict[str, Any] = Field(
        default={}, description="Fields of RunConfig that differ from the base, nested as there."
    )


class Ablation(Settings):
    """A base configuration and the rows that change it."""

    name: str = Field(min_length=1, max_length=60, description="Name of the ablation.")
    description: str = Field(default="", description="What question it answers, in a sentence.")
    base: dict[str, Any] = Field(description="Fields of RunConfig that all rows share.")
    rows: tuple[Row, ...] = Field(min_length=1, description="The runs; the first is the baseline.")

    @model_validator(mode="after")
    def _names_differ(self) -> "Ablation":
        names = [row.name for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError("two rows have the same name")
        return self

    def runs(self) -> tuple[RunConfig, ...]:
        """Return one RunConfig per row.

        Raises:
            ValidationError: If base and changes do not make a run.
        """
        return tuple(
            RunConfig.model_validate({**_merged(self.base, row.changes), "name": row.name}) for row in self.rows
        )


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return base with changes laid over it, dictionary by dictionary; lists are replaced whole."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result
