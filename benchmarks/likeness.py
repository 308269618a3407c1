"""Goal 4: a student in a group against the same student alone, after 50 steps of the real tiny.en."""

import torch

from benchmarks import goals
from benchmarks.goals import Ratio
from benchmarks.measuring import Bench, Found
from benchmarks.pair import DECODER, Pair, speech
from core.config import PrunedStudent
from core.errors import ManifoldError
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.lora import adapter_parameters
from core.pacing import Unseen
from core.side_by_side import Member, train_side_by_side
from core.training import train
from core.weights.load import load_whisper

STEPS = 50
SEEDS = (0, 0, 1)
"""Two students of the same data, and one whose data come in another order: every student then has rows of its own."""


def measure(bench: Bench) -> Found:
    """Measure the largest distance of adapters, relative to their length."""
    teacher = Whisper(load_whisper("openai/whisper-tiny.en"), language="en")
    student = prune(teacher, PrunedStudent(decoder_layers=(0, 1, 3)))
    for model in (teacher, student):
        model.to(bench.device).model.requires_grad_(False).eval()
    pair = Pair(teacher, student, speech(bench, 4), batch=4)
    workload = {**DECODER, "freeze_below": 4, "student": {"kind": "pruned", "decoder_layers": [0, 1, 3]}}
    seeds = SEEDS[1:] if bench.quick else SEEDS
    configs = []
    for number, seed in enumerate(seeds):
        config = pair.config(workload, steps=STEPS, seed=seed)
        training = config.training.model_copy(update={"batch_size": 2, "learning_rate": 1e-3 * (1 + number)})
        configs.append(config.model_copy(update={"training": training}))
    prepared = pair.prepared(configs[0])
    alone = configs[-1:] if bench.quick else configs
    singles = [pair.member(config, prepared, Unseen()) for config in alone]
    group = [pair.member(config, prepared, Unseen()) for config in configs]
    for number, one in enumerate(singles, 1):
        bench.say(f"{STEPS} steps of student {number} of {len(singles)} alone")
        train(one.config, student=one.student, point_map=one.point_map, lesson=one.lesson, watcher=one.watcher)
    bench.say(f"{STEPS} steps of all side by side")
    train_side_by_side(group, frozen=student, failed=_refuse)
    apart = [_distance(mine, theirs) for mine, theirs in zip(group[-len(singles) :], singles, strict=True)]
    return Found(goals={goals.ALIKE: Ratio(max(apart), len(apart), min(apart), max(apart))})


def _distance(mine: Member, theirs: Member) -> float:
    first, second = (
        torch.cat([value.detach().flatten() for value in adapter_parameters(one.student.model).values()])
        for one in (mine, theirs)
    )
    return float((first - second).norm() / second.norm())


def _refuse(number: int, error: ManifoldError) -> None:
    raise RuntimeError(f"student {number} of the group failed") from error
