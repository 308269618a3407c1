"""What all settings have in common."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from core.config.annotations import bare, item_of
from core.names import cleaned

Name = Annotated[str, AfterValidator(cleaned)]
"""Text on one line, in which everything is seen."""


class Settings(BaseModel):
    """Frozen, unknown fields refused. Settings import no torch: the app builds its forms from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, fields: Any) -> Any:
        """Write true and false as words where numbers are wanted: Python would take them as 1 and 0."""
        if not isinstance(fields, dict):
            return fields
        wanted = {name: bare(field.annotation) for name, field in cls.model_fields.items()}
        return {name: _no_truth(value, wanted.get(name)) for name, value in fields.items()}


def _no_truth(value: Any, wanted: Any) -> Any:
    if isinstance(value, bool) and wanted in (int, float):
        return str(value).lower()
    if isinstance(value, list | tuple) and item_of(wanted) is not None:
        return [_no_truth(item, item_of(wanted)) for item in value]
    return value
