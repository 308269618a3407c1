"""The finished ablation that ships with the project."""

from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "assets" / "example.zip"


def example_bundle() -> Path | None:
    """Return the bundle of a finished quick start, or None in an installation without the project's assets."""
    return EXAMPLE if EXAMPLE.is_file() else None
