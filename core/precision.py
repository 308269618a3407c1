"""In which precision a run multiplies matrices; states between layers, sums and losses are float32 whatever it is."""

from contextlib import AbstractContextManager, nullcontext

import torch

from core.config import Training


def product_type(settings: Training, device: torch.device) -> torch.dtype:
    """Return what a run multiplies in: its setting, or what the device is fast with."""
    chosen = settings.precision
    if chosen == "auto":
        # CUDA devices before Ampere have float16 only.
        other = "float16" if device.type == "cuda" else "float32"
        chosen = "bfloat16" if _has_bfloat16(device) else other
    return getattr(torch, chosen)


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 itself; where it is emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Intel and AMD have had it since 2020 and 2022; what other CPUs gain by it was not measured.
    return torch.cpu._is_avx512_bf16_supported()


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
