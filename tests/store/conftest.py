from collections.abc import Callable
from typing import Any

import pytest

from core.config import RunConfig, read_preset
from core.store import EvaluationRecord, JobRecord, Store


@pytest.fixture
def configs() -> tuple[RunConfig, ...]:
    return read_preset("one-voice")[1]


@pytest.fixture
def job(store: Store, configs: tuple[RunConfig, ...]) -> JobRecord:
    return store.create_job("quickstart", configs)


@pytest.fixture
def evaluate(store: Store, job: JobRecord) -> Callable[..., EvaluationRecord]:
    """Return a function that stores an evaluation with the given fields."""

    def add(**fields: Any) -> EvaluationRecord:
        usual: dict[str, Any] = {
            "job_id": job.id,
            "run_id": None,
            "subject": "teacher",
            "test_set": "test",
            "test_set_hash": "abc",
            "step": None,
            "audio_context": 30.0,
            "normaliser": "whisper-english 0.1.15",
            "decoding": "greedy",
            "wer": 0.1,
            "cer": 0.05,
            "substitutions": 6,
            "deletions": 3,
            "insertions": 1,
            "words": 100,
            "heldout_kl": None,
            "real_time_factor": 0.2,
            "seconds": 3.0,
        }
        return store.add_evaluation(**(usual | fields))

    return add
