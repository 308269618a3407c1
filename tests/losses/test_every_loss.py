"""What every loss promises; a loss that is added is held to it unasked."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

import core.losses
from core.config import (
    LOSSES,
    AlignmentSettings,
    Cosine,
    CrossEntropy,
    Geodesic,
    InfoNce,
    Loss,
    LossSettings,
    Mapping,
    Method,
    ProjectionOnly,
)
from core.config.losses.base import Promise, Reads
from core.ensemble import Teaching
from core.errors import ShapeError
from core.losses import FORMULAS
from core.mapping import LayerPair, PointMap, StateStatistics
from core.objective import Objective
from core.signals import Signals, States
from core.sums import means

# Two utterances.
FRAMES, TOKENS = (7, 5), (3, 4)
WIDTH, VOCABULARY = 8, 11
PAIRS = (LayerPair("encoder", 1, 2), LayerPair("encoder", 2, 3), LayerPair("decoder", 1, 1))
KINDS = [loss.model_fields["kind"].default for loss in LOSSES]
ALIGNMENTS = [loss for loss in LOSSES if issubclass(loss, AlignmentSettings)]

NOT_ZERO_AT_THE_TEACHER = {
    CrossEntropy: "it compares with the transcript, and the teacher plays no part in it",
    InfoNce: "the other points of the batch are not infinitely unlike a point",
}

every_loss = pytest.mark.parametrize("loss", [loss() for loss in LOSSES], ids=KINDS)
every_alignment = pytest.mark.parametrize("kind", ALIGNMENTS, ids=lambda kind: kind.__name__)


def signals(seed: int, *, layers: tuple[int, ...] = (1, 2, 3)) -> Signals:
    """Return one side's states, all leaves with gradient, and a head that both sides share."""
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(99))
    return Signals(
        encoder={layer: torch.randn(sum(FRAMES), WIDTH, generator=generator).requires_grad_() for layer in layers},
        decoder={1: torch.randn(sum(TOKENS), WIDTH, generator=generator).requires_grad_()},
        targets=torch.randint(VOCABULARY, (sum(TOKENS),), generator=generator),
        head=lambda states: states @ head.to(states.dtype).T,
        frame_counts=FRAMES,
        token_counts=TOKENS,
    )


def rearranged(side: Signals, frames: Sequence[int], tokens: Sequence[int], utterances: Sequence[int]) -> Signals:
    """Return some points of a side, in another order or several times, as utterances with these numbers."""
    assert side.targets is not None
    return Signals(
        encoder={layer: states[list(frames)] for layer, states in side.encoder.items()},
        decoder={layer: states[list(tokens)] for layer, states in side.decoder.items()},
        targets=side.targets[list(tokens)],
        head=side.head,
        frame_counts=[FRAMES[utterance] for utterance in utterances],
        token_counts=[TOKENS[utterance] for utterance in utterances],
    )


def of_utterances(counts: Sequence[int], utterances: Sequence[int]) -> list[int]:
    """Return the rows of whole utterances."""
    return [row for number in utterances for row in range(sum(counts[:number]), sum(counts[: number + 1]))]


def twin(teacher: Signals) -> Signals:
    """Return a student whose layers hold what the teacher layers that they meet hold."""
    encoder = {pair.student: teacher.encoder[pair.teacher] for pair in PAIRS if pair.side == "encoder"}
    return dataclasses.replace(teacher, encoder=encoder)


def point_map() -> PointMap:
    """Return the mapping of a default method, at its start: the identity, and a teacher whose mean is not zero."""
    known = StateStatistics(torch.full((WIDTH,), 0.1), torch.eye(WIDTH))
    statistics = {(pair.side, pair.teacher): known for pair in PAIRS}
    return PointMap(Mapping(), student_width=WIDTH, teacher_width=WIDTH, pairs=PAIRS, statistics=statistics, seed=0)


def value_of(
    loss: LossSettings,
    student: Signals,
    teacher: Signals,
    *,
    pairs: tuple[LayerPair, ...] = PAIRS,
    through: PointMap | None = None,
) -> Tensor:
    objective = Objective(Method.model_validate({"losses": [loss]}), point_map=through or point_map(), pairs=pairs)
    found = means(objective.terms(student=student, teacher=Teaching.alone(teacher), progress=0.5))
    assert list(found) == [loss.kind]
    return found[loss.kind]


def between(loss: LossSettings, student: Tensor, teacher: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return an alignment of states that are in the common space already."""
    return FORMULAS[type(loss)](loss, States(student, lengths), States(teacher, lengths)).mean()


def number_of(loss: LossSettings, student: Signals, teacher: Signals, *, pairs: tuple[LayerPair, ...] = PAIRS) -> float:
    return float(value_of(loss, student, teacher, pairs=pairs).detach())


def states_of(side: Signals) -> list[Tensor]:
    return [*side.encoder.values(), *side.decoder.values()]


def moved(tensors: Sequence[Tensor]) -> list[bool]:
    """Return which leaves got a gradient other than zero; all gradients are finite."""
    gradients = [tensor.grad if tensor.grad is not None else torch.zeros(1) for tensor in tensors]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    return [bool(gradient.any()) for gradient in gradients]


def test_every_file_is_a_loss_that_is_listed_and_every_loss_has_a_file() -> None:
    files = {path.stem for path in Path(str(core.losses.__file__)).parent.glob("*.py")} - {"__init__"}
    assert files == set(KINDS), (
        f"Add a line for {sorted(files ^ set(KINDS))} to the list in core/config/losses/__init__.py."
    )
    assert get_args(get_args(Loss)[0]) == LOSSES
    assert set(FORMULAS) == set(LOSSES)


@every_loss
def test_it_is_one_finite_number_that_is_not_negative(loss: LossSettings) -> None:
    value = value_of(loss, signals(0), signals(1))
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert bool(torch.isfinite(value))
    assert float(value.detach()) > 0


@every_loss
def test_only_the_student_gets_a_gradient(loss: LossSettings) -> None:
    student, teacher, through = signals(0), signals(1), point_map()
    value_of(loss, student, teacher, through=through).backward()
    assert not any(moved(states_of(teacher)))
    # Of the student: both encoder layers that meet a teacher layer, not the third, and the decoder.
    aligns = isinstance(loss, AlignmentSettings)
    expected = [aligns, aligns, False, True] if loss.reaches_student else [False] * 4
    assert moved(states_of(student)) == expected
    assert all(moved(list(through.parameters()))) == aligns


@every_loss
def test_a_student_that_equals_its_teacher_has_the_smallest_value(loss: LossSettings) -> None:
    teacher = signals(1)
    least = number_of(loss, twin(teacher), teacher)
    others = [number_of(loss, signals(seed), teacher) for seed in range(2, 7)]
    if isinstance(loss, CrossEntropy):
        # Its exception holds still: another teacher changes nothing.
        assert number_of(loss, signals(0), teacher) == number_of(loss, signals(0), signals(2))
        return
    if type(loss) in NOT_ZERO_AT_THE_TEACHER:
        assert 1e-3 < least < min(others)
        return
    assert 0 <= least < 1e-6
    assert min(others) > 0.01


@every_loss
def test_it_keeps_what_it_promises_about_the_order_and_number_of_points(loss: LossSettings) -> None:
    student, teacher = signals(0), signals(1)
    generator = torch.Generator().manual_seed(5)
    frames, tokens = (torch.randperm(sum(counts), generator=generator).tolist() for counts in (FRAMES, TOKENS))
    swapped = [1, 0]
    arrangements = {
        "points": [(frames, tokens, [0, 1]), (frames * 3, tokens * 3, [0, 1] * 3)],
        "set": [(frames, tokens, [0, 1])],
        "utterances": [
            (of_utterances(FRAMES, order), of_utterances(TOKENS, order), order) for order in (swapped, swapped * 3)
        ],
    }[loss.promise]
    expected = number_of(loss, student, teacher)
    for arrangement in arrangements:
        found = number_of(loss, rearranged(student, *arrangement), rearranged(teacher, *arrangement))
        assert found == pytest.approx(expected, rel=1e-4)


@every_loss
def test_states_in_half_precision_are_compared_in_float32_also_under_autocast(loss: LossSettings) -> None:
    def as_given(side: Signals, dtype: torch.dtype) -> Signals:
        # Rounded to half precision whatever they are handed over in.
        encoder, decoder = (
            {layer: states.detach().bfloat16().to(dtype) for layer, states in states_by_layer.items()}
            for states_by_layer in (side.encoder, side.decoder)
        )
        return dataclasses.replace(side, encoder=encoder, decoder=decoder, head=_rounding_head)

    student, teacher = signals(0), signals(1)
    expected = value_of(loss, as_given(student, torch.float32), as_given(teacher, torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_of(loss, as_given(student, torch.bfloat16), as_given(teacher, torch.bfloat16))
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def _rounding_head(states: Tensor) -> Tensor:
    """Return logits in the precision of the states, the same numbers in each."""
    head = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(99))
    with torch.autocast("cpu", enabled=False):
        return (states.float() @ head.T).bfloat16().to(states.dtype)


@every_loss
def test_its_settings_survive_json(loss: LossSettings) -> None:
    changed = loss.model_copy(update={"weight": 3.25})
    adapter: TypeAdapter[Any] = TypeAdapter(Loss)
    assert adapter.validate_python(json.loads(adapter.dump_json(changed))) == changed


@every_loss
def test_it_says_what_it_is_where_it_comes_from_and_what_its_fields_mean(loss: LossSettings) -> None:
    assert loss.meaning
    assert loss.formula
    assert loss.source
    assert type(loss).__doc__
    for name, field in type(loss).model_fields.items():
        assert name == "kind" or field.description, f"{name} has no description"
    assert loss.unit
    assert loss.promise in get_args(Promise)
    assert loss.reads <= set(get_args(Reads))
    assert ("states" in loss.reads) == isinstance(loss, AlignmentSettings)


@every_alignment
def test_an_alignment_is_the_mean_over_layers_summed_over_sides(kind: type[AlignmentSettings]) -> None:
    student, teacher = signals(0), signals(1)
    each = [number_of(kind(), student, teacher, pairs=(pair,)) for pair in PAIRS]
    whole = number_of(kind(), student, teacher)
    assert whole == pytest.approx((each[0] + each[1]) / 2 + each[2], rel=1e-5)
    assert number_of(kind(decoder=False), student, teacher) == pytest.approx((each[0] + each[1]) / 2, rel=1e-5)
    assert number_of(kind(encoder=False), student, teacher) == pytest.approx(each[2], rel=1e-5)


@every_alignment
def test_an_alignment_refuses_points_that_do_not_pair_up(kind: type[AlignmentSettings]) -> None:
    with pytest.raises(ShapeError, match="do not pair up"):
        between(kind(), torch.ones(3, 4), torch.ones(2, 4), [3])
    with pytest.raises(ShapeError, match="padding"):
        between(kind(), torch.ones(0, 4), torch.ones(0, 4), [])


@every_alignment
def test_one_point_alone_leaves_a_finite_loss_and_gradient(kind: type[AlignmentSettings]) -> None:
    student = torch.linspace(-1, 2, 4)[None].requires_grad_()
    value = between(kind(), student, torch.ones(1, 4), [1])
    assert 0 <= float(value.detach()) < 10
    value.backward()
    moved([student])


def test_an_alignment_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer pair"):
        value_of(Geodesic(decoder=False), signals(0), signals(1), pairs=PAIRS[2:])


@pytest.mark.parametrize("base", [LossSettings, AlignmentSettings])
def test_settings_without_a_formula_are_refused_by_name(base: type[LossSettings]) -> None:
    class Forgotten(base):
        kind: str = "forgotten"

    method = Method.model_construct(losses=(Forgotten(),))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="Forgotten has settings but no formula"):
        Objective(method, point_map=point_map(), pairs=PAIRS)


def test_arc_and_chord_measure_the_same_angle_in_their_own_way() -> None:
    angle = torch.tensor(0.7)
    student = torch.tensor([[2.0, 0.0]])
    teacher = 5 * torch.stack([angle.cos(), angle.sin()])[None]
    assert float(between(Geodesic(), student, teacher, [1])) == pytest.approx(0.7, rel=1e-5)
    assert float(between(Cosine(), student, teacher, [1])) == pytest.approx(1 - float(angle.cos()), rel=1e-5)


def test_the_null_equals_the_geodesic_term_and_teaches_the_projection_alone() -> None:
    student, teacher = signals(0), signals(1)
    assert number_of(ProjectionOnly(), student, teacher) == number_of(Geodesic(), student, teacher)
    gradients = []
    for loss in (ProjectionOnly(), Geodesic()):
        through = point_map()
        value_of(loss, student, teacher, through=through).backward()
        gradients.append([parameter.grad for parameter in through.parameters()])
    assert all(torch.equal(null, term) for null, term in zip(*gradients, strict=True))


def test_signals_without_what_a_loss_reads_are_refused() -> None:
    with pytest.raises(ValueError, match="without a decoder"):
        _ = Signals(encoder={0: torch.ones(2, 3)}).logits
    with pytest.raises(ValueError, match="without a transcript"):
        value_of(CrossEntropy(), dataclasses.replace(signals(0), targets=None), signals(1))
