"""Goals 4 and 6: the fused head beside losses on whole tables of logits: time, memory, gradient, and Liger's loss."""

import importlib
import importlib.util
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import goals
from benchmarks.goals import Ratio
from benchmarks.measuring import Bench, Found, peak_on_device, ratio
from core.fused_head import LiveTeacher, TopTeacher, Wanted, head_terms, top_teacher

VOCABULARY, WIDTH, TOKENS, TEMPERATURE = 51_864, 512, 1_024, 2.0
TOP = 32


def measure(bench: Bench) -> Found:
    """Measure the time and the peak memory of each form of the divergence, and the distance of its gradient."""
    forms = _forms(bench.device)
    if bench.quick:
        forms = {name: forms[name] for name in ("written-out divergence", "fused divergence")}
    seconds = bench.in_turn(forms, rounds=1 if bench.quick else 7)
    memory = {}
    for name, act in forms.items():
        bench.say(f"memory, {name}")
        memory[name] = _peak_memory(name) if bench.device.type == "cpu" else peak_on_device(act, bench.device)
    share = memory["fused divergence"] / memory["written-out divergence"]
    distance = _gradient_distance(bench.device)
    found = {
        goals.FUSED: Ratio(distance, 1, distance, distance),
        goals.MEMORY: Ratio(share, 1, share, share),
        goals.TIME: ratio(seconds["fused divergence"], seconds["written-out divergence"]),
    }
    return Found(goals=found, seconds=seconds, memory=memory)


def _forms(device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """Return each form of the divergence, as what makes the gradient of the student's states."""
    vocabulary, states, theirs, targets = _material(device)
    live = LiveTeacher(theirs, vocabulary)
    top = top_teacher(theirs @ vocabulary.T, count=TOP, temperature=TEMPERATURE)
    forms = {
        "written-out divergence": lambda: _written_out(states, vocabulary, theirs, None),
        "fused divergence": lambda: _fused(states, vocabulary, live, None),
        "fused divergence from the top 32": lambda: _fused(states, vocabulary, top, None),
        "written-out, with cross-entropy": lambda: _written_out(states, vocabulary, theirs, targets),
        "fused, with cross-entropy": lambda: _fused(states, vocabulary, live, targets),
    }
    if importlib.util.find_spec("liger_kernel") is not None:
        forms["Liger's chunked divergence"] = _liger(states, vocabulary, theirs, targets)
    return forms


def _material(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    vocabulary = torch.randn(VOCABULARY, WIDTH, generator=generator) / WIDTH**0.5
    states = torch.randn(TOKENS, WIDTH, generator=generator)
    theirs = states + torch.randn(TOKENS, WIDTH, generator=generator) / 3
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    return vocabulary.to(device), states.to(device), theirs.to(device), targets.to(device)


def _written_out(states: Tensor, vocabulary: Tensor, theirs: Tensor, targets: Tensor | None) -> Tensor:
    mine = states.clone().requires_grad_()
    logits = mine @ vocabulary.T
    with torch.no_grad():
        target = (theirs @ vocabulary.T / TEMPERATURE).log_softmax(dim=-1)
    source = (logits / TEMPERATURE).log_softmax(dim=-1)
    loss = TEMPERATURE**2 * functional.kl_div(source, target, reduction="sum", log_target=True) / len(states)
    if targets is not None:
        loss = loss + functional.cross_entropy(logits, targets)
    loss.backward()
    assert mine.grad is not None
    return mine.grad


def _fused(states: Tensor, vocabulary: Tensor, teacher: LiveTeacher | TopTeacher, targets: Tensor | None) -> Tensor:
    mine = states.clone().requires_grad_()
    wanted = Wanted(0.0 if targets is None else 1.0, 1.0, TEMPERATURE)
    (terms,) = head_terms([mine], vocabulary, wanted=[wanted], targets=targets, teacher=teacher)
    soft_labels, cross_entropy = terms.soft_labels.mean(), terms.cross_entropy.mean()
    (soft_labels + cross_entropy).backward() if targets is not None else soft_labels.backward()
    assert mine.grad is not None
    return mine.grad


def _liger(states: Tensor, vocabulary: Tensor, theirs: Tensor, targets: Tensor) -> Callable[[], Tensor]:
    """Return Liger's fused linear loss, which at beta 0 is this divergence; uncompiled, in chunks of 128."""
    chunked: Any = importlib.import_module("liger_kernel.chunked_loss")
    loss = chunked.LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, temperature=TEMPERATURE, compiled=False, chunk_size=128
    )

    def act() -> Tensor:
        mine = states.clone().requires_grad_()
        (TEMPERATURE**2 * loss(mine, vocabulary, theirs, vocabulary, targets)).backward()
        assert mine.grad is not None
        return mine.grad

    return act


def _gradient_distance(device: torch.device) -> float:
    """Return how far the fused gradient is from one in float64, relative to its length."""
    vocabulary, states, theirs, targets = _material(device)
    few = slice(0, 64)
    exact = _written_out(states[few].double(), vocabulary.double(), theirs[few].double(), targets[few])
    fused = _fused(states[few], vocabulary, LiveTeacher(theirs[few], vocabulary), targets[few])
    return float((fused.double() - exact).norm() / exact.norm())


def _peak_memory(form: str) -> int:
    """Return by how many bytes a process grows while it makes a form's gradient, measured in a fresh one."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_grow, args=(form, theirs))
    process.start()
    grown = mine.recv()
    process.join()
    return grown


def _grow(form: str, answer: Connection) -> None:
    torch.set_num_threads(1)
    act = _forms(torch.device("cpu"))[form]
    # What making the material took at most must not hide the form's own peak.
    _forget_peak()
    before = _peak()
    act()
    answer.send(_peak() - before)


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _peak() -> int:
    """Return the most memory that this process has held, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
