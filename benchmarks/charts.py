"""What costs as work grows: a chart as one SVG file and a table for the documentation."""

from pathlib import Path

from benchmarks.measuring import Growth
from core.reports import charts

STYLE = Path(charts.__file__).with_name("report.css").read_text(encoding="utf-8")


def picture(growth: Growth) -> str:
    """Return the chart with the page's own style in it, so that the file can be looked at alone."""
    series = {name: list(zip(map(float, growth.amounts), costs, strict=True)) for name, costs in growth.costs.items()}
    drawn = str(charts.lines(series, label=growth.title, unit="seconds", along=growth.work))
    opening, rest = drawn.split(">", 1)
    backdrop = '<rect width="100%" height="100%" fill="var(--page)"/>'
    return f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{backdrop}{rest}\n'


def table(growth: Growth) -> list[str]:
    """Return the table, line by line."""
    lines = [
        f"| {growth.work} | {' | '.join(map(str, growth.amounts))} |",
        f"|---|{'---|' * len(growth.amounts)}",
    ]
    for name, costs in growth.costs.items():
        lines.append(f"| {name}, s | {' | '.join(f'{cost:.3g}' for cost in costs)} |")
    return lines
