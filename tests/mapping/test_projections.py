"""Projections: all kinds start at the same map, differ in what they can become, and have as many weights as said."""

import pytest
import torch
from torch import Tensor

from core.config import Mapping
from core.mapping.projections import projection

STUDENT, COMMON = 5, 7
KINDS = {
    "linear": COMMON * STUDENT,
    # One hidden layer of 3 with its bias, and the way out.
    "hidden": 3 * STUDENT + 3 + COMMON * 3,
    "low_rank": 2 * STUDENT + COMMON * 2,
    "none": 0,
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def made(kind: str, start: Tensor, *, seed: int = 0) -> torch.nn.Module:
    mapping = Mapping.model_validate({"projection": kind, "hidden_width": 3, "projection_rank": 2})
    return projection(mapping, start, torch.Generator().manual_seed(seed))


def a_start() -> Tensor:
    return torch.randn(COMMON, STUDENT, generator=torch.Generator().manual_seed(5))


def states() -> Tensor:
    return torch.randn(11, STUDENT, generator=torch.Generator().manual_seed(6))


@every_kind
def test_every_kind_starts_at_the_given_map_and_has_the_weights_that_are_counted(kind: str) -> None:
    start = a_start()
    fresh = made(kind, start)
    assert torch.allclose(fresh(states()), states() @ start.T, atol=1e-6)
    assert sum(parameter.numel() for parameter in fresh.parameters()) == KINDS[kind]


@every_kind
def test_training_a_projection_leaves_the_map_that_it_was_given_alone(kind: str) -> None:
    start = a_start()
    kept = start.clone()
    fresh = made(kind, start)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1)
    assert torch.equal(start, kept)


@pytest.mark.parametrize("kind", ["linear", "hidden", "low_rank"])
def test_a_projection_can_learn_what_the_start_cannot_say(kind: str) -> None:
    fresh = made(kind, torch.zeros(COMMON, STUDENT))
    goal = states() @ torch.ones(STUDENT, COMMON)
    optimiser = torch.optim.Adam(fresh.parameters(), lr=0.05)
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (fresh(states()) - goal).square().mean()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0] / 3


def test_what_a_low_rank_projection_adds_has_that_rank_at_most() -> None:
    fresh = made("low_rank", a_start())
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    added = fresh(torch.eye(STUDENT)) - torch.eye(STUDENT) @ a_start().T
    assert int(torch.linalg.matrix_rank(added)) == 2


def test_only_the_hidden_kind_bends_space() -> None:
    one, other = states()[:1], states()[1:2]
    for kind in KINDS:
        fresh = made(kind, a_start())
        with torch.no_grad():
            for parameter in fresh.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(1))
        straight = torch.allclose(fresh(one + other), fresh(one) + fresh(other), atol=1e-4)
        assert straight == (kind != "hidden")


@pytest.mark.parametrize("kind", ["hidden", "low_rank"])
def test_the_generator_decides_the_random_part(kind: str) -> None:
    one, same, other = (made(kind, a_start(), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
