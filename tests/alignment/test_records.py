"""The record of a layer pair: what is measured on which states."""

import time
from typing import Any

import numpy as np
import pytest

from core.alignment.measures import linear_cka, mean_geodesic_angle, mutual_knn
from core.alignment.records import alignment_records, signs_of_collapse
from core.errors import ShapeError
from core.store.records import AlignmentRecord

RANDOM = np.random.default_rng(0)
TEACHER = (RANDOM.normal(size=(60, 8)) + 5).astype(np.float32)
STUDENT = (TEACHER[:, :6] + RANDOM.normal(size=(60, 6))).astype(np.float32)
ALIGNED = RANDOM.normal(size=(2, 60, 4)).astype(np.float32)


def record(**changes: Any) -> AlignmentRecord:
    fields: dict[str, Any] = {
        "run_id": "r1",
        "step": 20,
        "stage": "during",
        "side": "encoder",
        "student_layer": 2,
        "teacher_layer": 3,
        "student": STUDENT,
        "teacher": TEACHER,
        "aligned_student": ALIGNED[0],
        "aligned_teacher": ALIGNED[1],
    }
    return alignment_records(**{**fields, **changes})


def test_it_says_of_which_layers_and_step_it_is() -> None:
    found = record()
    assert (found.run_id, found.step, found.stage, found.side) == ("r1", 20, "during", "encoder")
    assert (found.student_layer, found.teacher_layer, found.points, found.neighbours) == (2, 3, 60, 10)


def test_the_angle_is_measured_where_the_losses_compare_and_the_rest_on_the_states_themselves() -> None:
    found = record()
    centred = [side - side.mean(axis=0) for side in (STUDENT, TEACHER)]
    assert found.linear_cka == pytest.approx(linear_cka(STUDENT, TEACHER))
    assert found.mutual_knn == pytest.approx(mutual_knn(*centred))
    assert found.geodesic_angle == pytest.approx(mean_geodesic_angle(*ALIGNED), abs=1e-6)


def test_the_teacher_beside_itself_is_aligned_in_every_measure() -> None:
    found = record(student=TEACHER, aligned_student=ALIGNED[1])
    assert found.linear_cka == pytest.approx(1)
    assert found.geodesic_angle == pytest.approx(0, abs=1e-6)
    assert found.mutual_knn == 1


def test_many_points_are_thinned_evenly_and_the_record_tells_how_many_were_measured() -> None:
    found = record(most_points=30)
    kept = np.linspace(0, 59, 30).round().astype(int)
    assert found.points == 30
    assert kept[0] == 0
    assert kept[-1] == 59
    assert found.linear_cka == pytest.approx(linear_cka(STUDENT[kept], TEACHER[kept]))
    assert found.geodesic_angle == pytest.approx(mean_geodesic_angle(ALIGNED[0][kept], ALIGNED[1][kept]), abs=1e-6)


def test_a_small_probe_is_compared_with_the_neighbours_that_it_has() -> None:
    found = record(student=STUDENT[:6], teacher=TEACHER[:6])
    assert (found.points, found.neighbours) == (6, 5)
    assert found.mutual_knn == 1


def test_three_points_have_no_debiased_cka_but_an_angle() -> None:
    found = record(student=STUDENT[:3], teacher=TEACHER[:3])
    assert np.isnan(found.linear_cka)
    assert 0 < found.geodesic_angle < np.pi


@pytest.mark.parametrize(("points", "others"), [(60, 59), (1, 1), (0, 0)])
def test_points_that_do_not_pair_up_or_are_too_few_are_refused(points: int, others: int) -> None:
    with pytest.raises(ShapeError, match="cannot be measured"):
        record(student=STUDENT[:points], teacher=TEACHER[:others])


def test_aligned_sides_of_unequal_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="project"):
        record(aligned_student=STUDENT)


def test_a_collapse_is_seen_although_the_angles_are_small() -> None:
    # Trap: a mean angle can fall because all states become one.
    alike = np.float32(1) + 1e-4 * RANDOM.normal(size=(60, 4)).astype(np.float32) * np.array([1, 0, 0, 0], np.float32)
    found = signs_of_collapse(alike, alike)
    assert found == pytest.approx({"effective_rank": 1, "angle_spread": 0}, abs=1e-3)
    assert signs_of_collapse(*ALIGNED)["effective_rank"] > 3.5


def test_the_spread_of_the_angles_is_their_standard_deviation() -> None:
    student = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=np.float32)
    teacher = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    expected = np.std([0, np.pi / 2, np.pi / 2, 0])
    assert signs_of_collapse(student, teacher)["angle_spread"] == pytest.approx(expected, abs=1e-6)


def test_states_that_are_not_finite_have_no_signs() -> None:
    broken = ALIGNED[0].copy()
    broken[3, 1] = np.nan
    assert signs_of_collapse(broken, ALIGNED[1]) == {}


def test_a_probe_of_usual_size_costs_less_than_half_a_second_of_one_core() -> None:
    # 0.1 s on a free machine; a shared one is slower.
    student = RANDOM.normal(size=(1500, 384)).astype(np.float32)
    teacher = RANDOM.normal(size=(1500, 384)).astype(np.float32)
    record(student=student, teacher=teacher, aligned_student=student, aligned_teacher=teacher)
    began = time.process_time()
    record(student=student, teacher=teacher, aligned_student=student, aligned_teacher=teacher)
    assert time.process_time() - began < 0.5
