"""Where the time of a step of eight students goes: the costliest operations by the shapes of their inputs."""

from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring import RESULTS, Bench, Found
from benchmarks.pair import DECODER, Pair
from benchmarks.steps import STUDENTS, company
from core.errors import Stopped

WARM_STEPS, ROWS = 2, 15


def measure(bench: Bench) -> Found:
    """Profile one step after some that do not count, and write the table."""
    pair = Pair.of_base(bench, batch=4)
    bench.say(f"a step of {STUDENTS} students")
    watcher = _Profiler()
    try:
        company(pair, DECODER)(watcher)
    except Stopped:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "profile.md").write_text(watcher.table(), encoding="utf-8")
    return Found()


class _Profiler:
    """A watcher that profiles the step after the warm ones and then says stop."""

    def __init__(self) -> None:
        # With a GPU, what waits for it is counted where the CPU waits.
        self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True)

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """See a step go by."""

    def pause(self, step: int) -> None:
        """Profile from one pause to the next."""
        if step == WARM_STEPS:
            self._profile.start()
        elif step > WARM_STEPS:
            self._profile.stop()
            raise Stopped("profiled one step")

    def table(self) -> str:
        """Return the costliest operations, with their share of the step."""
        events = sorted(
            self._profile.key_averages(group_by_input_shape=True), key=lambda event: -event.self_cpu_time_total
        )
        whole = sum(event.self_cpu_time_total for event in events)
        lines = [
            f"A step of {STUDENTS} students with adapters in the decoder, batch 4: {whole / 1e6:.2f} s of one thread, "
            "with the profiler.",
            "",
            "| operation | shapes | calls | ms | share |",
            "|---|---|---|---|---|",
        ]
        for event in events[:ROWS]:
            shapes = " ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)
            milliseconds, share = event.self_cpu_time_total / 1e3, event.self_cpu_time_total / whole
            lines.append(f"| {event.key} | {shapes} | {event.count} | {milliseconds:.1f} | {share:.1%} |")
        return "\n".join(lines) + "\n"
