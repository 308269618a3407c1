"""Losses: one file each, named as the loss's `kind`; a method is a weighted list of them.

The file of a loss has a `formula(settings, student, teacher)` and the mathematics that it calls, a pure function of
tensors. Of a loss that reads states, both sides are `States` of one layer pair; of any other they are `Signals` and
`Teaching`. It returns a `Sum`: no formula knows how many processes share a batch.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from core.config import LOSSES, LossSettings, Taid
from core.losses.taid import TaidSchedule
from core.sums import Sum

Formula = Callable[[Any, Any, Any], Sum]

FORMULAS: dict[type[LossSettings], Formula] = {
    loss: import_module(f"core.losses.{loss.model_fields['kind'].default}").formula for loss in LOSSES
}


class Schedule(Protocol):
    """Changes the settings of a loss during a run, by the loss's own values."""

    @property
    def settings(self) -> LossSettings:
        """Those of the next step."""
        ...

    def advance(self, loss: float, progress: float) -> None:
        """Hear the value of a step, and which share of the steps it completes."""


SCHEDULES: dict[type[LossSettings], Callable[[Any], Schedule]] = {Taid: TaidSchedule}
