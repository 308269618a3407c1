"""Goals 1, 2 and 3: what a training step costs, beside the loops that people write otherwise."""

from collections.abc import Callable
from pathlib import Path

from benchmarks import goals
from benchmarks.goals import Goal
from benchmarks.measuring import Ratio, in_turn, ratio
from benchmarks.pair import AUDIO_CONTEXT, DECODER, EVERYWHERE, Pair
from benchmarks.peers import distil_whisper_step, peft_step
from core.errors import ManifoldError
from core.pacing import Paced, Unseen
from core.side_by_side import train_side_by_side
from core.training import train

STUDENTS, EPOCHS = 8, 3
FULL_CONTEXT, FULL_LABELS = 30.0, 448


def measure(folder: Path, *, quick: bool) -> tuple[dict[Goal, Ratio], dict[str, list[float]]]:
    """Return the goals that were measured, and the CPU seconds of every step.

    Args:
        folder: For generated speech.
        quick: Fewer utterances and rounds.
    """
    pair = Pair.of_base(folder, batch=2 if quick else 8)
    other = pair.with_other_encoder()
    rounds = 2 if quick else 5
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
    seconds = in_turn({**rivals, **ours}, rounds=rounds)
    for loop in ours.values():
        loop.close()
    single, eight = seconds["ours, adapters everywhere"], seconds["eight of ours, adapters everywhere"]
    padded, true = seconds["PEFT, 30 s, adapters everywhere"], seconds["PEFT, true length, adapters everywhere"]
    cached, eight_cached = seconds["ours, adapters in the decoder"], seconds["eight of ours, adapters in the decoder"]
    apart = [STUDENTS * EPOCHS * step for step in seconds["PEFT, true length, adapters in the decoder"]]
    together = [
        listening + EPOCHS * step for listening, step in zip(seconds["the cache's pass"], eight_cached, strict=True)
    ]
    return {
        goals.SHIPPED: ratio(seconds["the recipe's padding, adapters everywhere"], single),
        goals.PADDED_ONE: ratio(padded, single),
        goals.PADDED_EIGHT: ratio(padded, eight, times=STUDENTS),
        goals.TRUE_ONE: ratio(true, single),
        goals.TRUE_EIGHT: ratio(true, eight, times=STUDENTS),
        goals.EIGHT: ratio(eight_cached, cached),
        goals.EPOCHS: ratio(apart, together),
    }, seconds


def one(pair: Pair, workload: dict[str, object]) -> Paced:
    """Return the training loop of one student."""
    config = pair.config(workload)
    prepared = pair.prepared(config)

    def loop(watcher: Paced) -> None:
        member = pair.member(config, prepared, watcher)
        train(config, student=member.student, point_map=member.point_map, lesson=member.lesson, watcher=watcher)

    return Paced(loop)


def several(pair: Pair, workload: dict[str, object]) -> Paced:
    """Return the training loop of eight students side by side; their learning rates differ."""
    config = pair.config(workload)
    prepared = pair.prepared(config)
    rates = [config.training.model_copy(update={"learning_rate": 1e-4 * (1 + number)}) for number in range(STUDENTS)]

    def loop(watcher: Paced) -> None:
        members = [
            # The last one's pause is the group's.
            pair.member(config.model_copy(update={"training": rate}), prepared, watcher if last else Unseen())
            for rate, last in zip(rates, [False] * (STUDENTS - 1) + [True], strict=True)
        ]
        train_side_by_side(members, frozen=pair.student, failed=_refuse)

    return Paced(loop)


def _refuse(number: int, error: ManifoldError) -> None:
    raise RuntimeError(f"student {number} of the group failed") from error
