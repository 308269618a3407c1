"""Goals 1, 2 and 3: what a training step costs, beside the loops that people write otherwise."""

from collections.abc import Callable

from benchmarks import goals
from benchmarks.measuring import Bench, Found, ratio
from benchmarks.pair import AUDIO_CONTEXT, DECODER, EVERYWHERE, Pair
from benchmarks.peers import distil_whisper_step, peft_step
from core.errors import ManifoldError
from core.pacing import Paced, Unseen
from core.side_by_side import train_side_by_side
from core.training import Watcher, train

STUDENTS, EPOCHS = 8, 3
FULL_CONTEXT, FULL_LABELS = 30.0, 448


def measure(bench: Bench) -> Found:
    """Measure steps.

    A batch of the recipe's padding holds tables of logits of 93 MB for each utterance, several of them at once.
    """
    pair = Pair.of_base(bench, batch=1 if bench.quick else 4)
    other = pair.with_other_encoder()
    ours = {
        "ours, adapters everywhere": one(other, EVERYWHERE),
        "eight of ours, adapters everywhere": several(other, EVERYWHERE),
        "ours, adapters in the decoder": one(pair, DECODER),
        "eight of ours, adapters in the decoder": several(pair, DECODER),
    }
    config = pair.config(DECODER)
    rivals: dict[str, Callable[[], object]] = {
        "the cache's pass": lambda: pair.prepared(config),
        "Distil-Whisper's recipe as shipped": distil_whisper_step(pair),
        "the recipe's padding, adapters everywhere": peft_step(
            other, seconds=FULL_CONTEXT, longest=FULL_LABELS, everywhere=True, every_position=True
        ),
        "PEFT, 30 s, adapters everywhere": peft_step(other, seconds=FULL_CONTEXT, everywhere=True),
        "PEFT, true length, adapters everywhere": peft_step(other, seconds=AUDIO_CONTEXT, everywhere=True),
        "PEFT, 30 s, adapters in the decoder": peft_step(pair, seconds=FULL_CONTEXT, everywhere=False),
        "PEFT, true length, adapters in the decoder": peft_step(pair, seconds=AUDIO_CONTEXT, everywhere=False),
    }
    seconds = bench.in_turn({**rivals, **ours}, rounds=1 if bench.quick else 3)
    for loop in ours.values():
        loop.close()
    single, eight = seconds["ours, adapters everywhere"], seconds["eight of ours, adapters everywhere"]
    padded, true = seconds["PEFT, 30 s, adapters everywhere"], seconds["PEFT, true length, adapters everywhere"]
    cached, eight_cached = seconds["ours, adapters in the decoder"], seconds["eight of ours, adapters in the decoder"]
    apart = [STUDENTS * EPOCHS * step for step in seconds["PEFT, true length, adapters in the decoder"]]
    together = [
        listening + EPOCHS * step for listening, step in zip(seconds["the cache's pass"], eight_cached, strict=True)
    ]
    found = {
        goals.SHIPPED: ratio(seconds["the recipe's padding, adapters everywhere"], single),
        goals.PADDED_ONE: ratio(padded, single),
        goals.PADDED_EIGHT: ratio(padded, eight, times=STUDENTS),
        goals.TRUE_ONE: ratio(true, single),
        goals.TRUE_EIGHT: ratio(true, eight, times=STUDENTS),
        goals.EIGHT: ratio(eight_cached, cached),
        goals.EPOCHS: ratio(apart, together),
    }
    return Found(goals=found, seconds=seconds)


def one(pair: Pair, workload: dict[str, object]) -> Paced:
    """Return the training loop of one student."""
    config = pair.config(workload)
    prepared = pair.prepared(config)

    def loop(watcher: Paced) -> None:
        member = pair.member(config, prepared, watcher)
        train(config, student=member.student, point_map=member.point_map, lesson=member.lesson, watcher=watcher)

    return Paced(loop)


def company(
    pair: Pair, workload: dict[str, object], students: int = STUDENTS, *, batch: int | None = None
) -> Callable[[Watcher], None]:
    """Return the training loop of some students side by side, whose last one is watched; learning rates differ."""
    config = pair.config(workload, batch=batch)
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


def several(pair: Pair, workload: dict[str, object], students: int = STUDENTS, *, batch: int | None = None) -> Paced:
    """Return the same step by step."""
    return Paced(company(pair, workload, students, batch=batch))


def _refuse(number: int, error: ManifoldError) -> None:
    raise RuntimeError(f"student {number} of the group failed") from error
