"""The way of gradients: whether every term reaches a weight that is deployed, and every adapter is reached."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import GradientPathError
from core.lora import adapter_parameters, idle_adapters, require_none_idle
from core.objective import Objective
from core.team import ALONE, Team


class GradientPaths:
    """Checks that every term moves a weight that is deployed, and that every adapter is moved by some term.

    An alignment whose only gradient goes to the projection would look like learning and change nothing. Terms that set
    in later are checked when they do; adapters, once every term has counted.
    """

    def __init__(self, objective: Objective, model: nn.Module, team: Team = ALONE) -> None:
        """Begin a run in which nothing was checked yet."""
        self._model, self._team = model, team
        self.adapters = list(adapter_parameters(model).values())
        self._unchecked = {loss.kind: loss for loss in objective.method.losses}
        self._idle: set[str] | None = None

    def unchecked(self, losses: dict[str, Tensor]) -> list[str]:
        """Return which terms count for the first time and should reach the student."""
        return [kind for kind in losses if kind in self._unchecked and self._unchecked[kind].reaches_student]

    def require_from(self, losses: dict[str, Tensor], reached: dict[str, bool] | None = None) -> None:
        """Check the terms that count for the first time.

        Args:
            losses: The terms that count.
            reached: Whether the unchecked ones reach an adapter, if that is known already.

        Raises:
            GradientPathError: Naming the terms that reach no adapter.
        """
        if reached is None:
            unchecked = self.unchecked(losses)
            own = [reaches([losses[kind]], [self.adapters])[0] for kind in unchecked]
            # It is enough that a term does so in the part of one process.
            reached = dict(zip(unchecked, self._anywhere(own), strict=True))
        idle = [kind for kind, moved in reached.items() if not moved]
        for kind in losses:
            self._unchecked.pop(kind, None)
        if idle:
            raise GradientPathError(
                f"{', '.join(idle)} sends no gradient to any weight that is deployed, so it cannot change the student. "
                "Put adapters (lora.encoder_targets, lora.decoder_targets) at or below the layers that it compares, or "
                "lower freeze_below."
            )

    def _anywhere(self, found: list[bool]) -> list[bool]:
        """Return what holds in any process of the team."""
        if not found:
            return found
        counts = self._team.summed(torch.tensor(found, dtype=torch.float32, device=self.adapters[0].device))
        return [count > 0 for count in counts.tolist()]

    def require_in_adapters(self) -> None:
        """Check, after a backward pass, which adapters have had a gradient.

        Raises:
            GradientPathError: Naming the adapters that none of the terms has moved, once every term has counted.
        """
        if self._idle is not None and not self._idle:
            return
        idle = idle_adapters(self._model)
        self._idle = idle if self._idle is None else self._idle & idle
        if not self._unchecked:
            require_none_idle(self._idle)
            self._idle = set()


def reaches(values: Sequence[Tensor], adapters: Sequence[Sequence[nn.Parameter]]) -> list[bool]:
    """Return whether each value has a gradient in its own adapters; one backward pass for all."""
    sources = [value for value in values if value.requires_grad]
    if not sources:
        return [False] * len(values)
    every = [parameter for group in adapters for parameter in group]
    found = iter(torch.autograd.grad(torch.stack(sources).sum(), every, retain_graph=True, allow_unused=True))
    gradients = [[next(found) for _ in group] for group in adapters]
    return [any(gradient is not None and bool(gradient.any()) for gradient in group) for group in gradients]
