"""The list of methods, as text for people and as JSON for programs."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from core.cli.text import Text
from core.config import MethodRow


def print_methods(rows: Sequence[MethodRow], console: Console) -> None:
    """Print one table per group."""
    for group in dict.fromkeys(row.group for row in rows):
        shown = Table(title=Text(group, style="bold"), title_justify="left", show_lines=False)
        shown.add_column("Method", no_wrap=True)
        for name, ratio in (("What it is", 4), ("Formula", 4), ("Source", 3)):
            shown.add_column(name, ratio=ratio)
        for row in rows:
            if row.group == group:
                shown.add_row(row.key, Text(row.meaning), Text(row.formula), Text(row.source))
        console.print(shown)


def methods_json(rows: Sequence[MethodRow]) -> list[dict[str, Any]]:
    """Return the rows for programs."""
    return [row.model_dump(mode="json") for row in rows]


def methods_markdown(rows: Sequence[MethodRow]) -> str:
    """Return the list as a table in Markdown, as docs/method.md has it."""
    lines = ["| method | group | what it is | source |", "|---|---|---|---|"]
    lines += [f"| `{row.key}` | {row.group} | {_cell(row.meaning)} | {_cell(row.source)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
