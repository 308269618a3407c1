import subprocess
from pathlib import Path

from core.reports.latex import ablation_latex, plain
from core.reports.sheets import sheets
from core.runs import AblationTable

DOCUMENT = r"""\documentclass{article}
\begin{document}
\input{table}
\end{document}
"""


def compiled(folder: Path, pdflatex: str, latex: str) -> Path:
    """Compile a document that takes the table in; return the PDF."""
    (folder / "table.tex").write_text(latex, encoding="utf-8")
    (folder / "paper.tex").write_text(DOCUMENT, encoding="utf-8")
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    return folder / "paper.pdf"


def test_the_table_compiles(tmp_path: Path, pdflatex: str, table: AblationTable) -> None:
    assert compiled(tmp_path, pdflatex, ablation_latex(table)).read_bytes().startswith(b"%PDF")


def test_the_table_over_seeds_compiles(tmp_path: Path, pdflatex: str, seeds: AblationTable) -> None:
    latex = ablation_latex(seeds)
    assert latex.count(r"\begin{table}") == 2
    compiled(tmp_path, pdflatex, latex)


def test_the_table_compiles_whatever_a_run_is_called(tmp_path: Path, pdflatex: str, foreign: AblationTable) -> None:
    latex = ablation_latex(foreign)
    compiled(tmp_path, pdflatex, latex)
    assert r"\input{/etc" not in latex
    assert (tmp_path / "paper.log").read_text(errors="replace").count("(/etc/passwd") == 0


def test_every_sign_compiles(tmp_path: Path, pdflatex: str) -> None:
    """All of ASCII and of the letters with accents, beside each other in either order."""
    signs = "".join(map(chr, [*range(32, 127), *range(161, 384), 0x2212, 0x2013, 0x4E2D, 0x1F3A7, 0x202E]))
    latex = "\n\n".join(plain(text) for text in (signs, signs[::-1], "".join(f"{sign} " for sign in signs)))
    assert latex.isascii()
    compiled(tmp_path, pdflatex, latex)


def test_the_cells_are_those_of_the_terminal(table: AblationTable) -> None:
    sheet = sheets(table)[0]
    rows = [
        line.removesuffix(r" \\").split(" & ") for line in ablation_latex(table).splitlines() if line.endswith(r" \\")
    ]
    spans, _, *rest = rows
    assert spans[1:3] == [rf"\multicolumn{{2}}{{c}}{{{name}}}" for name in ("recorded clips", "generated voice")]
    assert sum(int(part.split("{")[1][:-1]) for part in spans) == len(sheet.columns)
    for row, cells in zip(rest, sheet.rows, strict=False):
        shown = [cell.replace("$-$", "-").replace("{[}", "[").replace("{]}", "]").replace("{*}", "*") for cell in row]
        assert shown[1:] == [cell.replace("%", r"\%") for cell in cells[1:]]


def test_text_is_printed_letter_by_letter() -> None:
    assert plain("100 % of_a & b") == r"100 \% of\_a \& b"
    assert plain("naïve Łódź") == r"na\"{i}ve \L{}\'{o}d\'{z}"
    assert plain("a\n\tb") == "a b"
    assert plain("中") == "{[}U+4E2D{]}"
