"""The command line: ``manifold``. What it prints for programs goes to standard output, all else to standard error."""

import sys
from collections.abc import Sequence

from core.cli.commands import app
from core.errors import ConfigError, ManifoldError
from core.names import visible

__all__ = ["app", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 well, 1 it went wrong, 2 it was asked for something that cannot be."""
    try:
        app(None if arguments is None else list(arguments), prog_name="manifold")
    except ManifoldError as error:
        print(visible(str(error)), file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
