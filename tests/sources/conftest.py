"""Folders of short clips with manifests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.audio import SAMPLE_RATE, write_flac


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., str]:
    """Return what writes a clip below the test's folder and returns its name."""

    def write(name: str, *, seconds: float = 0.2, seed: int | None = None, level: float = 0.1) -> str:
        draw = np.random.default_rng(seed if seed is not None else list(name.encode()))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_flac(path, level * draw.uniform(-1, 1, round(seconds * SAMPLE_RATE)).astype(np.float32))
        return name

    return write


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a manifest of rows (objects, or lines as they are)."""

    def write(*rows: dict[str, Any] | str, name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
