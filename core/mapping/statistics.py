"""What is known of the teacher's states once it was run over the training set; it never changes during a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_VARIANCE = 1e-6
"""Principal directions with less than this share of the largest variance are noise: they are not blown up further."""


@dataclass(frozen=True)
class StateStatistics:
    """Mean and covariance of the states of one teacher layer, in float32."""

    mean: Float[Tensor, " width"]
    covariance: Float[Tensor, "width width"]

    def through(self, basis: Float[Tensor, "width common"]) -> "StateStatistics":
        """Return the statistics of the states seen in a basis (columns)."""
        return StateStatistics(self.mean @ basis, basis.T @ self.covariance @ basis)

    def whitening(self, directions: int) -> Float[Tensor, "width directions"]:
        """Return the map of centred states into their leading principal directions, each of variance one."""
        variances, vectors = _principal(self.covariance, directions)
        return vectors / variances.clamp_min(SMALLEST_VARIANCE * variances[0]).sqrt()


def state_statistics(pieces: Sequence[Float[Tensor, "points width"]]) -> StateStatistics:
    """Return the statistics of all points of some utterances, summed in double precision."""
    count = sum(len(piece) for piece in pieces)
    total = torch.stack([piece.double().sum(dim=0) for piece in pieces]).sum(dim=0)
    mean = total / count
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    for piece in pieces:
        centred = piece.double() - mean
        scatter += centred.T @ centred
    return StateStatistics(mean.float(), (scatter / count).float())


def principal_basis(statistics: Sequence[StateStatistics], width: int) -> Float[Tensor, "full width"]:
    """Return the leading principal directions of several layers together, each layer's variance counting the same."""
    pooled = torch.stack([item.covariance / item.covariance.trace() for item in statistics]).mean(dim=0)
    return _principal(pooled, width)[1]


def _principal(covariance: Tensor, directions: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues, descending, and their eigenvectors as columns."""
    values, vectors = torch.linalg.eigh(covariance.double())
    kept = torch.arange(len(values) - 1, len(values) - 1 - min(directions, len(values)), -1, device=values.device)
    # An eigenvector is given up to its sign; this one is the same on every machine.
    chosen = vectors[:, kept]
    largest = chosen.gather(0, chosen.abs().argmax(dim=0, keepdim=True))
    return values[kept].float(), (chosen * largest.sign()).float()
