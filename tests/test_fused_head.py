"""The fused head against losses written out on whole tables of logits."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from core.config import Mapping, Method
from core.ensemble import Teaching
from core.families.whisper import Whisper
from core.fused_head import LiveTeacher, TopTeacher, Wanted, head_terms, top_teacher
from core.mapping import PointMap
from core.objective import Objective
from core.signals import Signals
from core.sums import means
from tests.engine import tiny_en

TOKENS, WIDTH, VOCABULARY = 13, 8, 37


class Means(NamedTuple):
    """What `head_terms` has in sums."""

    cross_entropy: Tensor
    soft_labels: Tensor


def head_means(states: Sequence[Tensor], vocabulary: Tensor, **asked: Any) -> list[Means]:
    return [Means(*(each.mean() for each in terms)) for terms in head_terms(states, vocabulary, **asked)]


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def targets() -> Tensor:
    return torch.randint(VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(5))


def written_out(states: Tensor, vocabulary: Tensor, teacher_logits: Tensor, wanted: Wanted, labels: Tensor) -> Means:
    """Return the terms from tables of logits, in the precision of the states."""
    logits = states @ vocabulary.T
    mine = (logits / wanted.temperature).log_softmax(dim=-1)
    theirs = (teacher_logits / wanted.temperature).log_softmax(dim=-1)
    divergence = (theirs.exp() * (theirs - mine)).sum(dim=-1).mean()
    return Means(functional.cross_entropy(logits, labels), wanted.temperature**2 * divergence)


def weighted(terms: Means, wanted: Wanted) -> Tensor:
    return wanted.cross_entropy * terms.cross_entropy + wanted.soft_labels * terms.soft_labels


@pytest.mark.parametrize("rows", [1, 5, 13, 999])
@pytest.mark.parametrize(
    "wanted", [Wanted(1.0, 0.8, 2.0), Wanted(0.0, 0.8, 3.0), Wanted(0.7, 0.0), Wanted(1.0, 2.0, 1.0)]
)
def test_values_and_gradients_are_those_of_the_losses_written_out(rows: int, wanted: Wanted) -> None:
    vocabulary, theirs = drawn(1, VOCABULARY, WIDTH), drawn(2, VOCABULARY, 6)
    teacher_states = drawn(3, TOKENS, 6)
    fused, plain = drawn(4, TOKENS, WIDTH).requires_grad_(), drawn(4, TOKENS, WIDTH).requires_grad_()
    expected = written_out(plain, vocabulary, teacher_states @ theirs.T, wanted, targets())
    teacher = LiveTeacher(teacher_states, theirs)
    (found,) = head_means([fused], vocabulary, wanted=[wanted], targets=targets(), teacher=teacher, rows_at_once=rows)
    for weight, mine, other in zip((wanted.cross_entropy, wanted.soft_labels), found, expected, strict=True):
        torch.testing.assert_close(mine, other if weight else torch.zeros_like(other), rtol=1e-12, atol=1e-12)
    (3.5 * weighted(found, wanted)).backward()
    (3.5 * weighted(expected, wanted)).backward()
    torch.testing.assert_close(fused.grad, plain.grad, rtol=1e-10, atol=1e-13)


def test_the_gradient_of_one_term_alone_is_right_as_well() -> None:
    # The training loop asks for it, to see that each term reaches the student.
    vocabulary, wanted = drawn(1, VOCABULARY, WIDTH), Wanted(1.0, 0.8, 2.0)
    fused, plain = drawn(4, TOKENS, WIDTH).requires_grad_(), drawn(4, TOKENS, WIDTH).requires_grad_()
    teacher_states = drawn(3, TOKENS, WIDTH)
    expected = written_out(plain, vocabulary, teacher_states @ vocabulary.T, wanted, targets())
    teacher = LiveTeacher(teacher_states, vocabulary)
    (found,) = head_means([fused], vocabulary, wanted=[wanted], targets=targets(), teacher=teacher, rows_at_once=4)
    for mine, other in zip(found, expected, strict=True):
        (slope,) = torch.autograd.grad(mine, fused, retain_graph=True)
        (other_slope,) = torch.autograd.grad(other, plain, retain_graph=True)
        torch.testing.assert_close(slope, other_slope, rtol=1e-10, atol=1e-13)


def test_students_that_share_a_pass_get_what_each_gets_alone() -> None:
    vocabulary, labels = drawn(1, VOCABULARY, WIDTH), targets()
    teacher = LiveTeacher(drawn(3, TOKENS, WIDTH), vocabulary)
    wanted = [Wanted(1.0, 0.8, 2.0), Wanted(1.0), Wanted(0.0, 1.0, 4.0)]
    together = [drawn(10 + number, TOKENS, WIDTH).requires_grad_() for number in range(3)]
    alone = [states.detach().clone().requires_grad_() for states in together]
    found = head_means(together, vocabulary, wanted=wanted, targets=labels, teacher=teacher, rows_at_once=9)
    torch.stack([weighted(terms, one) for terms, one in zip(found, wanted, strict=True)]).sum().backward()
    for states, one, other, terms in zip(alone, wanted, together, found, strict=True):
        (single,) = head_means([states], vocabulary, wanted=[one], targets=labels, teacher=teacher)
        weighted(single, one).backward()
        torch.testing.assert_close(tuple(terms), tuple(single), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(other.grad, states.grad, rtol=1e-12, atol=1e-14)


def test_a_student_that_diverged_does_not_touch_the_others() -> None:
    vocabulary, wanted = drawn(1, VOCABULARY, WIDTH), Wanted(1.0, 0.8, 2.0)
    teacher = LiveTeacher(drawn(3, TOKENS, WIDTH), vocabulary)
    sound, broken = (
        drawn(4, TOKENS, WIDTH).requires_grad_(),
        torch.full((TOKENS, WIDTH), torch.nan, dtype=torch.float64),
    )
    broken.requires_grad_()
    found = head_means([broken, sound], vocabulary, wanted=[wanted] * 2, targets=targets(), teacher=teacher)
    assert bool(found[0].soft_labels.isnan())
    (weighted(found[0], wanted) + weighted(found[1], wanted)).backward()
    gradient = sound.grad
    sound.grad = None
    (alone,) = head_means([sound], vocabulary, wanted=[wanted], targets=targets(), teacher=teacher)
    weighted(alone, wanted).backward()
    torch.testing.assert_close(gradient, sound.grad, rtol=1e-12, atol=1e-14)


def merged_classes(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Return log-probabilities of some tokens and, as a last class, of all others."""
    probabilities = (logits / temperature).softmax(dim=-1)
    top = probabilities.gather(1, tokens)
    return torch.cat([top, probabilities.scatter(1, tokens, 0).sum(dim=1, keepdim=True)], dim=1).log()


@pytest.mark.parametrize("count", [1, 5, VOCABULARY - 1])
def test_top_tokens_and_their_tail_are_a_distribution_of_fewer_classes(count: int) -> None:
    vocabulary, wanted = drawn(1, VOCABULARY, WIDTH), Wanted(1.0, 0.8, 2.0)
    teacher_logits = drawn(3, TOKENS, VOCABULARY) * 3
    teacher = top_teacher(teacher_logits, count=count, temperature=2.0)
    fused, plain = drawn(4, TOKENS, WIDTH).requires_grad_(), drawn(4, TOKENS, WIDTH).requires_grad_()
    (found,) = head_means([fused], vocabulary, wanted=[wanted], targets=targets(), teacher=teacher, rows_at_once=4)
    theirs = merged_classes(teacher_logits, teacher.tokens, 2.0)
    mine = merged_classes(plain @ vocabulary.T, teacher.tokens, 2.0)
    divergence = 4 * (theirs.exp() * (theirs - mine)).sum(dim=1).mean()
    torch.testing.assert_close(found.soft_labels, divergence, rtol=1e-10, atol=1e-12)
    weighted(found, wanted).backward()
    (functional.cross_entropy(plain @ vocabulary.T, targets()) + 0.8 * divergence).backward()
    torch.testing.assert_close(fused.grad, plain.grad, rtol=1e-9, atol=1e-12)


def test_all_tokens_as_top_tokens_are_the_whole_distribution_and_fewer_lose_some_of_it() -> None:
    vocabulary, wanted = drawn(1, VOCABULARY, WIDTH), Wanted(0.0, 1.0, 2.0)
    states, theirs = drawn(4, TOKENS, WIDTH), drawn(3, TOKENS, WIDTH)

    def divergence(teacher: LiveTeacher | TopTeacher) -> float:
        (found,) = head_means([states], vocabulary, wanted=[wanted], teacher=teacher)
        return float(found.soft_labels)

    by_count = [
        divergence(top_teacher(theirs @ vocabulary.T, count=count, temperature=2.0)) for count in (1, 4, 16, VOCABULARY)
    ]
    whole = divergence(LiveTeacher(theirs, vocabulary))
    assert by_count == sorted(by_count)
    assert by_count[-1] == pytest.approx(whole, rel=1e-9)
    assert by_count[0] < whole


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Compute with so many threads: the order of sums depends on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_in_float32_gradients_on_real_states_are_within_a_millionth() -> None:
    model = Whisper(tiny_en(), language="en")
    tokens = model.tokens("The harbour was quiet in the morning, and nobody had seen the boat come in.")
    inputs = torch.tensor([[*model.prompt, *tokens]])
    with torch.no_grad():
        encoded = model.encode_rest(model.encode_start(drawn(0, 1, 80, 400, dtype=torch.float32), 0), 0)[3]
        by_layer = model.decode(encoded, inputs)
    # A student that reads out one layer too early; labels are what was read.
    teacher, states = by_layer[3][0, :-1].clone(), model.decoder.layer_norm(by_layer[2][0, :-1]).detach()
    vocabulary, labels, wanted = model.vocabulary.detach(), inputs[0, 1:], Wanted(1.0, 0.8, 2.0)
    exact, fused = states.double().requires_grad_(), states.clone().requires_grad_()
    expected = written_out(exact, vocabulary.double(), teacher.double() @ vocabulary.double().T, wanted, labels)
    (found,) = head_means(
        [fused], vocabulary, wanted=[wanted], targets=labels, teacher=LiveTeacher(teacher, vocabulary), rows_at_once=7
    )
    weighted(expected, wanted).backward()
    weighted(found, wanted).backward()
    assert fused.grad is not None
    assert exact.grad is not None
    assert float((fused.grad.double() - exact.grad).norm() / exact.grad.norm()) < 1e-6
    for mine, other in zip(found, expected, strict=True):
        assert float(mine.detach()) == pytest.approx(float(other.detach()), rel=1e-6)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


def test_no_table_of_logits_is_ever_held() -> None:
    vocabulary, tokens = drawn(1, 500, WIDTH), 100
    states, labels = drawn(4, tokens, WIDTH).requires_grad_(), torch.zeros(tokens, dtype=torch.long)
    teacher = LiveTeacher(drawn(3, tokens, WIDTH), vocabulary)
    with Largest() as seen:
        wanted = Wanted(1.0, 0.8, 2.0)
        (found,) = head_means([states], vocabulary, wanted=[wanted], targets=labels, teacher=teacher, rows_at_once=10)
        weighted(found, wanted).backward()
    assert seen.numbers <= 10 * 500


def test_under_autocast_only_the_products_are_in_half_precision() -> None:
    vocabulary, wanted = drawn(1, VOCABULARY, WIDTH).float(), Wanted(1.0, 0.8, 2.0)
    states, theirs = drawn(4, TOKENS, WIDTH).float(), drawn(3, TOKENS, WIDTH).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, teacher_logits = ((side @ vocabulary.T).float() for side in (states, theirs))
        half = states.bfloat16().requires_grad_()
        (found,) = head_means(
            [half], vocabulary, wanted=[wanted], targets=targets(), teacher=LiveTeacher(theirs, vocabulary)
        )
    eye = torch.eye(VOCABULARY)
    expected = written_out(logits, eye, teacher_logits, wanted, targets())
    assert all(value.dtype == torch.float32 for value in found)
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-4, atol=1e-5)
    weighted(found, wanted).backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("wanted", "changes", "message"),
    [
        (Wanted(1.0), {"targets": None}, "without a transcript"),
        (Wanted(0.0, 1.0), {"teacher": None}, "without a teacher"),
        (Wanted(0.0, 1.0, 3.0), {}, "temperature 2, not 3"),
        (Wanted(1.0), {"vocabulary": drawn(1, VOCABULARY, WIDTH).requires_grad_()}, "is trained"),
    ],
)
def test_what_cannot_be_made_is_refused(wanted: Wanted, changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "vocabulary": drawn(1, VOCABULARY, WIDTH),
        "targets": targets(),
        "teacher": top_teacher(drawn(3, TOKENS, VOCABULARY), count=3, temperature=2.0),
    }
    with pytest.raises(ValueError, match=message):
        head_means([drawn(4, TOKENS, WIDTH)], wanted=[wanted], **{**given, **changes})


def signals(seed: int) -> Signals:
    vocabulary = drawn(1, VOCABULARY, WIDTH, dtype=torch.float32)
    return Signals(
        decoder={0: drawn(seed, TOKENS, WIDTH, dtype=torch.float32).requires_grad_()},
        targets=targets(),
        head=lambda states: states @ vocabulary.T,
        vocabulary=vocabulary,
    )


@pytest.mark.parametrize(
    ("kinds", "fused"),
    [
        (["cross_entropy"], True),
        (["soft_labels"], True),
        (["cross_entropy", "soft_labels"], True),
        (["cross_entropy", "fisher_rao"], False),
        (["cross_entropy", "soft_labels", "dkd"], False),
    ],
)
def test_an_objective_takes_the_fused_head_where_no_term_needs_the_logits(
    kinds: list[str], fused: bool, point_map: PointMap
) -> None:
    method = Method.model_validate({"losses": [{"kind": kind} for kind in kinds]})
    objective = Objective(method, point_map=point_map, pairs=())
    student, teacher = signals(4), Teaching.alone(signals(3))
    terms = means(objective.terms(student=student, teacher=teacher, progress=1.0))
    objective.total(terms, 1.0).backward()
    assert ("logits" in vars(student)) != fused

    plain, other = (dataclasses.replace(signals(seed), vocabulary=None) for seed in (4, 3))
    other_objective = Objective(method, point_map=point_map, pairs=())
    expected = means(other_objective.terms(student=plain, teacher=Teaching.alone(other), progress=1.0))
    objective.total(expected, 1.0).backward()
    torch.testing.assert_close(terms, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(student.decoder[0].grad, plain.decoder[0].grad, rtol=1e-4, atol=1e-7)


@pytest.fixture
def point_map() -> PointMap:
    return PointMap(Mapping(), student_width=WIDTH, teacher_width=WIDTH, pairs=(), statistics={}, seed=0)


class Counted(TorchDispatchMode):
    """Counts what a device is told to do."""

    told = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.told += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("students", "tokens", "most"), [(1, 1024, 700), (8, 432, 3_500)])
def test_a_device_that_is_told_slowly_is_told_little(students: int, tokens: int, most: int) -> None:
    # Trap: sums in small parts, which a CPU needs, had a GPU take eight times as long as tables of logits.
    device = torch.device("meta")
    vocabulary, theirs = torch.empty(51_864, 64, device=device), torch.empty(tokens, 64, device=device)
    states = [torch.empty(tokens, 64, device=device, requires_grad=True) for _ in range(students)]
    with Counted() as counted:
        head_means(
            states,
            vocabulary,
            wanted=[Wanted(1.0, 0.8, 2.0)] * students,
            targets=torch.empty(tokens, dtype=torch.long, device=device),
            teacher=LiveTeacher(theirs, vocabulary),
        )
    assert counted.told < most
