"""Measuring on a machine that others use too: CPU time of one thread, rivals in turn, medians of the same run.

On a GPU the clock is the wall's, read when the device has done all that it was told to do.
"""

import datetime
import importlib.metadata
import json
import platform
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.goals import Goal, Ratio

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "assets" / "benchmarks"
PACKAGES = ("torch", "transformers", "peft", "numpy", "faster-whisper", "ctranslate2", "liger-kernel", "umap-learn")


@dataclass(frozen=True)
class Growth:
    """What costs as work grows: one table and one chart.

    Attributes:
        name: Of its files.
        title: What it shows.
        work: What grows.
        amounts: How much of it.
        costs: Median seconds of everything that was timed, amount by amount.
    """

    name: str
    title: str
    work: str
    amounts: list[int]
    costs: dict[str, list[float]]


@dataclass(frozen=True)
class Rate:
    """How fast something goes through speech.

    Attributes:
        name: What.
        seconds: That it took, round by round.
        audio: Seconds of speech that it went through each time; those of several students are added.
        tokens: That it learnt, or would; likewise.
        memory: By how many bytes the device's memory grew at most.
        operations: Floating-point operations that true lengths need; None where they were not counted.
        peak: Of the fastest matrix product, in operations per second.
    """

    name: str
    seconds: list[float]
    audio: float
    tokens: int
    memory: int
    operations: float | None
    peak: float

    @property
    def use(self) -> float | None:
        """Useful share of the peak."""
        return None if self.operations is None else self.operations / statistics.median(self.seconds) / self.peak


@dataclass
class Found:
    """What parts of the benchmark have found.

    Attributes:
        goals: Measures of goals.
        seconds: Of everything that was timed, round by round.
        memory: Of everything whose memory was measured, in bytes.
        growth: Tables of what costs as work grows.
        rates: How fast a large teacher and its students go through speech.
    """

    goals: dict[Goal, Ratio] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    growth: list[Growth] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        """Take in what another part has found."""
        self.goals |= other.goals
        self.seconds |= other.seconds
        self.memory |= other.memory
        self.growth += other.growth
        self.rates += other.rates


@dataclass(frozen=True)
class Bench:
    """How one run of the benchmark measures.

    Attributes:
        folder: For generated speech and databases; it goes when the run ends.
        quick: Fewer utterances and rounds.
        device: Where models compute.
        part: What is being measured, for people who wait.
    """

    folder: Path
    quick: bool
    device: torch.device
    part: str = ""
    began: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Tell people who wait what happens now; on a terminal, in one line that is written over."""
        spent = round(time.monotonic() - self.began)
        line = f"{spent // 60:3}:{spent % 60:02}  {self.part}: {what}"
        end = "\n"
        if sys.stderr.isatty():
            line, end = f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", ""
        print(line, end=end, file=sys.stderr, flush=True)

    def seconds_of(self, act: Callable[[], object]) -> float:
        """Return the seconds that something takes: of the processor, or by the clock on the wall with a GPU."""
        if self.device.type == "cpu":
            began = time.process_time()
            act()
            return time.process_time() - began
        torch.cuda.synchronize(self.device)
        began = time.perf_counter()
        act()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - began

    def in_turn(
        self, rivals: Mapping[str, Callable[[], object]], *, rounds: int, warm: bool = True
    ) -> dict[str, list[float]]:
        """Return the seconds of each rival, in turn, round by round, after one that does not count if `warm`."""
        seconds: dict[str, list[float]] = {name: [] for name in rivals}
        for number in range(0 if warm else 1, rounds + 1):
            for name, act in rivals.items():
                self.say(f"{f'round {number} of {rounds}' if number else 'warming up'}, {name}")
                taken = self.seconds_of(act)
                if number:
                    seconds[name].append(taken)
        return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of everything that was timed."""
    return {name: statistics.median(values) for name, values in seconds.items()}


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


def product_peak(bench: Bench, precision: torch.dtype = torch.float32) -> float:
    """Return the floating-point operations per second of the fastest matrix product here."""
    best = 0.0
    for size in (1024, 2048) if bench.device.type == "cpu" else (4096, 8192):
        left, right = torch.randn(2, size, size, device=bench.device, dtype=precision)
        for _ in range(3):
            best = max(best, 2 * size**3 / bench.seconds_of(lambda left=left, right=right: torch.mm(left, right)))
    return best


def peak_on_device(act: Callable[[], object], device: torch.device) -> int:
    """Return by how many bytes the device's memory grows while something is done."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    act()
    return torch.cuda.max_memory_allocated(device) - before


def circumstances(bench: Bench) -> dict[str, object]:
    """Return the machine, the versions and the date that results are stamped with."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "machine": {
            "processor": torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else model,
            "system": platform.platform(),
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version for name in PACKAGES if (version := _version(name))},
        },
        "date": datetime.date.today().isoformat(),
        "quick": bench.quick,
        "most memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "clock": "CPU seconds of the process" if bench.device.type == "cpu" else "seconds by the wall, synchronised",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write(name: str, content: object) -> Path:
    """Write a result as JSON."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / name
    path.write_text(json.dumps(content, indent=2, default=asdict) + "\n", encoding="utf-8")
    return path
