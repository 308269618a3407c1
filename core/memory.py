"""How much memory of a device some work takes."""

import threading
from types import TracebackType

import psutil
import torch

SAMPLE_SECONDS = 0.02


class PeakMemory:
    """Watches the memory of a device while it is entered.

    On CUDA PyTorch keeps the account. On a CPU it is the memory of the whole process, looked at fifty times a second:
    what the system kept of its own would be the peak since the process began.

    Attributes:
        peak: The largest so far, in bytes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.peak = 0

    def __enter__(self) -> "PeakMemory":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._look()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device)
        else:
            self._end.set()
            self._thread.join()
            self._look()

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, memory_used(self._device))


def memory_used(device: torch.device) -> int:
    """Return what `PeakMemory` would see now, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss


def memory_free(device: torch.device) -> int:
    """Return how much memory a device has to give now, in bytes; swap does not count."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def weight_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of a model's weights, each storage once."""
    return sum({id(weight): weight.numel() * weight.element_size() for weight in model.parameters()}.values())
