"""What every loss promises; a loss that is added is held to it unasked."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

import core.losses
from core.config import LOSSES, AlignmentSettings, Cosine, CrossEntropy, Geodesic, Loss, LossSettings, Mapping, Method
from core.errors import ShapeError
from core.losses import POINT_LOSSES, terms
from core.mapping import LayerPair, PointMap
from core.signals import Signals

FRAMES, TOKENS, WIDTH, VOCABULARY = 12, 7, 8, 11
PAIRS = (LayerPair("encoder", 1, 2), LayerPair("encoder", 2, 3), LayerPair("decoder", 1, 1))
KINDS = [loss.model_fields["kind"].default for loss in LOSSES]

NO_MINIMUM_AT_THE_TEACHER = {
    CrossEntropy: "it compares with the transcript, and the teacher plays no part in it",
}

every_loss = pytest.mark.parametrize("loss", [loss() for loss in LOSSES], ids=KINDS)


def signals(seed: int, *, layers: tuple[int, ...] = (1, 2, 3)) -> Signals:
    """Return one side's states, all leaves with gradient, and a head that both sides share."""
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(99))
    return Signals(
        encoder={layer: torch.randn(FRAMES, WIDTH, generator=generator).requires_grad_() for layer in layers},
        decoder={1: torch.randn(TOKENS, WIDTH, generator=generator).requires_grad_()},
        targets=torch.randint(VOCABULARY, (TOKENS,), generator=generator),
        head=lambda states: states.float() @ head.T,
    )


def rearranged(side: Signals, frames: Tensor, tokens: Tensor) -> Signals:
    """Return some points of a side, in another order or several times."""
    assert side.targets is not None
    return Signals(
        encoder={layer: states[frames] for layer, states in side.encoder.items()},
        decoder={layer: states[tokens] for layer, states in side.decoder.items()},
        targets=side.targets[tokens],
        head=side.head,
    )


def value_of(
    loss: LossSettings,
    student: Signals,
    teacher: Signals,
    *,
    pairs: tuple[LayerPair, ...] = PAIRS,
) -> Tensor:
    method = Method.model_validate({"losses": [loss]})
    found = terms(
        method,
        student=student,
        teacher=teacher,
        point_map=PointMap(Mapping(), student_width=WIDTH, teacher_width=WIDTH),
        pairs=pairs,
        means={(pair.side, pair.teacher): torch.full((WIDTH,), 0.1) for pair in PAIRS},
    )
    (kind,) = found
    assert kind == getattr(loss, "kind")  # noqa: B009 - the base of all settings has no kind
    return found[kind]


def number_of(loss: LossSettings, student: Signals, teacher: Signals, *, pairs: tuple[LayerPair, ...] = PAIRS) -> float:
    return float(value_of(loss, student, teacher, pairs=pairs).detach())


def test_every_file_is_a_loss_that_is_listed_and_every_loss_has_a_file() -> None:
    files = {path.stem for path in Path(str(core.losses.__file__)).parent.glob("*.py")} - {"__init__"}
    assert files == set(KINDS), (
        f"Name {sorted(files ^ set(KINDS))} in `Loss` of core/config/losses.py and in core/losses/__init__.py."
    )


@every_loss
def test_it_is_one_finite_number_that_is_not_negative(loss: LossSettings) -> None:
    value = value_of(loss, signals(0), signals(1))
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert bool(torch.isfinite(value))
    assert float(value.detach()) > 0


@every_loss
def test_only_the_student_gets_a_gradient(loss: LossSettings) -> None:
    student, teacher = signals(0), signals(1)
    value_of(loss, student, teacher).backward()
    for states in (*teacher.encoder.values(), *teacher.decoder.values()):
        assert states.grad is None or not bool(states.grad.any())
    gradients = [states.grad for states in (*student.encoder.values(), *student.decoder.values())]
    reached = [gradient for gradient in gradients if gradient is not None]
    assert reached
    assert all(bool(torch.isfinite(gradient).all()) and bool(gradient.any()) for gradient in reached)


@every_loss
def test_a_student_that_equals_its_teacher_has_the_smallest_value(loss: LossSettings) -> None:
    if type(loss) in NO_MINIMUM_AT_THE_TEACHER:
        # The exception holds still: another teacher changes nothing.
        assert torch.equal(value_of(loss, signals(0), signals(1)), value_of(loss, signals(0), signals(2)))
        return
    teacher = signals(1)
    # Each student layer holds what the teacher layer that it meets holds.
    twin = Signals(
        encoder={pair.student: teacher.encoder[pair.teacher] for pair in PAIRS if pair.side == "encoder"},
        decoder=teacher.decoder,
        targets=teacher.targets,
        head=teacher.head,
    )
    assert number_of(loss, twin, teacher) == pytest.approx(0, abs=1e-6)
    for seed in range(2, 7):
        assert number_of(loss, signals(seed), teacher) > 0.01


@every_loss
def test_the_order_of_points_and_their_number_do_not_change_it(loss: LossSettings) -> None:
    student, teacher = signals(0), signals(1)
    generator = torch.Generator().manual_seed(5)
    frames, tokens = torch.randperm(FRAMES, generator=generator), torch.randperm(TOKENS, generator=generator)
    expected = number_of(loss, student, teacher)
    for repeats in (1, 3):
        places = frames.repeat(repeats), tokens.repeat(repeats)
        found = value_of(loss, rearranged(student, *places), rearranged(teacher, *places))
        assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


@every_loss
def test_states_in_half_precision_are_compared_in_float32(loss: LossSettings) -> None:
    def halved(side: Signals) -> Signals:
        return Signals(
            {layer: states.bfloat16() for layer, states in side.encoder.items()},
            {layer: states.bfloat16() for layer, states in side.decoder.items()},
            side.targets,
            side.head,
        )

    student, teacher = signals(0), signals(1)
    value = value_of(loss, halved(student), halved(teacher))
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(number_of(loss, student, teacher), rel=0.05)


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


def test_every_alignment_has_a_formula_for_pairs_of_points() -> None:
    assert set(POINT_LOSSES) == {loss for loss in LOSSES if issubclass(loss, AlignmentSettings)}
    assert all(loss.needs_states == issubclass(loss, AlignmentSettings) for loss in LOSSES)
    assert get_args(get_args(Loss)[0]) == LOSSES


@pytest.mark.parametrize("kind", POINT_LOSSES, ids=lambda kind: kind.__name__)
def test_an_alignment_is_the_mean_over_layers_summed_over_sides(kind: type[AlignmentSettings]) -> None:
    student, teacher = signals(0), signals(1)
    each = [number_of(kind(), student, teacher, pairs=(pair,)) for pair in PAIRS]
    whole = number_of(kind(), student, teacher)
    assert whole == pytest.approx((each[0] + each[1]) / 2 + each[2], rel=1e-5)
    assert number_of(kind(decoder=False), student, teacher) == pytest.approx((each[0] + each[1]) / 2, rel=1e-5)
    assert number_of(kind(encoder=False), student, teacher) == pytest.approx(each[2], rel=1e-5)


@pytest.mark.parametrize("kind", POINT_LOSSES, ids=lambda kind: kind.__name__)
def test_an_alignment_refuses_points_that_do_not_pair_up(kind: type[AlignmentSettings]) -> None:
    with pytest.raises(ShapeError, match="do not pair up"):
        POINT_LOSSES[kind](torch.ones(3, 4), torch.ones(2, 4))
    with pytest.raises(ShapeError, match="padding"):
        POINT_LOSSES[kind](torch.ones(0, 4), torch.ones(0, 4))


def test_an_alignment_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer pair"):
        value_of(Geodesic(decoder=False), signals(0), signals(1), pairs=PAIRS[2:])


def test_settings_without_a_formula_are_refused_by_name() -> None:
    class Forgotten(LossSettings):
        kind: str = "forgotten"

    method = Method.model_construct(losses=(Forgotten(),))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="Forgotten has settings but no formula"):
        terms(
            method,
            student=signals(0),
            teacher=signals(1),
            point_map=PointMap(Mapping(), student_width=WIDTH, teacher_width=WIDTH),
            pairs=PAIRS,
            means={},
        )


def test_arc_and_chord_measure_the_same_angle_in_their_own_way() -> None:
    angle = torch.tensor(0.7)
    student = torch.tensor([[2.0, 0.0]])
    teacher = 5 * torch.stack([angle.cos(), angle.sin()])[None]
    assert float(POINT_LOSSES[Geodesic](student, teacher)) == pytest.approx(0.7, rel=1e-5)
    assert float(POINT_LOSSES[Cosine](student, teacher)) == pytest.approx(1 - float(angle.cos()), rel=1e-5)


def test_logits_of_signals_without_a_decoder_are_refused() -> None:
    with pytest.raises(ValueError, match="without a decoder"):
        _ = Signals(encoder={0: torch.ones(2, 3)}).logits
