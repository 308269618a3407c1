"""How far a job is and how long it still takes, and the log of what it did."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from core.errors import Stopped

log = logging.getLogger(__name__)

REPORT_EVERY_SECONDS = 0.5

FIRST_FORECAST = 0.02
"""Share of the work before which nobody is told how long the rest takes: the first batches say little of it."""


@dataclass
class Progress:
    """Counts work in relative costs, so that one bar covers stages of unlike speed.

    Attributes:
        total: Cost of the whole job, in any unit.
        report: Called with stage, done and total in thousandths, and the seconds that are left (None at first).
        stop: Says whether the user asked to stop.
        advanced: Called where something was reported that is not as it was; see `while_advancing`.
    """

    total: float
    report: Callable[[str, int, int, float | None], None]
    stop: Callable[[], bool]
    advanced: Callable[[], None] = lambda: None
    done: float = 0.0
    stage: str = ""
    _began: float = field(default_factory=time.monotonic)
    _reported: float = 0.0
    _advanced: bool = False

    def begin(self, stage: str) -> None:
        """Name what comes next; the log has each stage once."""
        if stage != self.stage:
            log.info(stage)
            self._advanced = True
        self.stage = stage
        if self.done == 0:
            # What comes before the first work that is counted, loading and writing speech, says nothing of its speed.
            self._began = time.monotonic()
        self._tell()

    def advance(self, cost: float) -> None:
        """Count work that was done.

        Raises:
            Stopped: If the user asked to stop.
        """
        self.done = min(self.total, self.done + cost)
        self._advanced |= cost > 0
        if time.monotonic() - self._reported >= REPORT_EVERY_SECONDS:
            self._tell()
        if self.stop():
            raise Stopped("Stopped by the user.")

    def finish(self) -> None:
        """Say that all is done."""
        self.done, self.stage = self.total, "Finished"
        self._tell()

    @contextmanager
    def while_advancing(self, advanced: Callable[[], None]) -> Iterator[None]:
        """Call something else for a while where the work gets on."""
        before, self.advanced = self.advanced, advanced
        try:
            yield
        finally:
            self.advanced = before

    def _tell(self) -> None:
        self._reported = time.monotonic()
        left = None
        if self.done > FIRST_FORECAST * self.total:
            left = (self._reported - self._began) * (self.total - self.done) / self.done
        self.report(self.stage, round(1000 * self.done / self.total), 1000, left)
        if self._advanced:
            self._advanced = False
            self.advanced()


@contextmanager
def written(stream: TextIO) -> Iterator[None]:
    """Write what the engine says of its progress, each line at once, with its time in UTC."""
    lines = logging.Formatter("%(asctime)s UTC  %(message)s", "%Y-%m-%d %H:%M:%S")
    lines.converter = time.gmtime
    handler = logging.StreamHandler(stream)
    handler.setFormatter(lines)
    engine = logging.getLogger("core")
    before = engine.level, engine.propagate
    engine.addHandler(handler)
    engine.setLevel(logging.INFO)
    engine.propagate = False
    try:
        yield
    finally:
        engine.removeHandler(handler)
        engine.setLevel(before[0])
        engine.propagate = before[1]
