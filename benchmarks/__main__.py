"""What training costs beside other loops: `make bench`, or `make bench QUICK=1` in under five minutes.

Results go to assets/benchmarks, and from there into the README's table.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from benchmarks import decoding, head, likeness, steps, table, use
from benchmarks.goals import Goal, judged
from benchmarks.measuring import Ratio, circumstances, write

PARTS = ("steps", "head", "likeness", "use", "decoding")


def main() -> None:
    """Measure, write and print; the exit status says whether every gate was kept."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--quick", action="store_true", help="fewer utterances and rounds")
    asked.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="print these parts, and store nothing")
    given = asked.parse_args()
    # Ratios of one thread: what a second one adds depends on who else is there.
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    measured: dict[Goal, Ratio] = {}
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "steps" in given.only:
            found, timed = steps.measure(folder, quick=given.quick)
            measured, seconds = measured | found, seconds | timed
        if "head" in given.only:
            found, timed, memory = head.measure(quick=given.quick)
            measured, seconds = measured | found, seconds | timed
        if "likeness" in given.only:
            measured |= likeness.measure(folder, quick=given.quick)
        if "use" in given.only:
            measured |= use.measure(folder, quick=given.quick)
        if "decoding" in given.only:
            seconds |= decoding.measure(folder, quick=given.quick)
    results = judged(measured)
    if set(given.only) == set(PARTS):
        write("goals.json", results)
        write("measurements.json", {**circumstances(quick=given.quick), "seconds": seconds, "memory": memory})
        table.update_readme()
        print(table.rows())
    else:
        for row in results:
            print(row)
        for name, values in seconds.items():
            print(f"{name:50} {[round(value, 3) for value in values]}")
        print(memory)
    sys.exit(not all(row["met"] for row in results))


if __name__ == "__main__":
    main()
