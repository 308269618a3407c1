"""The alignment of one layer pair at one step of a run, as it is stored."""

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from core.alignment.measures import effective_rank, geodesic_angles, linear_cka, mean_geodesic_angle, mutual_knn
from core.errors import ShapeError
from core.store.records import AlignmentRecord, Side, Stage

NEIGHBOURS = 10

MOST_POINTS = 2000
"""More are thinned evenly: neighbours cost the square of the points, and eight probes of a run should not be felt."""

FEWEST_FOR_CKA = 4
"""With fewer points the debiased estimate does not exist."""


def alignment_records(
    *,
    run_id: str,
    step: int,
    stage: Stage,
    side: Side,
    student_layer: int,
    teacher_layer: int,
    teacher_number: int = 0,
    student: Float[np.ndarray, "points student_width"],
    teacher: Float[np.ndarray, "points teacher_width"],
    aligned_student: Float[np.ndarray, "points common"],
    aligned_teacher: Float[np.ndarray, "points common"],
    neighbours: int = NEIGHBOURS,
    most_points: int = MOST_POINTS,
) -> AlignmentRecord:
    """Return how alike the states of a layer pair are.

    CKA and neighbours are those of the states as they are, each side seen from its own mean, so that they tell of what
    is deployed. The angle is measured where the losses measure it: in the space of the run's mapping.

    Args:
        run_id: Of the run; this and the next five are stored as they are.
        step: See above.
        stage: See above.
        side: See above.
        student_layer: See above.
        teacher_layer: See above.
        teacher_number: Which teacher's layer it is, from 0.
        student: The probe's states in the student.
        teacher: The same points in the teacher.
        aligned_student: The student's states where the losses compare them.
        aligned_teacher: The teacher's states there.
        neighbours: How many nearest neighbours are compared; fewer where there are too few points.
        most_points: More are thinned evenly; the record tells how many were measured.

    Raises:
        ShapeError: If the sides do not pair up, or have fewer than 2 points.
    """
    if len(student) != len(teacher) or len(student) < 2:
        raise ShapeError(
            f"{len(student)} student states and {len(teacher)} teacher states cannot be measured: there must be one of "
            "each for every point, and two points or more. Give the development set more speech."
        )
    if len(student) > most_points:
        kept = np.linspace(0, len(student) - 1, most_points).round().astype(int)
        student, teacher = student[kept], teacher[kept]
        aligned_student, aligned_teacher = aligned_student[kept], aligned_teacher[kept]
    neighbours = min(neighbours, len(student) - 1)
    # On a busy machine NumPy's threads wait for each other: one is up to forty times faster there.
    with threadpool_limits(limits=1, user_api="blas"):
        cka = linear_cka(student, teacher) if len(student) >= FEWEST_FOR_CKA else float("nan")
        angle = mean_geodesic_angle(aligned_student, aligned_teacher)
        shared = mutual_knn(student - student.mean(axis=0), teacher - teacher.mean(axis=0), neighbours=neighbours)
    return AlignmentRecord(
        run_id=run_id,
        step=step,
        stage=stage,
        side=side,
        student_layer=student_layer,
        teacher_layer=teacher_layer,
        teacher_number=teacher_number,
        points=len(student),
        linear_cka=cka,
        geodesic_angle=angle,
        mutual_knn=shared,
        neighbours=neighbours,
    )


def signs_of_collapse(
    student: Float[np.ndarray, "points common"],
    teacher: Float[np.ndarray, "points common"],
    *,
    most_points: int = MOST_POINTS,
) -> dict[str, float]:
    """Return what gives a collapse away, which a small mean angle alone would hide.

    ``effective_rank``: in how many directions the student's states vary; near 1 they are all alike. ``angle_spread``:
    the standard deviation of the angles between the sides, in radians. Empty where a state is NaN or infinite.

    Args:
        student: Where the losses compare them.
        teacher: The same points.
        most_points: More are thinned evenly.
    """
    if not (np.isfinite(student).all() and np.isfinite(teacher).all()):
        return {}
    kept = np.linspace(0, len(student) - 1, min(most_points, len(student))).round().astype(int)
    with threadpool_limits(limits=1, user_api="blas"):
        return {
            "effective_rank": effective_rank(student[kept]),
            "angle_spread": float(geodesic_angles(student[kept], teacher[kept]).std()),
        }
