"""Measuring on a machine that others use too: CPU time of one thread, rivals in turn, medians of the same run."""

import datetime
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "assets" / "benchmarks"
PACKAGES = ("torch", "transformers", "peft", "numpy", "faster-whisper", "ctranslate2")


@dataclass(frozen=True)
class Ratio:
    """How many times one thing costs another.

    Attributes:
        value: Ratio of the medians.
        n: Rounds in which both were measured, one after the other.
        lowest: Smallest ratio of one round.
        highest: Largest ratio of one round.
    """

    value: float
    n: int
    lowest: float
    highest: float


def in_turn(rivals: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each rival, measured in turn, round by round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):
        for name, act in rivals.items():
            began = time.process_time()
            act()
            if number:
                seconds[name].append(time.process_time() - began)
    return seconds


def ratio(costly: Sequence[float], cheap: Sequence[float], *, times: float = 1.0) -> Ratio:
    """Return how many times the first costs the second.

    Args:
        costly: Its measurements, round by round.
        cheap: The other's, of the same rounds.
        times: Multiplies the ratio.
    """
    each = [times * mine / other for mine, other in zip(costly, cheap, strict=True)]
    value = times * statistics.median(costly) / statistics.median(cheap)
    return Ratio(value, len(each), min(each), max(each))


def product_peak() -> float:
    """Return the floating-point operations per second of the fastest matrix product here, on one thread."""
    best = 0.0
    for size in (1024, 2048):
        left, right = torch.randn(size, size), torch.randn(size, size)
        for _ in range(3):
            began = time.process_time()
            torch.mm(left, right)
            best = max(best, 2 * size**3 / (time.process_time() - began))
    return best


def circumstances(*, quick: bool) -> dict[str, object]:
    """Return the machine, the versions and the date that results are stamped with."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "machine": {"processor": model, "system": platform.platform(), "threads": torch.get_num_threads()},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "date": datetime.date.today().isoformat(),
        "quick": quick,
        "clock": "CPU seconds of the process",
    }


def write(name: str, content: object) -> Path:
    """Write a result as JSON."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / name
    path.write_text(json.dumps(content, indent=2, default=asdict) + "\n", encoding="utf-8")
    return path
