"""The goals as a table, for the terminal and the documentation."""

import json
from pathlib import Path

from benchmarks import charts
from benchmarks.measuring import RESULTS, ROOT, Growth

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def rows(results: Path = RESULTS) -> str:
    """Return the table of the stored results."""
    goals = json.loads((results / "goals.json").read_text(encoding="utf-8"))
    stamp = json.loads((results / "measurements.json").read_text(encoding="utf-8"))
    lines = ["| # | goal | gate | target | measured | n | spread | |", "|---|---|---|---|---|---|---|---|"]
    for goal in goals:
        sign = "≥" if goal["at_least"] else "≤"
        kept = "reached" if goal["target_met"] else "kept" if goal["met"] else "**missed**"
        spread = f"{_number(goal['lowest'])} to {_number(goal['highest'])}" if goal["n"] > 1 else ""
        measured = f"{_number(goal['measured'])} {goal['unit']}".strip()
        first = f" (first {_number(goal['first_gate'])})" if goal["first_gate"] else ""
        bounds = f"{sign} {_number(goal['gate'])}{first} | {sign} {_number(goal['target'])}"
        lines.append(f"| {goal['number']} | {goal['goal']} | {bounds} | {measured} | {goal['n']} | {spread} | {kept} |")
    quick = ", in short (`make bench QUICK=1`)" if stamp["quick"] else ""
    anew = [f"{part} again on {date}" for part, date in stamp.get("again", {}).items()]
    again = f" ({', '.join(anew)}: `python -m benchmarks --again`)" if anew else ""
    lines += [
        "",
        f"Measured on {stamp['date']}{quick}{again}: {stamp['machine']['processor']}, one thread, PyTorch "
        f"{stamp['versions']['torch']}, transformers {stamp['versions']['transformers']}, PEFT "
        f"{stamp['versions']['peft']}.",
        "",
        NOTES,
    ]
    for growth in (Growth(**each) for each in json.loads((results / "growth.json").read_text(encoding="utf-8"))):
        picture = f"![{growth.title}, by {growth.work}](../assets/benchmarks/{growth.name}.svg)"
        lines += ["", f"{growth.title}:", "", *charts.table(growth), "", picture]
    return "\n".join(lines) + "\n"


NOTES = """
- A goal is kept where it passes its gate, and reached where it passes its target.
- Ratios are of median CPU seconds, the loops measured in turn in one run; the spread is of single rounds. Where
  seconds are given, the smallest of n counts.
- Models have the shape of Whisper base and of base pruned to four decoder layers, with random weights, on which speed
  does not depend. The exactness of a group, the size of cached targets and transcription are measured on the real
  tiny.en.
- Utterances have 2 to 10 s. Each of our batches has one of eight lengths (`training.length_buckets`), and an epoch of
  all of them is measured. The batches of the other loops hold long and short utterances, padded to 30 s or to the
  longest one.
- The first gates were set on a student with an encoder half as expensive as its teacher's. Here both encoders are
  equal, and a step with adapters everywhere must compute and differentiate all of the student's. Only padding and the
  teacher's pass, a third of a loop at true length, can be saved, so the gates at true length were lowered. The gate
  of the teacher's pass was lowered as well: matrix products, which run at the peak, take two thirds of it.
- The other loops multiply in float32. [measurements.json](../assets/benchmarks/measurements.json) also has ours in
  bfloat16, where the CPU has it, and faster-whisper and Liger's chunked loss.
- Distil-Whisper's step follows its repository at commit cc96130. [profile.md](../assets/benchmarks/profile.md) shows
  where the time of a step goes.
""".strip()


def _number(value: float) -> str:
    return f"{value:.0e}" if 0 < value < 1e-3 else f"{value:.3g}"


def update_page(page: Path = PAGE) -> None:
    """Put the table of the stored results into the documentation."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n\n{rows()}\n{END}{after}", encoding="utf-8")
