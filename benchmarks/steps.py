"""Goals 1, 2 and 3: what a training step costs, beside the loops that people write otherwise."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch

from benchmarks import goals
from benchmarks.goals import Goal, Ratio
from benchmarks.measuring import Bench, Found, ratio
from benchmarks.pair import DECODER, EVERYWHERE, Pair
from benchmarks.peers import distil_whisper_step, peft_step
from core.config import Training
from core.errors import ManifoldError
from core.pacing import Paced, Unseen
from core.precision import product_type
from core.side_by_side import train_side_by_side
from core.training import Watcher, train

STUDENTS, EPOCHS = 8, 3
FULL_CONTEXT, FULL_LABELS = 30.0, 448

ONE, EIGHT = "ours, adapters everywhere", "eight of ours, adapters everywhere"
ONE_CACHED, EIGHT_CACHED = "ours, adapters in the decoder", "eight of ours, adapters in the decoder"
HALF, HALF_CACHED = f"{ONE}, bfloat16", f"{ONE_CACHED}, bfloat16"
LISTENING = "the cache's pass"
SHIPPED = "Distil-Whisper's recipe as shipped"
RECIPE = "the recipe's padding, adapters everywhere"
PADDED, TRUE = "PEFT, 30 s, adapters everywhere", "PEFT, true length, adapters everywhere"
PADDED_CACHED, TRUE_CACHED = "PEFT, 30 s, adapters in the decoder", "PEFT, true length, adapters in the decoder"


def measure(bench: Bench) -> Found:
    """Measure steps.

    Ours are of an epoch with a batch for each length. The others' steps cost what their padding says, so that one batch
    of utterances as long and short as all is enough; of the recipe's padding each holds tables of logits of 93 MB for
    each utterance, several of them at once.
    """
    pair = Pair.of_base(bench, batch=1 if bench.quick else 2).in_buckets(bench)
    other = pair.with_other_encoder()
    steps = len(pair.utterances) // pair.batch
    config = pair.config(DECODER)
    loops = {
        ONE: one(other, EVERYWHERE),
        EIGHT: several(other, EVERYWHERE),
        ONE_CACHED: one(pair, DECODER),
        EIGHT_CACHED: several(pair, DECODER),
    }
    if not bench.quick and product_type(Training(), bench.device) == torch.bfloat16:
        # What `training.precision: auto` takes here, beside float32; it is part of no goal.
        loops[HALF] = one(dataclasses.replace(other, precision="bfloat16"), EVERYWHERE)
        loops[HALF_CACHED] = one(dataclasses.replace(pair, precision="bfloat16"), DECODER)
    theirs, everywhere = pair.like_all().padded_to_longest(), other.like_all().padded_to_longest()
    rivals: dict[str, Callable[[], object]] = {
        SHIPPED: distil_whisper_step(theirs),
        RECIPE: peft_step(everywhere, seconds=FULL_CONTEXT, longest=FULL_LABELS, everywhere=True, every_position=True),
        PADDED: peft_step(everywhere, seconds=FULL_CONTEXT, everywhere=True),
        TRUE: peft_step(everywhere, seconds=everywhere.context, everywhere=True),
        PADDED_CACHED: peft_step(theirs, seconds=FULL_CONTEXT, everywhere=False),
        TRUE_CACHED: peft_step(theirs, seconds=theirs.context, everywhere=False),
    }
    ours = {name: repeated(loop, steps) for name, loop in loops.items()} | {LISTENING: lambda: pair.prepared(config)}
    if bench.quick:
        for name, loop in loops.items():
            # A loop's first step makes its optimiser, too.
            bench.say(f"the first step, {name}")
            loop()
    seconds = bench.in_turn({**rivals, **ours}, rounds=1 if bench.quick else 3, warm=not bench.quick)
    seconds |= {name: [value / steps for value in seconds[name]] for name in ours}
    for loop in loops.values():
        loop.close()
    return Found(goals=ratios(seconds), seconds=seconds)


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[Goal, Ratio]:
    """Return the goals' measures from what steps took, round by round."""
    apart = [STUDENTS * EPOCHS * step for step in seconds[TRUE_CACHED]]
    together = [
        listening + EPOCHS * step for listening, step in zip(seconds[LISTENING], seconds[EIGHT_CACHED], strict=True)
    ]
    return {
        goals.SHIPPED: ratio(seconds[RECIPE], seconds[ONE]),
        goals.PADDED_ONE: ratio(seconds[PADDED], seconds[ONE]),
        goals.PADDED_EIGHT: ratio(seconds[PADDED], seconds[EIGHT], times=STUDENTS),
        goals.TRUE_ONE: ratio(seconds[TRUE], seconds[ONE]),
        goals.TRUE_EIGHT: ratio(seconds[TRUE], seconds[EIGHT], times=STUDENTS),
        goals.EIGHT: ratio(seconds[EIGHT_CACHED], seconds[ONE_CACHED]),
        goals.EPOCHS: ratio(apart, together),
    }


def repeated(step: Callable[[], None], times: int) -> Callable[[], None]:
    """Return what takes some steps."""

    def act() -> None:
        for _ in range(times):
            step()

    return act


def one(pair: Pair, workload: dict[str, object]) -> Paced:
    """Return the training loop of one student."""
    config = pair.config(workload)
    prepared = pair.prepared(config)

    def loop(watcher: Paced) -> None:
        member = pair.member(config, prepared, watcher)
        train(config, student=member.student, point_map=member.point_map, lesson=member.lesson, watcher=watcher)

    return Paced(loop)


def company(pair: Pair, workload: dict[str, object], students: int = STUDENTS) -> Callable[[Watcher], None]:
    """Return the training loop of some students side by side, whose last one is watched; learning rates differ."""
    config = pair.config(workload)
    prepared = pair.prepared(config)
    rates = [config.training.model_copy(update={"learning_rate": 1e-4 * (1 + number)}) for number in range(students)]

    def loop(watcher: Watcher) -> None:
        members = [
            # The last one's pause is the group's.
            pair.member(config.model_copy(update={"training": rate}), prepared, watcher if last else Unseen())
            for rate, last in zip(rates, [False] * (students - 1) + [True], strict=True)
        ]
        train_side_by_side(members, frozen=pair.student, failed=_refuse)

    return loop


def several(pair: Pair, workload: dict[str, object], students: int = STUDENTS) -> Paced:
    """Return the same step by step."""
    return Paced(company(pair, workload, students))


def _refuse(number: int, error: ManifoldError) -> None:
    raise RuntimeError(f"student {number} of the group failed") from error
