"""In which precision a run multiplies matrices; states between layers, sums and losses are float32 whatever it is."""

from contextlib import AbstractContextManager, nullcontext

import torch

from core.config import Training


def product_type(settings: Training, device: torch.device) -> torch.dtype:
    """Return what a run multiplies in: its setting, or what the device is fast with."""
    chosen = settings.precision
    if chosen == "auto":
        # A CPU without bfloat16 instructions is slower with it; CUDA devices before Ampere have float16 only.
        chosen = "float32"
        if device.type == "cuda":
            chosen = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return getattr(torch, chosen)


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
