"""Statistics of the teacher's states beside NumPy's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.mapping import state_statistics
from core.mapping.statistics import SMALLEST_VARIANCE, principal_basis


def states(points: int, width: int, *, seed: int = 0, mean: float = 3.0) -> Tensor:
    """Return states that vary most along the first coordinates, around a mean that is not the origin."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(points, width, generator=generator) / torch.arange(1, width + 1) + mean


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_mean_and_covariance_are_those_of_all_points_together(counts: list[int], seed: int) -> None:
    points = states(sum(counts), 4, seed=seed)
    found = state_statistics(points.split(counts))
    assert found.mean.numpy() == pytest.approx(points.double().numpy().mean(axis=0), abs=1e-5)
    expected = np.cov(points.double().numpy(), rowvar=False, bias=True)
    assert found.covariance.numpy() == pytest.approx(expected, abs=1e-5)


def test_a_mean_far_from_the_origin_does_not_swallow_the_variance() -> None:
    # In float32, E[x^2] - E[x]^2 would leave nothing of a variance of one beside a mean of 10,000.
    points = states(5000, 2, mean=1e4)
    found = state_statistics([points])
    assert found.covariance.diagonal().tolist() == pytest.approx(
        points.double().var(dim=0, correction=0).tolist(), rel=1e-4
    )


def test_whitened_states_vary_alike_and_apart_in_every_direction() -> None:
    points = states(400, 6)
    found = state_statistics([points])
    white = (points - found.mean) @ found.whitening(4)
    assert white.shape == (400, 4)
    assert (white.T @ white / 400).numpy() == pytest.approx(np.eye(4), abs=1e-3)


def test_whitening_takes_the_directions_of_largest_variance_first() -> None:
    points = torch.zeros(4, 3)
    points[:, 2] = torch.tensor([10.0, -10, 10, -10])
    points[:, 0] = torch.tensor([1.0, 1, -1, -1])
    white = state_statistics([points]).whitening(2)
    assert white.abs().numpy() == pytest.approx(np.array([[0, 1], [0, 0], [0.1, 0]]), abs=1e-6)


def test_directions_without_variance_are_not_blown_up() -> None:
    points = torch.zeros(4, 2)
    points[:, 0] = torch.tensor([1.0, -1, 1, -1])
    white = state_statistics([points]).whitening(2)
    assert bool(torch.isfinite(white).all())
    assert float(white.abs().max()) <= SMALLEST_VARIANCE**-0.5 + 1


def test_more_directions_than_the_states_are_wide_are_all_that_there_are() -> None:
    assert state_statistics([states(20, 3)]).whitening(128).shape == (3, 3)


def test_statistics_seen_in_a_basis_are_those_of_the_states_seen_in_it() -> None:
    points = states(50, 5)
    basis = torch.linalg.qr(torch.randn(5, 2, generator=torch.Generator().manual_seed(1)))[0]
    seen, expected = state_statistics([points]).through(basis), state_statistics([points @ basis])
    assert torch.allclose(seen.mean, expected.mean, atol=1e-5)
    assert torch.allclose(seen.covariance, expected.covariance, atol=1e-5)


def test_the_principal_basis_is_orthonormal_and_keeps_more_than_any_other() -> None:
    points = states(300, 6)
    found = state_statistics([points])
    basis = principal_basis([found], 2)
    assert (basis.T @ basis).numpy() == pytest.approx(np.eye(2), abs=1e-5)
    kept = float(found.through(basis).covariance.trace())
    for seed in range(20):
        other = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(seed)))[0]
        assert float(found.through(other).covariance.trace()) <= kept + 1e-5


def test_every_layer_counts_the_same_in_the_principal_basis_however_large_its_states_are() -> None:
    small, large = torch.zeros(4, 3), torch.zeros(4, 3)
    small[:, 0] = torch.tensor([1.0, -1, 1, -1])
    large[:, 1] = torch.tensor([1e3, -1e3, 1e3, -1e3])
    large[:, 2] = torch.tensor([5e2, 5e2, -5e2, -5e2])
    basis = principal_basis([state_statistics([small]), state_statistics([large])], 1)
    # Shares of variance: 1/2 along the small layer's only direction, 0.4 and 0.1 along the large one's two.
    assert basis.squeeze().abs().tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_the_sign_of_a_direction_does_not_depend_on_the_order_of_the_utterances() -> None:
    points = states(60, 4)
    forward, backward = (state_statistics(pieces) for pieces in (points.split(20), points.flip(0).split(15)))
    assert torch.allclose(principal_basis([forward], 3), principal_basis([backward], 3), atol=1e-3)
    assert torch.allclose(forward.whitening(3), backward.whitening(3), atol=1e-3)
