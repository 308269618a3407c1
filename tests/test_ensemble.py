"""Several teachers as one, against cases that were worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.config import Dkd, Ensemble, FisherRao, Hint, Mapping, Method, SoftLabels
from core.ensemble import Teaching, mixed_logits, one_of, teacher_weights
from core.mapping import LayerPair, PointMap, PointMaps
from core.objective import Objective
from core.signals import Signals
from core.sums import means


def test_the_mean_of_probabilities_is_that_of_a_case_worked_out_by_hand() -> None:
    # Two teachers, three tokens in the table: (0.7, 0.2, 0.1) and (0.1, 0.3, 0.6). Their mean is (0.4, 0.25, 0.35).
    one = torch.tensor([[0.7, 0.2, 0.1]]).log() + 5  # raw logits are known up to a constant
    other = torch.tensor([[0.1, 0.3, 0.6]]).log() - 3
    even = mixed_logits([one, other], torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(even.exp(), torch.tensor([[0.4, 0.25, 0.35]]))
    # The most likely token of a mean of logits would be the third: (0.07, 0.06, 0.06) before normalising is not.
    leaning = mixed_logits([one, other], torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(leaning.exp(), torch.tensor([[0.25, 0.275, 0.475]]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_the_softened_mean_is_the_mean_of_the_softened_distributions(temperature: float) -> None:
    sides = [3 * torch.randn(4, 9), 3 * torch.randn(4, 9)]
    weights = torch.tensor([[0.3, 0.7]] * 4)
    mean = 0.3 * (sides[0] / temperature).softmax(dim=-1) + 0.7 * (sides[1] / temperature).softmax(dim=-1)
    mixed = mixed_logits(sides, weights, temperature=temperature)
    torch.testing.assert_close((mixed / temperature).softmax(dim=-1), mean)


@pytest.mark.parametrize(
    "loss",
    [SoftLabels(temperature=2), SoftLabels(temperature=4), Dkd(temperature=3), FisherRao(temperature=2)],
    ids=lambda loss: f"{loss.kind} {loss.temperature:g}",
)
def test_a_loss_of_several_teachers_compares_with_the_mean_of_what_each_says_at_its_temperature(
    loss: SoftLabels | Dkd | FisherRao,
) -> None:
    generator = torch.Generator().manual_seed(3)
    mine, *theirs = (3 * torch.randn(5, 11, generator=generator) for _ in range(4))
    weights = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.9, 0.0]])
    speakers = tuple(Signals(decoder={0: side}, head=lambda states: states) for side in theirs)
    targets = torch.tensor([1, 4, 0, 10, 7])
    student = Signals(decoder={0: mine}, head=lambda states: states, targets=targets, token_counts=(2, 3))
    objective = Objective(Method(losses=(loss,)), point_map=PointMaps([]), pairs=())
    teaching = Teaching(speakers, weights, speakers, token_counts=(2, 3))
    found = means(objective.terms(student=student, teacher=teaching, progress=0.5))[loss.kind]
    each = torch.stack([(side.double() / loss.temperature).softmax(dim=-1) for side in theirs])
    per_token = weights.double().repeat_interleave(torch.tensor([2, 3]), dim=0)
    q = torch.einsum("tk,ktv->tv", per_token, each)
    p = (mine.double() / loss.temperature).softmax(dim=-1)
    match loss:
        case SoftLabels():
            expected = loss.temperature**2 * (q * (q / p).log()).sum(dim=-1).mean()
        case FisherRao():
            expected = 2 * (p * q).sqrt().sum(dim=-1).acos().mean()
        case Dkd():
            rows = torch.arange(5)
            yes, mine_yes = q[rows, targets], p[rows, targets]
            about = yes * (yes / mine_yes).log() + (1 - yes) * ((1 - yes) / (1 - mine_yes)).log()
            others = torch.ones_like(q).scatter(1, targets[:, None], 0)
            rest, mine_rest = q / (1 - yes)[:, None], p / (1 - mine_yes)[:, None]
            spread = (others * rest * (rest / mine_rest).log()).sum(dim=-1)
            expected = loss.temperature**2 * (about + 0.5 * spread).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_teacher_without_weight_has_no_say() -> None:
    one, other = torch.randn(4, 7), torch.randn(4, 7)
    alone = mixed_logits([one, other], torch.tensor([[0.0, 1.0]] * 4))
    torch.testing.assert_close(alone, other.log_softmax(dim=-1))


def test_each_token_is_mixed_by_the_weights_of_its_utterance() -> None:
    # One utterance of two tokens that the first teacher speaks for, one of one token for the second.
    sides = [torch.randn(3, 5), torch.randn(3, 5)]
    speakers = tuple(Signals(decoder={0: side}, head=lambda states: states) for side in sides)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    teaching = Teaching(speakers, weights, speakers, token_counts=(2, 1))
    expected = torch.cat([sides[0][:2], sides[1][2:]]).log_softmax(dim=-1)
    torch.testing.assert_close(teaching.logits, expected)


def test_the_states_of_each_teacher_count_as_much_as_it_does_for_the_utterances() -> None:
    """Two utterances of two and three tokens; the third teacher counts for the second one alone."""
    generator = torch.Generator().manual_seed(4)
    mine, *theirs = (torch.randn(5, 4, generator=generator) for _ in range(4))
    weights = torch.tensor([[0.3, 0.7, 0.0], [0.5, 0.1, 0.4]])
    raw = Mapping(projection="none", states="raw")
    pairs = tuple(LayerPair("decoder", 0, 0, of=number) for number in range(3))
    maps = [PointMap(raw, student_width=4, teacher_width=4, pairs=(), statistics={}, seed=0) for _ in theirs]
    objective = Objective(Method(losses=(Hint(),), mapping=raw), point_map=PointMaps(maps), pairs=pairs)
    speakers = tuple(Signals(decoder={0: side}) for side in theirs)
    teaching = Teaching(speakers, weights, speakers, token_counts=(2, 3))
    student = Signals(decoder={0: mine}, token_counts=(2, 3))
    found = means(objective.terms(student=student, teacher=teaching, progress=0.5))["hint"]
    apart = [(mine - side).double().square() / 2 for side in theirs]
    expected = 0.4 * apart[0].mean() + 0.4 * apart[1].mean() + 0.2 * apart[2][2:].mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_single_teacher_keeps_its_raw_logits() -> None:
    states = torch.randn(3, 5)
    assert torch.equal(Teaching.alone(Signals(decoder={0: states}, head=lambda found: found)).logits, states)


@given(
    wers=st.lists(st.floats(0, 3), min_size=1, max_size=6),
    temperature=st.floats(0.01, 1000),
    combine=st.sampled_from(["mean", "weighted", "best", "single"]),
)
def test_weights_sum_to_one(wers: list[float], temperature: float, combine: str) -> None:
    settings = Ensemble.model_validate({"combine": combine, "temperature": temperature})
    weights = teacher_weights(settings, wers)
    assert len(weights) == len(wers)
    assert math.isclose(sum(weights), 1, rel_tol=1e-9)
    assert all(weight >= 0 for weight in weights)


def test_weights_are_those_of_the_formula() -> None:
    # exp(-10 / 5) : exp(-20 / 5), which is 1 : exp(-2).
    heavy, light = teacher_weights(Ensemble(combine="weighted", temperature=5), [0.10, 0.20])
    assert light / heavy == pytest.approx(math.exp(-2))
    assert teacher_weights(Ensemble(combine="weighted", temperature=1000), [0.10, 0.20]) == pytest.approx(
        [0.5, 0.5], abs=0.01
    )


def test_single_is_the_teacher_with_the_fewest_errors() -> None:
    assert teacher_weights(Ensemble(combine="single"), [0.3, 0.1, 0.2]) == one_of(3, 1) == (0, 1, 0)
