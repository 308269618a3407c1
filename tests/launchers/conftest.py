import pytest

from core.config import RunConfig, read_preset


@pytest.fixture
def configs() -> tuple[RunConfig, ...]:
    return read_preset("one-voice")[1]
