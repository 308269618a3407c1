"""The joint map: seeded, finite, true to what lies near what. Few, small fits: the first takes seconds to compile."""

import itertools
import threading
from typing import Any

import numpy as np
import pytest

from core.alignment import maps
from core.alignment.maps import ALIGNED, FALLBACK, Map, Sides, aligned_maps, joint_map, kept_neighbours
from core.errors import NotFiniteError, ShapeError


def clusters(points: int, *, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which of three far directions each point belongs to, and both sides' states around them."""
    random = np.random.default_rng(seed)
    member = np.arange(points) % 3
    centres = np.eye(3, 12) * 10
    student, teacher = (
        (centres[member] + noise * random.normal(size=(points, 12))).astype(np.float32) for _ in range(2)
    )
    return member, student, teacher


@pytest.fixture(scope="module")
def made() -> Map:
    _, student, teacher = clusters(45, noise=0.5)
    return joint_map(student=student, teacher=teacher, seed=0, neighbours=10)


def test_both_sides_of_a_cluster_lie_together_and_apart_from_the_others(made: Map) -> None:
    member, _, _ = clusters(45, noise=0.5)
    assert made.student.shape == made.teacher.shape == (45, 2)
    assert np.isfinite(made.student).all()
    assert np.isfinite(made.teacher).all()
    places = np.concatenate([made.student, made.teacher])
    both = np.concatenate([member, member])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert np.mean(both[apart.argmin(axis=1)] == both) == 1
    # Neither side lies in a corner of its own: the nearest point is as often one of the other side.
    side = np.arange(90) < 45
    assert 0.2 < np.mean(side[apart.argmin(axis=1)] != side) < 0.8


def test_a_true_map_is_trusted_and_one_of_noise_less(made: Map) -> None:
    random = np.random.default_rng(1)
    noise = joint_map(
        student=random.normal(size=(45, 12)).astype(np.float32),
        teacher=random.normal(size=(45, 12)).astype(np.float32),
        seed=0,
    )
    assert 0.5 < noise.trustworthiness < made.trustworthiness <= 1


def test_the_same_seed_gives_the_same_map(made: Map) -> None:
    _, student, teacher = clusters(45, noise=0.5)
    again = joint_map(student=student, teacher=teacher, seed=0, neighbours=10)
    assert np.array_equal(again.student, made.student)
    assert np.array_equal(again.teacher, made.teacher)


def test_length_and_an_equal_teacher_do_not_matter() -> None:
    _, student, _ = clusters(12, noise=0.5)
    found = joint_map(student=7 * student, teacher=student, seed=0)
    assert np.isfinite(found.student).all()
    # Points that are equal on both sides end beside each other.
    gap = np.linalg.norm(found.student - found.teacher, axis=1)
    assert np.median(gap) < np.median(np.linalg.norm(found.student - found.teacher[::-1], axis=1))


def test_the_fewest_points_still_make_a_map() -> None:
    _, student, teacher = clusters(4, noise=0.5)
    found = joint_map(student=student, teacher=teacher, seed=0)
    assert np.isfinite(found.student).all()
    assert 0 <= found.trustworthiness <= 1


def test_too_few_points_and_unequal_spaces_are_refused() -> None:
    _, student, teacher = clusters(8, noise=0.5)
    with pytest.raises(ShapeError, match="at least 4"):
        joint_map(student=student[:3], teacher=teacher[:3], seed=0)
    with pytest.raises(ShapeError, match="one space"):
        joint_map(student=student[:, :5], teacher=teacher, seed=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_states_that_are_not_finite_are_refused(value: float) -> None:
    _, student, teacher = clusters(8, noise=0.5)
    student[2, 1] = value
    with pytest.raises(NotFiniteError, match="diverged"):
        joint_map(student=student, teacher=teacher, seed=0)


def test_a_second_thread_is_refused_because_two_fits_at_once_would_end_the_process() -> None:
    _, student, teacher = clusters(8, noise=0.5)
    caught: list[BaseException] = []

    def fit() -> None:
        try:
            joint_map(student=student, teacher=teacher, seed=0)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def in_steps(points: int = 45) -> list[Sides]:
    """Return a student that comes nearer to a teacher that stays where it is, over four steps."""
    _, _, teacher = clusters(points, noise=0.5)
    apart = np.random.default_rng(3).normal(size=teacher.shape).astype(np.float32)
    return [Sides(teacher + weight * apart, teacher) for weight in (4.0, 2.0, 1.0, 0.2)]


@pytest.fixture(scope="module")
def followed() -> tuple[list[Map], str]:
    return aligned_maps(in_steps(), seed=0)


def drift(found: list[Map]) -> float:
    """Return how far the teacher, which stays, moves from map to map, as a share of the maps' width."""
    moved = [np.linalg.norm(a.teacher - b.teacher, axis=1).mean() for a, b in itertools.pairwise(found)]
    return float(np.mean(moved) / np.ptp(found[0].teacher, axis=0).max())


def test_aligned_maps_are_finite_one_for_each_step_and_the_student_comes_nearer(
    followed: tuple[list[Map], str],
) -> None:
    found, how = followed
    assert how == ALIGNED
    assert len(found) == 4
    assert all(np.isfinite(each.student).all() and np.isfinite(each.teacher).all() for each in found)
    apart = [float(np.linalg.norm(each.student - each.teacher, axis=1).mean()) for each in found]
    assert apart[-1] < 0.6 * apart[0]


def test_what_stays_where_it_is_stays_on_aligned_maps_and_less_on_maps_of_their_own(
    followed: tuple[list[Map], str],
) -> None:
    alone = [joint_map(student=each.student, teacher=each.teacher, seed=0) for each in in_steps()]
    assert drift(followed[0]) < 0.5 * drift(alone)


def test_aligned_maps_keep_about_as_many_neighbours_as_a_map_alone(followed: tuple[list[Map], str]) -> None:
    last = in_steps()[-1]
    alone = joint_map(student=last.student, teacher=last.teacher, seed=0)
    assert followed[0][-1].kept > 0.8 * alone.kept


def test_the_same_seed_gives_the_same_aligned_maps(followed: tuple[list[Map], str]) -> None:
    again, _ = aligned_maps(in_steps(), seed=0)
    assert all(np.array_equal(a.student, b.student) for a, b in zip(again, followed[0], strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_aligned_umap_leaves_the_finite_numbers_each_step_gets_a_umap_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    optimise = maps.optimize_layout_aligned_euclidean

    def broken(*arguments: Any, **options: Any) -> list[np.ndarray]:
        found = [np.array(flat) for flat in optimise(*arguments, **options)]
        found[2][7, 1] = value
        return found

    monkeypatch.setattr(maps, "optimize_layout_aligned_euclidean", broken)
    found, how = aligned_maps(in_steps(), seed=0)
    assert how == FALLBACK
    assert len(found) == 4
    assert all(np.isfinite(each.student).all() and np.isfinite(each.teacher).all() for each in found)
    # Turned onto each other, they move less than maps that are turned anyhow.
    turned = np.array([[0, -1], [1, 0]], dtype=np.float32)
    anyhow = [each._replace(teacher=each.teacher @ turned) if place % 2 else each for place, each in enumerate(found)]
    assert drift(found) < drift(anyhow)


def test_one_step_or_other_points_cannot_be_aligned() -> None:
    steps = in_steps()
    with pytest.raises(ShapeError, match="two or more"):
        aligned_maps(steps[:1], seed=0)
    with pytest.raises(ShapeError, match="same points"):
        aligned_maps([steps[0], Sides(steps[1].student[:9], steps[1].teacher[:9])], seed=0)


def test_kept_neighbours_are_those_that_are_near_before_and_on_the_map() -> None:
    line = np.stack([np.arange(6), np.zeros(6)], axis=1).astype(np.float32)
    before = np.array([[1, 2], [0, 2], [1, 3], [2, 4], [3, 5], [4, 3]])
    assert kept_neighbours(line, before) == 1
    far = np.array([[5, 4], [5, 4], [5, 0], [0, 5], [0, 1], [0, 1]])
    assert kept_neighbours(line, far) == 0
    half = before.copy()
    half[:, 1] = [5, 5, 5, 0, 0, 0]
    assert kept_neighbours(line, half) == 0.5
