"""An ablation table in LaTeX: plain ASCII, and nothing that is not in every LaTeX."""

import unicodedata
from collections.abc import Sequence

from core.reports.sheets import VERDICT, Sheet, sheets
from core.runs import AblationTable

SIGNS = {  # what LaTeX would read as something else
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",
    "`": "`{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "-": "-{}",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "→": r"$\to$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}

ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
"""How LaTeX names what stands over or under a letter."""


def ablation_latex(table: AblationTable) -> str:
    r"""Return a table environment for the job and one for the details of each test set, for ``\input``."""
    return "\n".join(_environment(sheet) for sheet in sheets(table))


def plain(text: str) -> str:
    """Return text that LaTeX prints letter by letter; what no LaTeX can print stands as its code point."""
    return "".join(_letter(letter) for letter in unicodedata.normalize("NFC", " ".join(text.split())))


def _environment(sheet: Sheet) -> str:
    named = [place for place, name in enumerate(sheet.columns) if not place or name == VERDICT]
    rows = [_row(cells, named) for cells in sheet.rows]
    before, runs = rows[: sheet.fixed], rows[sheet.fixed :]
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{plain(sheet.title)}. {' '.join(plain(note) for note in sheet.notes)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(sheet.columns) - 1)}}}",
        r"\hline",
        *([_spans(sheet)] if sheet.groups else []),
        _row(sheet.columns, range(len(sheet.columns))),
        r"\hline",
        *before,
        *([r"\hline"] if before else []),
        *runs,
        r"\hline",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _spans(sheet: Sheet) -> str:
    """Return the row above the names of the columns: what neighbours are of."""
    groups = (rf"\multicolumn{{{many}}}{{c}}{{{plain(name)}}}" for name, many in sheet.spans)
    return " & ".join(groups) + r" \\"


def _row(cells: Sequence[str], named: Sequence[int]) -> str:
    """Return a row; in all cells but those that tell names a hyphen is a minus."""
    shown = (cell if place in named else cell.replace("-", "−") for place, cell in enumerate(cells))
    return " & ".join(map(plain, shown)) + r" \\"


def _letter(letter: str) -> str:
    if letter in SIGNS:
        return SIGNS[letter]
    if letter.isascii():
        return letter if letter.isprintable() else ""
    base, *marks = unicodedata.normalize("NFD", letter)
    if len(marks) == 1 and marks[0] in ACCENTS and base.isascii() and base.isalpha():
        return rf"\{ACCENTS[marks[0]]}{{{base}}}"
    return f"{{[}}U+{ord(letter):04X}{{]}}"
