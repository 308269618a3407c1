"""Which runs of a file are planned, and what teaches them."""

from collections.abc import Sequence

from core.config import RunConfig, groups
from core.scaling.shapes import Shape, shapes_of


def last_group(configs: Sequence[RunConfig]) -> tuple[list[RunConfig], dict[str, Shape]]:
    """Return the runs that a job ends with, and the shapes of earlier rows' students, which may teach them.

    Raises:
        ConfigError: With every model whose shape is not known.
    """
    *earlier, last = groups(configs)
    rows: dict[str, Shape] = {}
    for group in earlier:
        for config in group:
            rows[config.name] = shapes_of(config, rows)[1]
    return list(last), rows
