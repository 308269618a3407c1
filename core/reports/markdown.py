"""An ablation table in Markdown."""

import re
from collections.abc import Sequence

from core.reports.sheets import VERDICT, Sheet, sheets
from core.runs import AblationTable

_SIGNS = re.compile(r"([\\`*_\[\]{}<>|~&$#!])")
_READ_LATER = re.compile(r":(?=[\w+-]+:)|(?<=http)(?=s?://)|(?<=www)(?=\.)|@(?=\w)", re.IGNORECASE)
_JOINER = "\u2060"
"""A word joiner, which nobody sees: short names of emoji, addresses and people are found where signs are escaped, too,
unless it parts them."""


def ablation_markdown(table: AblationTable) -> str:
    """Return the table of a job with its notes, and the details of its test sets, each under its heading."""
    return "\n".join(_section(sheet) for sheet in sheets(table))


def plain(text: str) -> str:
    """Return text that Markdown shows letter by letter, on one line."""
    parted = _READ_LATER.sub(lambda found: found.group() + _JOINER, " ".join(text.split()))
    return _SIGNS.sub(r"\\\1", parted)


def _section(sheet: Sheet) -> str:
    groups = sheet.groups or ("",) * len(sheet.columns)
    names = [f"{plain(group)}: {name}" if group else name for group, name in zip(groups, sheet.columns, strict=True)]
    lines = [f"## {plain(sheet.title)}", "", _row(names), "|---|" + "---:|" * (len(sheet.columns) - 1)]
    # Verdicts tell names, too. All other cells are ours: numbers, units and words without signs that mean anything.
    named = [place for place, name in enumerate(sheet.columns) if not place or name == VERDICT]
    lines += [_row([plain(cell) if place in named else cell for place, cell in enumerate(row)]) for row in sheet.rows]
    return "\n".join([*lines, "", *(f"{plain(note)}  " for note in sheet.notes), ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
