from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config import RunConfig, read_preset
from core.store import Store


@pytest.fixture
def configs() -> tuple[RunConfig, ...]:
    return read_preset("quickstart")[1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()
