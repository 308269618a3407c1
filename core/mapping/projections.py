"""Trainable maps from student states into the aligned space.

All start at the same fixed matrix, so that no kind has a better start than another: the identity, or its first rows and
columns where widths differ, seen in the common basis.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.config import Mapping


class Linear(nn.Module):
    """One matrix."""

    def __init__(self, start: Float[Tensor, "common student"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.clone())

    def forward(self, states: Float[Tensor, "points student"]) -> Float[Tensor, "points common"]:
        """Return the states in the aligned space."""
        return states @ self.weight.T


class Hidden(nn.Module):
    """The fixed start, and beside it one hidden layer (GELU), whose output starts at zero."""

    start: Tensor

    def __init__(self, start: Float[Tensor, "common student"], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        common, student = start.shape
        self.register_buffer("start", start.clone(), persistent=False)
        self.inward = nn.Parameter(torch.randn(hidden, student, generator=generator) / student**0.5)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.outward = nn.Parameter(torch.zeros(common, hidden))

    def forward(self, states: Float[Tensor, "points student"]) -> Float[Tensor, "points common"]:
        """Return the states in the aligned space."""
        inner = nn.functional.gelu(states @ self.inward.T + self.bias)
        return states @ self.start.T + inner @ self.outward.T


class LowRank(nn.Module):
    """The fixed start, and beside it a matrix of low rank, which starts at zero."""

    start: Tensor

    def __init__(self, start: Float[Tensor, "common student"], rank: int, generator: torch.Generator) -> None:
        super().__init__()
        common, student = start.shape
        self.register_buffer("start", start.clone(), persistent=False)
        self.down = nn.Parameter(torch.randn(rank, student, generator=generator) / student**0.5)
        self.up = nn.Parameter(torch.zeros(common, rank))

    def forward(self, states: Float[Tensor, "points student"]) -> Float[Tensor, "points common"]:
        """Return the states in the aligned space."""
        return states @ self.start.T + (states @ self.down.T) @ self.up.T


class Fixed(nn.Module):
    """No projection: the start as it is."""

    start: Tensor

    def __init__(self, start: Float[Tensor, "common student"]) -> None:
        super().__init__()
        self.register_buffer("start", start.clone(), persistent=False)

    def forward(self, states: Float[Tensor, "points student"]) -> Float[Tensor, "points common"]:
        """Return the states in the aligned space."""
        return states @ self.start.T


def projection(mapping: Mapping, start: Float[Tensor, "common student"], generator: torch.Generator) -> nn.Module:
    """Return a fresh projection of the kind that a mapping asks for."""
    match mapping.projection:
        case "linear":
            return Linear(start)
        case "hidden":
            return Hidden(start, mapping.hidden_width, generator)
        case "low_rank":
            return LowRank(start, mapping.projection_rank, generator)
        case "none":
            return Fixed(start)
