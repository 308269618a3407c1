"""What costs as work grows: utterances that the teacher hears and that make an epoch, and students side by side."""

import dataclasses
from collections.abc import Callable

from benchmarks.measuring import Bench, Found, Growth, medians
from benchmarks.pair import DECODER, MOST_UTTERANCES, Pair
from benchmarks.steps import several
from core.companies import LARGEST_COMPANY

BATCH = 4


def measure(bench: Bench) -> Found:
    """Measure both, adapters in the decoder."""
    return Found(growth=[_utterances(bench), _students(bench)])


def _utterances(bench: Bench) -> Growth:
    most = 8 if bench.quick else MOST_UTTERANCES
    batch = min(BATCH, most // 8)
    pair = Pair.of_base(bench, batch=batch, count=most)
    amounts = [most // 8, most // 4, most // 2, most]
    costs: dict[str, list[float]] = {"the teacher's pass": [], "an epoch": []}
    for amount in amounts:
        some = dataclasses.replace(pair, utterances=pair.utterances[:amount])
        config = some.config(DECODER)
        loop = several(some, DECODER, 1)

        def epoch(loop: Callable[[], None] = loop, steps: int = amount // batch) -> None:
            for _ in range(steps):
                loop()

        acts = {"the teacher's pass": lambda some=some, config=config: some.prepared(config), "an epoch": epoch}
        bench.say(f"{amount} of {most} utterances")
        found = medians(bench.in_turn(acts, rounds=1 if bench.quick else 2, warm=not bench.quick))
        loop.close()
        for name, value in found.items():
            costs[name].append(value)
    return Growth("utterances", f"Whisper base's shape, steps of {batch}", "utterances", amounts, costs)


def _students(bench: Bench) -> Growth:
    """Measure a step of each company, 16 as two of eight, beside as many steps of one student."""
    pair = Pair.of_base(bench, batch=1 if bench.quick else BATCH)
    amounts = [1, 2, 4, 8, 16]
    loops = {amount: several(pair, DECODER, amount) for amount in amounts if amount <= LARGEST_COMPANY}
    acts = {str(amount): loop for amount, loop in loops.items()}
    found = medians(bench.in_turn(acts, rounds=1 if bench.quick else 3))
    second = several(pair, DECODER, LARGEST_COMPANY)

    def both() -> None:
        loops[LARGEST_COMPANY]()
        second()

    found |= medians(bench.in_turn({"16": both}, rounds=1 if bench.quick else 3))
    for loop in (*loops.values(), second):
        loop.close()
    together = [found[str(amount)] for amount in amounts]
    costs = {"one step of all, side by side": together, "as many steps of one": [n * together[0] for n in amounts]}
    return Growth("students", "Students over Whisper base's shape, adapters in the decoder", "students", amounts, costs)
