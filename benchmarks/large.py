"""Goals 1, 2, 3 and 7 on a GPU, with a teacher that needs one: Whisper large-v2's shape, and a student of
distil-small.en's, everybody in bfloat16; and how much audio a second of the device goes through.

Gates are those of one thread of a CPU: here they say how far their promise carries.
"""

import dataclasses
import statistics
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import goals
from benchmarks.goals import Ratio
from benchmarks.measuring import Bench, Found, Rate, peak_on_device, product_peak
from benchmarks.pair import AUDIO_CONTEXT, BUCKETS, DECODER, EVERYWHERE, Pair, shaped
from benchmarks.peers import labels, peft_step
from benchmarks.steps import (
    EIGHT,
    EIGHT_CACHED,
    FULL_CONTEXT,
    FULL_LABELS,
    LISTENING,
    ONE,
    ONE_CACHED,
    PADDED,
    RECIPE,
    STUDENTS,
    TRUE,
    TRUE_CACHED,
    one,
    ratios,
    repeated,
    several,
)
from benchmarks.use import operations_of, step_of
from core.audio import SAMPLE_RATE, write_flac
from core.scaling.trials import TEXT
from core.scaling.work import TOKENS_PER_SECOND
from core.sources import Utterance

TEACHER = {"width": 1280, "encoder": 32, "decoder": 32}
STUDENT = {"width": 768, "encoder": 12, "decoder": 4}
BATCH, CLIPS, SHORTEST = 16, 160, 2.0
SAMPLED = 8
"""Of so many clips one is asked how many operations it needs at its true length."""

CACHED = {**DECODER, "freeze_below": STUDENT["encoder"]}
HALF = "bfloat16"


def measure(bench: Bench) -> Found:
    """Measure the teacher's pass, steps of one and of several students, and PEFT loops."""
    pair = _pair(bench)
    steps, config = len(pair.utterances) // pair.batch, pair.config(CACHED)
    theirs = pair.like_all().padded_to_longest()
    loops = {
        ONE: (1, one(pair, EVERYWHERE)),
        EIGHT: (STUDENTS, several(pair, EVERYWHERE)),
        ONE_CACHED: (1, one(pair, CACHED)),
        EIGHT_CACHED: (STUDENTS, several(pair, CACHED)),
    }
    rivals = {
        RECIPE: peft_step(theirs, seconds=FULL_CONTEXT, longest=FULL_LABELS, everywhere=True, every_position=True),
        PADDED: peft_step(theirs, seconds=FULL_CONTEXT, everywhere=True),
        TRUE: peft_step(theirs, seconds=theirs.context, everywhere=True),
        TRUE_CACHED: peft_step(theirs, seconds=theirs.context, everywhere=False),
    }
    acts: dict[str, Callable[[], object]] = {name: in_half(step) for name, step in rivals.items()}
    acts |= {name: repeated(loop, steps) for name, (_, loop) in loops.items()}
    acts[LISTENING] = lambda: pair.prepared(config)
    seconds = bench.in_turn(acts, rounds=2 if bench.quick else 5)
    memory = {name: peak_on_device(act, bench.device) for name, act in acts.items()}
    peak = product_peak(bench, torch.bfloat16)
    singles = [dataclasses.replace(pair, utterances=[item], batch=1) for item in pair.utterances[::SAMPLED]]
    singles = [single.padded_to_longest() for single in singles]
    useful = {
        LISTENING: sum(operations_of(lambda single=single: single.prepared(config)) for single in singles),
        ONE_CACHED: sum(operations_of(step_of(single, CACHED)) for single in singles),
    }
    rates = []
    for name, taken in seconds.items():
        students, heard = (loops[name][0] if name in loops else 1), (theirs if name in rivals else pair)
        rates.append(
            Rate(
                name,
                seconds=taken,
                audio=students * sum(item.duration for item in heard.utterances),
                tokens=students * int((labels(heard, longest=None)[1] >= 0).sum()),
                memory=memory[name],
                operations=SAMPLED * useful[name] if name in useful else None,
                peak=peak,
            )
        )
    for _, loop in loops.values():
        loop.close()
    of_step = {name: taken if name in rivals else [each / steps for each in taken] for name, taken in seconds.items()}
    found = Found(goals=ratios(of_step), rates=rates)
    for goal, name in ((goals.CACHED_USE, ONE_CACHED), (goals.TEACHER_USE, LISTENING)):
        shares = [SAMPLED * useful[name] / taken / peak for taken in seconds[name]]
        found.goals[goal] = Ratio(statistics.median(shares), len(shares), min(shares), max(shares))
    return found


def _pair(bench: Bench) -> Pair:
    """Return the models, and clips of noise of 2 to 10 s, as many of each length as fill batches."""
    bench.say("making models and clips")
    draw, clips = np.random.default_rng(0), []
    for number, duration in enumerate(np.linspace(SHORTEST, AUDIO_CONTEXT, CLIPS)):
        path = bench.folder / f"noise-{number}.flac"
        noise = 0.1 * draw.normal(size=int(duration * SAMPLE_RATE))
        write_flac(path, noise.clip(-1, 1).astype(np.float32))
        words = TEXT.split() * 3
        text = " ".join(words[: round(TOKENS_PER_SECOND * duration)])
        clips.append(Utterance(path.stem, path, text, None, len(noise) / SAMPLE_RATE))
    teacher, student = shaped(bench, **TEACHER), shaped(bench, **STUDENT)
    return Pair(teacher, student, clips, BATCH, buckets=BUCKETS, precision=HALF).in_whole_batches()


def in_half(step: Callable[[], None]) -> Callable[[], None]:
    """Return a step in the precision that ours have."""

    def act() -> None:
        with torch.autocast("cuda", getattr(torch, HALF)):
            step()

    return act
