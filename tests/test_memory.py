import time

import numpy as np
import torch

from core.memory import PeakMemory, memory_free, memory_used

CPU = torch.device("cpu")
SIZE = 200_000_000


def test_memory_that_was_given_back_is_seen() -> None:
    before = memory_used(CPU)
    with PeakMemory(CPU) as memory:
        held = np.ones(SIZE, dtype=np.uint8)
        time.sleep(0.3)
        del held
    assert memory.peak - before > 0.8 * SIZE
    assert memory_used(CPU) - before < 0.5 * SIZE


def test_a_machine_has_memory_to_give() -> None:
    assert memory_free(CPU) > 0
