"""In which precision a run multiplies matrices; states between layers, sums and losses are float32 whatever it is."""

import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch

from core.config import Training

WORTHWHILE = 1.2
"""How many times as fast as float32 a CPU must be in bfloat16 for it to be chosen."""

TRIALS = 9
"""Products of each kind that are timed; the fastest counts."""


def product_type(settings: Training, device: torch.device) -> torch.dtype:
    """Return what a run multiplies in: its setting, or what the device is fast with."""
    chosen = settings.precision
    if chosen == "auto":
        # CUDA devices before Ampere have float16 only.
        other = "float16" if device.type == "cuda" else "float32"
        chosen = "bfloat16" if _fast_in_bfloat16(device) else other
    return getattr(torch, chosen)


def _fast_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 itself, and a CPU also faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # What CPUs without these instructions gain by it was not measured.
    return torch.cpu._is_avx512_bf16_supported() and bfloat16_speedup() >= WORTHWHILE


@cache
def bfloat16_speedup() -> float:
    """Return how many times as fast this CPU multiplies in bfloat16 as in float32, measured in 0.1 s.

    The instructions alone do not tell: of two CPUs with AVX512-BF16, a Zen 4 of AMD was 4.4 times as fast, and a Xeon
    whose AMX units the virtual machine hides 0.6 times. It is the CPU time of one thread, so that other work on the
    machine does not count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = [_seconds_of_a_product(kind) for _ in range(TRIALS) for kind in (torch.float32, torch.bfloat16)]
    finally:
        torch.set_num_threads(threads)
    return min(seconds[::2]) / min(seconds[1::2])


def _seconds_of_a_product(kind: torch.dtype) -> float:
    """Return the CPU time of a layer as wide as those of Whisper tiny, on 10 s of speech."""
    states, weight = torch.ones(500, 384, dtype=kind), torch.ones(1536, 384, dtype=kind)
    with torch.inference_mode():
        began = time.thread_time()
        torch.nn.functional.linear(states, weight)
        return time.thread_time() - began


def heard_in(settings: Training, device: torch.device) -> torch.dtype:
    """Return what teachers and frozen layers multiply in where speech is learnt from.

    What is kept for later jobs is computed in float32, whoever asks for it first.
    """
    return product_type(settings, device) if settings.teacher_outputs == "live" else torch.float32


def products_in(kind: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which a device multiplies in a precision."""
    return nullcontext() if kind == torch.float32 else torch.autocast(device.type, dtype=kind)


def in_own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which products have the precision of their factors, whatever holds around it."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
