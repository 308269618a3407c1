"""How far a job is and how long it still takes."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from core.errors import Stopped

log = logging.getLogger(__name__)

REPORT_EVERY_SECONDS = 0.5


@dataclass
class Progress:
    """Counts work in relative costs, so that one bar covers stages of unlike speed.

    Attributes:
        total: Cost of the whole job, in any unit.
        report: Called with stage, done and total in thousandths, and the seconds that are left (None at first).
        stop: Says whether the user asked to stop.
    """

    total: float
    report: Callable[[str, int, int, float | None], None]
    stop: Callable[[], bool]
    done: float = 0.0
    stage: str = ""
    _began: float = field(default_factory=time.monotonic)
    _reported: float = 0.0

    def begin(self, stage: str) -> None:
        """Name what comes next; the log has each stage once."""
        if stage != self.stage:
            log.info(stage)
        self.stage = stage
        self._tell()

    def advance(self, cost: float) -> None:
        """Count work that was done.

        Raises:
            Stopped: If the user asked to stop.
        """
        self.done = min(self.total, self.done + cost)
        if time.monotonic() - self._reported >= REPORT_EVERY_SECONDS:
            self._tell()
        if self.stop():
            raise Stopped("Stopped by the user.")

    def finish(self) -> None:
        """Say that all is done."""
        self.done, self.stage = self.total, "Finished"
        self._tell()

    def _tell(self) -> None:
        self._reported = time.monotonic()
        left = None
        if self.done > 0:
            left = (self._reported - self._began) * (self.total - self.done) / self.done
        self.report(self.stage, round(1000 * self.done / self.total), 1000, left)
