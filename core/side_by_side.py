"""Several students trained in one pass over one frozen backbone; each as `core.training.train` trains it alone.

Students differ in method, learning rate, seed and weights; they agree in where their adapters are and in the shape of a
step. What they share is computed once: the frozen layers of what they all read, and the teacher's logits. What is a
student's own stays its own: terms, optimiser, clipping, checks. No row of a batch depends on another student's rows, so
a student that goes wrong leaves, and the others go on as if it had never been there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from core.companies import may_join, shape_of_step
from core.config import RunConfig
from core.ensemble import Teaching
from core.errors import ManifoldError, Stopped
from core.families.whisper import Whisper
from core.gradient_paths import reaches
from core.mapping import PointMap, PointMaps
from core.objective import fused_losses
from core.shared_backbone import SharedBackbone
from core.signals import Signals
from core.teacher_outputs import Prepared
from core.training import Learner, Lesson, Watcher, batches


@dataclass(frozen=True)
class Member:
    """One student of a group: what `core.training.train` takes.

    Attributes:
        config: Its run.
        student: With adapters, over the frozen weights that all members share.
        point_map: Its mapping into the aligned space.
        lesson: What it learns from.
        watcher: Told of its steps; it gets an equal share of their time.
    """

    config: RunConfig
    student: Whisper
    point_map: PointMap | PointMaps
    lesson: Lesson
    watcher: Watcher


def train_side_by_side(
    members: Sequence[Member], *, frozen: Whisper, failed: Callable[[int, ManifoldError], None]
) -> None:
    """Train the members' adapters and projections, in place.

    Args:
        members: Students whose steps have the same shape.
        frozen: The student that all of them adapt.
        failed: Told the number of a member that went wrong, and how; it is trained no further.

    Raises:
        Stopped: If a watcher says so.
        ValueError: If the members cannot be trained together.
    """
    shapes = {(shape_of_step(one.config), one.lesson.contexts) for one in members}
    if len(shapes) != 1 or not all(may_join(one.config) for one in members):
        raise ValueError(
            "the steps of these runs differ in shape, or one has dropout or experts: train them one by one"
        )
    seats = [_Seat(member, number, failed) for number, member in enumerate(members)]
    for seat in seats:
        seat.member.student.model.train()
        with seat.guarded():
            seat.member.watcher.pause(0)
    present: list[_Seat] = []
    backbone: SharedBackbone | None = None
    steps = members[0].config.training.steps
    for step in range(1, steps + 1):
        if backbone is None or any(seat.left for seat in present):
            present = [seat for seat in seats if not seat.left]
            if not present:
                return
            students = [seat.member.student for seat in present]
            backbone = SharedBackbone(frozen, students, present[0].member.config)
        began = time.perf_counter()
        _step(step, present, backbone)
        seconds = (time.perf_counter() - began) / len(present)
        for seat in (seat for seat in present if not seat.left):
            with seat.guarded():
                seat.member.watcher.step(step, seat.metrics, seconds)
                seat.member.watcher.pause(step)
    for seat in seats:
        seat.member.student.model.eval()


class _Seat:
    """A member at work.

    Attributes:
        left: Whether it went wrong.
        metrics: Of its last step.
    """

    def __init__(self, member: Member, number: int, failed: Callable[[int, ManifoldError], None]) -> None:
        self.member, self._number, self._failed = member, number, failed
        self.left = False
        self.metrics: dict[str, float] = {}
        self.learner = Learner(
            member.config, student=member.student, point_map=member.point_map, pairs=member.lesson.pairs
        )
        size = member.config.training.batch_size
        self._order = batches(member.lesson.contexts, size, seed=member.config.seed)

    def draw(self) -> list[Prepared]:
        """Return its next utterances."""
        return [self.member.lesson.prepared[index] for index in next(self._order)]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let the member leave when it goes wrong in here; once it has left, whatever comes of it is not looked at."""
        try:
            yield
        except Stopped:
            raise
        except ManifoldError as error:
            if not self.left:
                self.left = True
                self._failed(self._number, error)


def _step(step: int, present: Sequence[_Seat], backbone: SharedBackbone) -> None:
    """Take one step of every student that is there."""
    progress = step / present[0].member.config.training.steps
    drawn = [seat.draw() for seat in present]
    read_the_same, hear_the_same = _in_common(present, drawn)
    with present[0].learner.precision:
        students = backbone.signals(
            drawn, same=read_the_same, with_decoder=any(seat.member.config.method.needs_decoder for seat in present)
        )
        teachers = _teachers(present, drawn, same=hear_the_same)
        terms = _terms(present, students, teachers, progress, same=hear_the_same)
    totals: dict[_Seat, Tensor] = {}
    for seat, losses in zip(present, terms, strict=True):
        with seat.guarded():
            totals[seat] = seat.learner.total(step, losses)
    _require_paths([(seat, losses) for seat, losses in zip(present, terms, strict=True) if seat in totals])
    totals = {seat: total for seat, total in totals.items() if not seat.left}
    if totals:
        torch.stack(list(totals.values())).sum().backward()
    for seat in totals:
        with seat.guarded():
            seat.metrics = seat.learner.update(step)


def _in_common(present: Sequence[_Seat], drawn: Sequence[list[Prepared]]) -> tuple[bool, bool]:
    """Return whether all students read the same utterances, and whether their teachers say the same about them."""
    beside = [(mine, first) for batch in drawn for mine, first in zip(batch, drawn[0], strict=True)]
    read = all(mine.start is first.start and mine.tokens == first.tokens for mine, first in beside)
    said = all(mine.teachers is first.teachers and mine.weights == first.weights for mine, first in beside)
    teachers = present[0].member.lesson.teachers
    return read, read and said and all(seat.member.lesson.teachers.says_the_same_as(teachers) for seat in present)


def _teachers(present: Sequence[_Seat], drawn: Sequence[list[Prepared]], *, same: bool) -> list[Teaching]:
    """Return what the teachers say of each student's utterances, made once where they are the same."""
    if same:
        return [present[0].member.lesson.teachers.teaching(drawn[0])] * len(present)
    return [seat.member.lesson.teachers.teaching(batch) for seat, batch in zip(present, drawn, strict=True)]


def _terms(
    present: Sequence[_Seat], students: Sequence[Signals], teachers: Sequence[Teaching], progress: float, *, same: bool
) -> list[dict[str, Tensor]]:
    """Return each student's terms; those of one vocabulary and the same tokens come from one pass through the head."""
    from_head = {}
    if same:
        wanted = [
            (number, seat.learner.objective.fused_request(student=mine, teacher=theirs, progress=progress))
            for number, (seat, mine, theirs) in enumerate(zip(present, students, teachers, strict=True))
        ]
        asked = {number: one for number, one in wanted if one is not None}
        if asked:
            made = fused_losses([students[number] for number in asked], teachers[0], list(asked.values()))
            from_head = dict(zip(asked, made, strict=True))
    return [
        seat.learner.means(
            seat.learner.objective.terms(
                student=students[number], teacher=teachers[number], progress=progress, from_head=from_head.get(number)
            )
        )
        for number, seat in enumerate(present)
    ]


def _require_paths(terms: Sequence[tuple[_Seat, dict[str, Tensor]]]) -> None:
    """Check the terms that count for the first time, each kind in one backward pass for all students that have it."""
    reached: dict[_Seat, dict[str, bool]] = {seat: {} for seat, _ in terms}
    unchecked = {seat: seat.learner.paths.unchecked(losses) for seat, losses in terms}
    for kind in dict.fromkeys(kind for kinds in unchecked.values() for kind in kinds):
        having = [(seat, losses[kind]) for seat, losses in terms if kind in unchecked[seat]]
        moved = reaches([value for _, value in having], [seat.learner.paths.adapters for seat, _ in having])
        for (seat, _), found in zip(having, moved, strict=True):
            reached[seat][kind] = found
    for seat, losses in terms:
        with seat.guarded():
            seat.learner.paths.require_from(losses, reached[seat])
