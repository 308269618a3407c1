"""The joint map: seeded, finite, true to what lies near what. Few, small fits: the first takes seconds to compile."""

import threading

import numpy as np
import pytest

from core.alignment.maps import JointMap, joint_map
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
def made() -> JointMap:
    _, student, teacher = clusters(45, noise=0.5)
    return joint_map(student=student, teacher=teacher, seed=0, neighbours=10)


def test_both_sides_of_a_cluster_lie_together_and_apart_from_the_others(made: JointMap) -> None:
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


def test_a_true_map_is_trusted_and_one_of_noise_less(made: JointMap) -> None:
    random = np.random.default_rng(1)
    noise = joint_map(
        student=random.normal(size=(45, 12)).astype(np.float32),
        teacher=random.normal(size=(45, 12)).astype(np.float32),
        seed=0,
    )
    assert 0.5 < noise.trustworthiness < made.trustworthiness <= 1


def test_the_same_seed_gives_the_same_map(made: JointMap) -> None:
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
