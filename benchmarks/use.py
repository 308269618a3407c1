"""Goal 7: the useful share of the peak: operations that true lengths need, over time and the fastest product."""

import dataclasses
from collections.abc import Callable

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import goals
from benchmarks.goals import Ratio
from benchmarks.measuring import Bench, Found, product_peak
from benchmarks.pair import DECODER, EVERYWHERE, MOST_UTTERANCES, Pair
from core.pacing import Unseen
from core.scaling.work import prepare_batch
from core.teacher_outputs import Teachers
from core.training import Learner, method_terms


def measure(bench: Bench) -> Found:
    """Measure the shares of a cached step and of the teacher's pass, on utterances of nearly one length."""
    pair = longest(bench)
    each = [dataclasses.replace(pair, utterances=[item], batch=1).padded_to_longest() for item in pair.utterances]
    makers = {goals.CACHED_USE: step_of, goals.TEACHER_USE: listening}
    operations = {goal: sum(operations_of(make(one)) for one in each) for goal, make in makers.items()}
    acts = {goal.name: make(pair) for goal, make in makers.items()}
    peaks: list[float] = []
    acts_in_turn = {**acts, "the fastest matrix product": lambda: peaks.append(product_peak(bench))}
    seconds = bench.in_turn(acts_in_turn, rounds=2 if bench.quick else 7)
    found = Found()
    for goal in makers:
        shares = sorted(
            operations[goal] / time / peak for time, peak in zip(seconds[goal.name], peaks[1:], strict=True)
        )
        found.goals[goal] = Ratio(shares[len(shares) // 2], len(shares), shares[0], shares[-1])
    return found


def longest(bench: Bench) -> Pair:
    """Return the pair with one batch of its longest utterances, which have nearly one length."""
    count = 4 if bench.quick else 8
    whole = Pair.of_base(bench, batch=count, count=MOST_UTTERANCES)
    chosen = sorted(whole.utterances, key=lambda item: item.duration)[-count:]
    return dataclasses.replace(whole, utterances=chosen).padded_to_longest()


def listening(pair: Pair) -> Callable[[], object]:
    """Return the teacher's pass, over as many utterances at once as jobs have it hear."""
    at_once = dataclasses.replace(pair, batch=min(pair.batch, prepare_batch(pair.device.type == "cuda")))
    return lambda: at_once.prepared(at_once.config(EVERYWHERE))


def step_of(pair: Pair, workload: dict[str, object] = DECODER) -> Callable[[], object]:
    """Return a cached step without its optimiser, whose time is a hundredth of it."""
    config = pair.config(workload)
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
        learner.total(1, learner.means(terms)).backward()

    return act


def operations_of(act: Callable[[], object]) -> int:
    """Return the floating-point operations of an act, done once before.

    Its attention is written out in matrix products, as in `core.counting`: PyTorch's counter knows no fused attention
    of a CPU, and would count nothing for it.
    """
    act()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()
