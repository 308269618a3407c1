"""States to be mapped, without a model and without PyTorch, which no map waits for."""

import numpy as np

FRAMES, WIDTH = 100, 384


def states(points: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return student and teacher states that wander as frames of speech do, [points, WIDTH] each."""
    random = np.random.default_rng(seed)
    speech = random.normal(size=(-(-points // FRAMES), 1, WIDTH)) + 0.3 * np.cumsum(
        random.normal(size=(-(-points // FRAMES), FRAMES, WIDTH)), axis=1
    )
    teacher = speech.reshape(-1, WIDTH)[:points].astype(np.float32)
    student = teacher + random.normal(size=teacher.shape).astype(np.float32)
    return student, teacher
