"""The alignment of one layer pair at one step of a run, as it is stored."""

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from core.alignment.measures import linear_cka, mean_geodesic_angle, mutual_knn
from core.store.records import AlignmentRecord, Side, Stage

NEIGHBOURS = 10


def alignment_records(
    *,
    run_id: str,
    step: int,
    stage: Stage,
    side: Side,
    student_layer: int,
    teacher_layer: int,
    student: Float[np.ndarray, "points student_width"],
    teacher: Float[np.ndarray, "points teacher_width"],
    mean: Float[np.ndarray, " teacher_width"],
    projection: Float[np.ndarray, "teacher_width student_width"] | None,
) -> AlignmentRecord:
    """Return how alike the states of a layer pair are.

    CKA and neighbours are those of the states as they are, each side seen from its own mean, so that they tell of what
    is deployed. The angle is measured where the losses measure it: after the projection, seen from the teacher's mean.

    Args:
        run_id: Of the run; this and the next five are stored as they are.
        step: See above.
        stage: See above.
        side: See above.
        student_layer: See above.
        teacher_layer: See above.
        student: The probe's states in the student.
        teacher: The same points in the teacher.
        mean: The teacher's mean state of the layer.
        projection: From student to teacher width, when the run has one.

    Raises:
        ShapeError: If the sides do not pair up.
    """
    # On a busy machine NumPy's threads wait for each other: one is up to forty times faster there.
    with threadpool_limits(limits=1, user_api="blas"):
        projected = student if projection is None else student @ projection.T
        cka = linear_cka(student, teacher)
        angle = mean_geodesic_angle(projected, teacher, centre=mean)
        shared = mutual_knn(student - student.mean(axis=0), teacher - teacher.mean(axis=0), neighbours=NEIGHBOURS)
    return AlignmentRecord(
        run_id=run_id,
        step=step,
        stage=stage,
        side=side,
        student_layer=student_layer,
        teacher_layer=teacher_layer,
        points=len(student),
        linear_cka=cka,
        geodesic_angle=angle,
        mutual_knn=shared,
        neighbours=NEIGHBOURS,
    )
