"""Goal 7: the useful share of the peak: operations that true lengths need, over time and the fastest product."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode

from benchmarks import goals
from benchmarks.goals import Ratio
from benchmarks.measuring import Bench, Found, product_peak
from benchmarks.pair import DECODER, EVERYWHERE, Pair
from core.pacing import Unseen
from core.teacher_outputs import Teachers
from core.training import Learner, method_terms


def measure(bench: Bench) -> Found:
    """Measure the shares of a cached step and of the teacher's pass."""
    pair = Pair.of_base(bench, batch=4 if bench.quick else 8)
    acts = {goals.CACHED_USE: _step(pair), goals.TEACHER_USE: lambda: pair.prepared(pair.config(EVERYWHERE))}
    operations = {goal: _operations(act) for goal, act in acts.items()}
    names = {goal.name: act for goal, act in acts.items()}
    peaks: list[float] = []
    acts_in_turn = {**names, "the fastest matrix product": lambda: peaks.append(product_peak(bench))}
    seconds = bench.in_turn(acts_in_turn, rounds=2 if bench.quick else 7)
    found = Found()
    for goal in acts:
        each = sorted(operations[goal] / time / peak for time, peak in zip(seconds[goal.name], peaks[1:], strict=True))
        found.goals[goal] = Ratio(each[len(each) // 2], len(each), each[0], each[-1])
    return found


def _step(pair: Pair) -> Callable[[], None]:
    """Return a cached step without its optimiser, whose time is a hundredth of it."""
    config = pair.config(DECODER)
    prepared = pair.prepared(config)
    member = pair.member(config, prepared, Unseen())
    learner = Learner(config, student=member.student, point_map=member.point_map, pairs=())

    def act() -> None:
        terms = method_terms(
            config,
            prepared,
            learner.objective,
            student=member.student,
            teachers=Teachers((pair.teacher,)),
            progress=1.0,
        )
        learner.total(1, terms).backward()

    return act


def _operations(act: Callable[[], object]) -> int:
    act()
    with FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()
