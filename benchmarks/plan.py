"""How far the plan of a larger job is right: python -m benchmarks.plan

Measures the parts of a job in CPU seconds of one thread, those that are fitted and those that are held out in turn, and
prints what the first predict of the second.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch
from rich.console import Console

from core.calibration import measure_parts
from core.cli.planning import print_held_out
from core.scaling.fit import write_calibration

LARGEST_ERROR = 0.25


def main() -> None:
    """Measure and print; the exit status says whether every prediction was near enough."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--to", type=Path, help="folder in which the measurements are kept, as plan.json")
    given = asked.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    measured = measure_parts(torch.device("cpu"), clock=time.process_time, rounds=given.rounds)
    if given.to is not None:
        write_calibration(measured, given.to)
    print_held_out(measured, Console(width=160))
    sys.exit(any(abs(each.error) > LARGEST_ERROR for each in measured.held_out()))


if __name__ == "__main__":
    main()
