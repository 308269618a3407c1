"""Where the time of a step of eight students and of the teacher's pass goes: the costliest operations by shapes."""

from contextlib import suppress

from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring import RESULTS, Bench, Found
from benchmarks.pair import DECODER, Pair
from benchmarks.steps import STUDENTS, company
from benchmarks.use import listening, longest
from core.errors import Stopped

WARM_STEPS, ROWS = 2, 15


def measure(bench: Bench) -> Found:
    """Profile a step and a pass after some that do not count, and write their tables."""
    bench.say(f"a step of {STUDENTS} students")
    watcher = _Profiler()
    with suppress(Stopped):
        company(Pair.of_base(bench, batch=4), DECODER)(watcher)
    bench.say("the teacher's pass")
    pair = longest(bench)
    listen, profiled = listening(pair), _profile()
    listen()
    with profiled:
        listen()
    lines = _table(f"A step of {STUDENTS} students with adapters in the decoder, batch 4", watcher.profile)
    lines += ["", *_table(f"The teacher's pass over {len(pair.utterances)} utterances of nearly one length", profiled)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "profile.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Found()


class _Profiler:
    """A watcher that profiles the step after the warm ones and then says stop."""

    def __init__(self) -> None:
        self.profile = _profile()

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """See a step go by."""

    def pause(self, step: int) -> None:
        """Profile from one pause to the next."""
        if step == WARM_STEPS:
            self.profile.start()
        elif step > WARM_STEPS:
            self.profile.stop()
            raise Stopped("profiled one step")


def _profile() -> profile:
    # With a GPU, what waits for it is counted where the CPU waits.
    return profile(activities=[ProfilerActivity.CPU], record_shapes=True)


def _table(what: str, profiled: profile) -> list[str]:
    """Return the costliest operations, with their share of the whole."""
    events = sorted(profiled.key_averages(group_by_input_shape=True), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    lines = [
        f"{what}: {whole / 1e6:.2f} s of one thread, with the profiler.",
        "",
        "| operation | shapes | calls | ms | share |",
        "|---|---|---|---|---|",
    ]
    for event in events[:ROWS]:
        shapes = " ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)
        milliseconds, share = event.self_cpu_time_total / 1e3, event.self_cpu_time_total / whole
        lines.append(f"| {event.key} | {shapes} | {event.count} | {milliseconds:.1f} | {share:.1%} |")
    return lines
