"""The rows of the ablation: every method that can be compared, what it is, and how its run differs from a base."""

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import Field

from core.config.base import Settings
from core.config.losses import LOSSES, LossSettings
from core.errors import NotFoundError

Group = Literal[
    "Controls", "Transcripts", "Logits", "States", "Relations", "Manifold", "Mapping", "Adapters", "Ensemble"
]


class MethodRow(Settings):
    """One row.

    Where meaning, formula and source are not written out, they are those of its last term.
    """

    key: str = Field(pattern=r"^[a-z0-9-]+$", description="How files name it.")
    name: str = Field(min_length=1, description="How tables name it.")
    group: Group = Field(description="What it belongs to.")
    meaning: str = Field(min_length=1, description="What the student learns from, in a sentence.")
    formula: str = Field(min_length=1, description="What sets it apart, in plain notation.")
    source: str = Field(min_length=1, description="Where it comes from.")
    changes: dict[str, Any] = Field(description="Fields of RunConfig that differ from a base, nested as there.")


@cache
def method_rows() -> tuple[MethodRow, ...]:
    """Return every row, in the order of the ablation."""
    text = (resources.files("core") / "config" / "methods.yaml").read_text(encoding="utf-8")
    listed = yaml.safe_load(text)
    known = {loss["kind"] for fields in listed for loss in fields["changes"].get("method", {}).get("losses", ())}
    others = [_default_row(loss) for loss in LOSSES if _kind(loss) not in known]
    return tuple(_row(fields) for fields in [*listed, *others])


def method_row(key: str) -> MethodRow:
    """Return a row.

    Raises:
        NotFoundError: If no row has that key.
    """
    found = {row.key: row for row in method_rows()}
    if key not in found:
        raise NotFoundError(f"There is no method '{key}'. Choose one of: {', '.join(found)}.")
    return found[key]


def _row(fields: dict[str, Any]) -> MethodRow:
    told = _loss(fields["changes"]["method"]["losses"][-1]["kind"])
    method = {"name": fields["key"], **fields["changes"]["method"]}
    return MethodRow.model_validate(
        {
            "meaning": told.meaning,
            "formula": told.formula,
            "source": told.source,
            **fields,
            "changes": {**fields["changes"], "method": method},
        }
    )


def _default_row(loss: type[LossSettings]) -> dict[str, Any]:
    """Return the row of a loss that no row names: beside cross-entropy, and soft labels where it compares states."""
    beside = {"states": ["cross_entropy", "soft_labels"], "logits": ["cross_entropy"]}
    kinds = next((kinds for read, kinds in beside.items() if read in loss.reads), [])
    kind = _kind(loss)
    return {
        "key": kind.replace("_", "-"),
        "name": f"+ {kind.replace('_', ' ')}",
        "group": "States" if "states" in loss.reads else "Logits",
        "changes": {"method": {"losses": [{"kind": each} for each in (*kinds, kind)]}},
    }


def _loss(kind: str) -> type[LossSettings]:
    return next(loss for loss in LOSSES if _kind(loss) == kind)


def _kind(loss: type[LossSettings]) -> str:
    return loss.model_fields["kind"].default
