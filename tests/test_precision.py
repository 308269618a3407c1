"""What `auto` chooses, beside what the system says of the processor."""

from pathlib import Path

import pytest
import torch

from core.config import Training
from core.precision import heard_in, product_type

CPUINFO = Path("/proc/cpuinfo")
CPU = torch.device("cpu")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="only Linux lists what its processor can do here")
def test_a_cpu_multiplies_in_bfloat16_where_it_has_it() -> None:
    flags = next(line for line in CPUINFO.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    expected = torch.bfloat16 if "avx512_bf16" in flags.split() else torch.float32
    assert product_type(Training(), CPU) == expected


@pytest.mark.parametrize(("has", "chosen"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_has_float16(monkeypatch: pytest.MonkeyPatch, has: bool, chosen: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert product_type(Training(), torch.device("cuda")) == chosen


def test_what_is_asked_for_is_taken_and_what_is_kept_is_heard_in_float32() -> None:
    asked = Training(precision="bfloat16")
    assert product_type(asked, CPU) == heard_in(asked, CPU) == torch.bfloat16
    assert heard_in(asked.model_copy(update={"teacher_outputs": "cached"}), CPU) == torch.float32
    assert product_type(Training(precision="float32"), CPU) == torch.float32
