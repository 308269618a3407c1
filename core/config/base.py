"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, unknown fields refused. Settings import no torch: the app builds its forms from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=False)
