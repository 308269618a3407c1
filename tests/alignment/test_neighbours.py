"""Neighbours within and among both sides, beside all distances."""

import numpy as np
import pytest

from core.alignment.neighbours import nearest


def unit(points: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(points, 5)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_all_distances(queries: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-(queries @ among.T), axis=1, kind="stable")[:, :count]


@pytest.mark.parametrize(("points", "neighbours"), [(50, 16), (9, 16), (4, 8)])
def test_they_are_those_of_all_distances(points: int, neighbours: int) -> None:
    student, teacher = unit(points, 0), unit(points, 1)
    found = nearest(student, teacher, neighbours)
    own = min(neighbours, points - 1)
    assert np.array_equal(found.student, by_all_distances(student, student, own + 1)[:, 1:])
    assert np.array_equal(found.teacher, by_all_distances(teacher, teacher, own + 1)[:, 1:])
    both = np.concatenate([student, teacher])
    assert np.array_equal(found.joint, by_all_distances(both, both, neighbours))
    similarity = np.take_along_axis(both @ both.T, found.joint, axis=1)
    assert found.distances[:, 1:] == pytest.approx(1 - similarity[:, 1:], abs=1e-5)


def test_a_state_is_its_own_first_neighbour_among_equals_and_never_one_within_its_side() -> None:
    student = np.repeat(unit(1, 0), 8, axis=0)
    found = nearest(student, student, 6)
    assert found.joint[:, 0].tolist() == list(range(16))
    assert not (found.student == np.arange(8)[:, None]).any()
    assert found.student.shape == (8, 6)
