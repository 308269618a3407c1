"""The way of both sides into the aligned space."""

from typing import Any

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor

from core.config import Mapping
from core.errors import ConfigError
from core.mapping import LayerPair, PointMap, state_statistics

PAIRS = (LayerPair("encoder", 1, 2), LayerPair("encoder", 2, 3), LayerPair("decoder", 0, 1))
FIRST = PAIRS[0]


def teacher_states(width: int, pair: LayerPair = FIRST, *, points: int = 60) -> Tensor:
    """Return states around a mean of the layer's own, most of whose energy is in the first coordinates."""
    generator = torch.Generator().manual_seed(10 * pair.teacher + len(pair.side))
    return torch.randn(points, width, generator=generator) / torch.arange(1, width + 1) + pair.teacher


def point_map(*, student_width: int = 6, teacher_width: int = 6, seed: int = 0, **mapping: Any) -> PointMap:
    statistics = {(pair.side, pair.teacher): state_statistics([teacher_states(teacher_width, pair)]) for pair in PAIRS}
    return PointMap(
        Mapping.model_validate(mapping),
        student_width=student_width,
        teacher_width=teacher_width,
        pairs=PAIRS,
        statistics=statistics,
        seed=seed,
    )


def sides(student_width: int = 6, teacher_width: int = 6) -> dict[str, Tensor]:
    student = torch.randn(60, student_width, generator=torch.Generator().manual_seed(0))
    return {"student": student, "teacher": teacher_states(teacher_width)}


@pytest.mark.parametrize("projection", ["linear", "hidden", "low_rank", "none"])
def test_every_projection_starts_at_the_identity_less_the_teachers_mean(projection: str) -> None:
    given = sides()
    student, teacher = point_map(projection=projection)(FIRST, **given)
    mean = given["teacher"].mean(dim=0)
    assert torch.allclose(student, given["student"] - mean, atol=1e-5)
    assert torch.allclose(teacher, given["teacher"] - mean, atol=1e-5)


def test_each_layer_has_its_own_mean() -> None:
    made = point_map()
    for pair in PAIRS:
        _, teacher = made(pair, student=sides()["student"], teacher=teacher_states(6, pair))
        assert teacher.mean(dim=0).tolist() == pytest.approx([0] * 6, abs=1e-5)


def test_raw_states_keep_their_origin() -> None:
    given = sides()
    student, teacher = point_map(states="raw")(FIRST, **given)
    assert torch.allclose(student, given["student"])
    assert torch.allclose(teacher, given["teacher"])


def test_unrelated_states_do_not_look_alike_unless_raw_states_were_asked_for() -> None:
    # Trap: raw states are anisotropic, so on a sphere around the origin every pair already looks alike.
    def mean_cosine_of_unrelated(**mapping: Any) -> float:
        _, teacher = point_map(**mapping)(FIRST, **sides())
        unit = teacher / teacher.norm(dim=1, keepdim=True)
        cosines = unit @ unit.T
        return float((cosines.sum() - len(unit)) / (len(unit) * (len(unit) - 1)))

    assert mean_cosine_of_unrelated(states="raw") > 0.5
    assert abs(mean_cosine_of_unrelated()) < 0.05
    assert abs(mean_cosine_of_unrelated(states="whitened", directions=4)) < 0.05


def test_whitened_states_vary_alike_in_as_many_directions_as_are_kept() -> None:
    student, teacher = point_map(states="whitened", directions=4)(FIRST, **sides())
    assert student.shape == teacher.shape == (60, 4)
    assert (teacher.T @ teacher / 60).numpy() == pytest.approx(np.eye(4), abs=1e-3)


@pytest.mark.parametrize("basis", ["orthogonal", "principal"])
def test_both_sides_start_in_the_same_directions_of_a_common_space(basis: str) -> None:
    given = sides()
    made = point_map(basis=basis, common_width=3)
    student, teacher = made(FIRST, **given)
    assert made.basis is not None
    assert (made.basis.T @ made.basis).numpy() == pytest.approx(np.eye(3), abs=1e-5)
    mean = given["teacher"].mean(dim=0)
    assert torch.allclose(teacher, (given["teacher"] - mean) @ made.basis, atol=1e-5)
    assert torch.allclose(student, (given["student"] - mean) @ made.basis, atol=1e-5)
    assert sum(parameter.numel() for parameter in made.parameters()) == 3 * 6


def test_a_whole_orthogonal_basis_keeps_every_angle() -> None:
    given = sides()
    as_they_are, turned = point_map()(FIRST, **given), point_map(basis="orthogonal")(FIRST, **given)
    one, other = (torch.nn.functional.cosine_similarity(*both) for both in (as_they_are, turned))
    assert torch.allclose(one, other, atol=1e-5)


def test_the_principal_basis_keeps_most_of_the_teachers_variance() -> None:
    kept = {
        basis: float(point_map(basis=basis, common_width=2)(FIRST, **sides())[1].square().sum())
        for basis in ("principal", "orthogonal")
    }
    whole = float(point_map()(FIRST, **sides())[1].square().sum())
    assert kept["principal"] > 0.7 * whole
    assert kept["principal"] > kept["orthogonal"]


def test_the_seed_decides_the_orthogonal_basis() -> None:
    one, same, other = (point_map(basis="orthogonal", seed=seed).basis for seed in (0, 0, 1))
    assert one is not None
    assert same is not None
    assert other is not None
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_whitening_follows_the_basis() -> None:
    _, teacher = point_map(basis="principal", common_width=4, states="whitened", directions=3)(FIRST, **sides())
    assert (teacher.T @ teacher / 60).numpy() == pytest.approx(np.eye(3), abs=1e-3)


def test_a_narrower_student_starts_in_the_first_directions_of_the_teacher() -> None:
    given = sides(student_width=4)
    student, _ = point_map(student_width=4, states="raw")(FIRST, **given)
    assert torch.allclose(student[:, :4], given["student"])
    assert not student[:, 4:].any()


def test_a_wider_student_starts_with_the_directions_that_the_teacher_has() -> None:
    given = sides(student_width=8)
    student, _ = point_map(student_width=8, states="raw")(FIRST, **given)
    assert torch.allclose(student, given["student"][:, :6])


def test_unequal_widths_without_a_projection_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"4 wide and teacher states 6; choose 'linear'"):
        point_map(projection="none", student_width=4)


def test_a_common_space_wider_than_the_teachers_is_refused() -> None:
    with pytest.raises(ConfigError, match="common_width is 7, more than the teacher's 6; lower it"):
        point_map(basis="orthogonal", common_width=7)


def test_one_projection_serves_all_pairs_unless_each_is_to_have_its_own() -> None:
    shared, apart = point_map(student_width=4), point_map(student_width=4, sharing="per_pair")
    assert [parameter.shape for parameter in shared.parameters()] == [(6, 4)]
    assert [parameter.shape for parameter in apart.parameters()] == [(6, 4)] * len(PAIRS)
    apart(PAIRS[1], **sides(student_width=4))[0].sum().backward()
    moved = [name for name, parameter in apart.named_parameters() if parameter.grad is not None]
    assert moved == ["projections.encoder_2_3.weight"]


def test_only_projections_are_trainable_and_the_teachers_side_is_fixed() -> None:
    made = point_map(states="whitened", basis="orthogonal", common_width=4)
    assert [name for name, _ in made.named_parameters()] == ["projections.shared.weight"]
    assert list(point_map(projection="none").parameters()) == []


def test_what_was_computed_from_the_teacher_is_not_stored_with_the_projections() -> None:
    made = point_map(states="whitened", basis="orthogonal", common_width=4)
    assert list(made.state_dict()) == ["projections.shared.weight"]


@pytest.mark.parametrize("basis", ["identity", "orthogonal", "principal"])
def test_without_statistics_a_map_has_the_same_weights_to_count(basis: str) -> None:
    mapping = {"basis": basis, "common_width": None if basis == "identity" else 3, "sharing": "per_pair"}
    counted = PointMap(
        Mapping.model_validate(mapping), student_width=5, teacher_width=6, pairs=PAIRS, statistics={}, seed=0
    )
    expected = point_map(student_width=5, **mapping)
    assert {name: value.shape for name, value in counted.named_parameters()} == {
        name: value.shape for name, value in expected.named_parameters()
    }


@pytest.mark.parametrize("projection", ["linear", "hidden", "low_rank", "none"])
def test_no_gradient_flows_into_the_teacher(projection: str) -> None:
    given = sides()
    given["student"].requires_grad_()
    given["teacher"].requires_grad_()
    student, teacher = point_map(projection=projection, basis="orthogonal")(FIRST, **given)
    (student * teacher).sum().backward()
    assert given["teacher"].grad is None
    assert given["student"].grad is not None
    assert bool(given["student"].grad.any())


@pytest.mark.parametrize("states", ["centred", "whitened"])
def test_the_map_works_in_float32_also_within_autocast(states: str) -> None:
    # Trap: manifold arithmetic in half precision.
    made = point_map(states=states, basis="orthogonal", directions=4)
    given = sides()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student, teacher = made(FIRST, **given)
    assert student.dtype == teacher.dtype == torch.float32
    assert torch.equal(student, made(FIRST, **given)[0])
    assert torch.equal(teacher, made(FIRST, **given)[1])
    halved = {name: value.bfloat16() for name, value in given.items()}
    assert [side.dtype for side in made(FIRST, **halved)] == [torch.float32] * 2


def test_shapes_are_types() -> None:
    forward = jaxtyped(typechecker=beartype)(PointMap.forward)
    made = point_map()
    forward(made, FIRST, **sides())
    with pytest.raises(TypeCheckError):
        forward(made, FIRST, **sides() | {"teacher": torch.zeros(5, 6)})
