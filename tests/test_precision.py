"""What `auto` chooses, beside what the system says of the processor."""

import time
from pathlib import Path

import pytest
import torch

from core.config import Training
from core.precision import bfloat16_speedup, heard_in, product_type

CPUINFO = Path("/proc/cpuinfo")
CPU = torch.device("cpu")


def cpu_seconds(kind: torch.dtype) -> float:
    """Return the CPU time of a few products of a size of this test's own, the fastest of five times."""
    left, right = torch.ones(512, 512, dtype=kind), torch.ones(512, 512, dtype=kind)
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(4):
            torch.mm(left, right)
        found.append(time.process_time() - began)
    return min(found)


@pytest.mark.skipif(not CPUINFO.is_file(), reason="only Linux lists what its processor can do here")
def test_a_cpu_multiplies_in_bfloat16_where_it_has_it_and_is_faster_in_it() -> None:
    flags = next(line for line in CPUINFO.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    chosen, threads = product_type(Training(), CPU), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        speedup = cpu_seconds(torch.float32) / cpu_seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(threads)
    if 0.9 < speedup < 1.6:
        pytest.skip(f"this CPU is about as fast in bfloat16 ({speedup:.2f}): either may be chosen")
    fast = "avx512_bf16" in flags.split() and speedup > 1
    assert chosen == (torch.bfloat16 if fast else torch.float32)


def test_measuring_leaves_the_number_of_threads_and_is_done_once() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        bfloat16_speedup.cache_clear()
        first = bfloat16_speedup()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert first > 0
    assert bfloat16_speedup() == first


@pytest.mark.parametrize(("has", "chosen"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_has_float16(monkeypatch: pytest.MonkeyPatch, has: bool, chosen: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert product_type(Training(), torch.device("cuda")) == chosen


def test_what_is_asked_for_is_taken_and_what_is_kept_is_heard_in_float32() -> None:
    asked = Training(precision="bfloat16")
    assert product_type(asked, CPU) == heard_in(asked, CPU) == torch.bfloat16
    assert heard_in(asked.model_copy(update={"teacher_outputs": "cached"}), CPU) == torch.float32
    assert product_type(Training(precision="float32"), CPU) == torch.float32
