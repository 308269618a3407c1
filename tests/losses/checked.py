"""Losses whose types are checked, as their means."""

from collections.abc import Callable

from beartype import beartype
from jaxtyping import jaxtyped
from torch import Tensor

from core.sums import Sum


def mean_of(loss: Callable[..., Sum]) -> Callable[..., Tensor]:
    """Return a loss that returns its mean; shapes are checked."""
    checked = jaxtyped(typechecker=beartype)(loss)

    def mean(*sides: object, **settings: object) -> Tensor:
        return checked(*sides, **settings).mean()

    return mean
