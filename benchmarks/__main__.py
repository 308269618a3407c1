"""What training costs beside other loops: `make bench`, or in short `make bench QUICK=1`.

Results go to assets/benchmarks, and from there into docs/performance.md. On a GPU (`make bench DEVICE=cuda`) only what
computes there is measured, and the results stay in files of their own.
"""

import argparse
import dataclasses
import importlib
import json
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import charts, table
from benchmarks.goals import GOALS, judged
from benchmarks.measuring import RESULTS, Bench, Found, circumstances, write

IN_SHORT = ("views", "steps", "head", "likeness", "use", "decoding", "kept", "growth")
ON_A_CPU = (*IN_SHORT, "profiling", "skipping")
ON_A_DEVICE = ("large", "head", "growth")


def main() -> None:
    """Measure, write and print; the exit status says whether every gate was kept."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--quick", action="store_true", help="fewer utterances and rounds")
    parts_of_it = asked.add_mutually_exclusive_group()
    parts_of_it.add_argument(
        "--again", nargs="+", choices=ON_A_CPU, help="measure these parts anew, and keep what is stored of the others"
    )
    parts_of_it.add_argument(
        "--only", nargs="+", choices=sorted({*ON_A_CPU, *ON_A_DEVICE}), help="print these parts, and store nothing"
    )
    asked.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where models compute")
    given = asked.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA device that PyTorch can use here. Leave DEVICE out to measure on the CPU.")
    if given.again and given.device != "cpu":
        asked.error("--again is for the results of a CPU: on a GPU all is measured in a few minutes")
    # Ratios of one thread: what a second one adds depends on who else is there.
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    found = Found()
    usual = ON_A_DEVICE if given.device == "cuda" else IN_SHORT if given.quick else ON_A_CPU
    parts = given.only or given.again or usual
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.quick, torch.device(given.device))
        for number, name in enumerate(parts, 1):
            part = importlib.import_module(f"benchmarks.{name}")
            found.add(part.measure(dataclasses.replace(bench, part=f"[{number}/{len(parts)}] {name}")))
    print(file=sys.stderr)
    if given.only:
        _print(found)
    else:
        _store(found, bench, given.again or ())
    sys.exit(not all(row["met"] for row in judged(found.goals)))


def _store(found: Found, bench: Bench, again: Sequence[str]) -> None:
    """Write the results; those of a CPU go into the documentation, too.

    Args:
        found: What was measured.
        bench: How.
        again: Parts that were measured anew: what is stored of all others stays. Everything that is compared is
            compared within a part.
    """
    end = "" if bench.device.type == "cpu" else f"-{bench.device.type}"
    rows, growth = judged(found.goals), found.growth
    measured = {**circumstances(bench), "seconds": found.seconds, "memory": found.memory}
    if again:
        stored = _stored(f"measurements{end}.json")
        seconds, memory = {**stored["seconds"], **found.seconds}, {**stored["memory"], **found.memory}
        anew = {**stored.get("again", {}), **dict.fromkeys(again, measured["date"])}
        measured = {**stored, "seconds": seconds, "memory": memory, "again": anew}
        fresh = dict(zip((goal for goal in GOALS if goal in found.goals), rows, strict=True))
        rows = [fresh.get(goal, row) for goal, row in zip(GOALS, _stored(f"goals{end}.json"), strict=True)]
        drawn = {each.name: each for each in found.growth}
        growth = [drawn.get(each["name"], each) for each in _stored(f"growth{end}.json")]
    write(f"goals{end}.json", rows)
    write(f"measurements{end}.json", measured)
    write(f"growth{end}.json", growth)
    if found.rates:
        write(f"rates{end}.json", found.rates)
    for each in found.growth:
        (RESULTS / f"{each.name}{end}.svg").write_text(charts.picture(each), encoding="utf-8")
    if end:
        _print(found)
    else:
        table.update_page()
        print(table.rows())


def _stored(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def _print(found: Found) -> None:
    for row in judged(found.goals):
        kept = "kept" if row["met"] else "MISSED"
        print(f"{row['number']} {row['goal']}: {row['measured']:.3g} {row['unit']} (gate {row['gate']:g}, {kept})")
    for name, values in found.seconds.items():
        print(f"{name:50} {[round(value, 3) for value in values]} s")
    for name, size in found.memory.items():
        print(f"{name:50} {size / 2**20:.0f} MiB")
    for rate in found.rates:
        median = statistics.median(rate.seconds)
        use = "" if rate.use is None else f", {rate.use:.1%} of the peak of {rate.peak / 1e12:.0f} TFLOP/s"
        spread = f"{median:.4f} s [{min(rate.seconds):.4f}, {max(rate.seconds):.4f}]"
        speed = f"{rate.audio / median:.0f} s of audio and {rate.tokens / median:.0f} tokens a second"
        print(f"{rate.name:50} {spread}: {speed}, {rate.memory / 2**30:.1f} GiB{use}")
    for each in found.growth:
        print("\n".join(["", each.title, *charts.table(each)]))


if __name__ == "__main__":
    main()
