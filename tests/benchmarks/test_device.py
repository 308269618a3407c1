"""Asking for a GPU where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, which would be measured")
def test_measuring_on_a_gpu_without_one_ends_with_a_sentence() -> None:
    command = [sys.executable, "-m", "benchmarks", "--device", "cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "There is no CUDA device that PyTorch can use here. Leave DEVICE out to measure on the CPU."
    )
