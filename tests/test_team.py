"""A run that several processes train together, against the same run alone."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import LOSSES, LossSettings, Mapping, Method
from core.ensemble import Teaching
from core.errors import GradientPathError
from core.gradient_paths import GradientPaths
from core.mapping import LayerPair, PointMap, PointMaps, StateStatistics
from core.mixture import Routing, mean_balance_loss
from core.objective import Objective
from core.signals import Signals
from core.sources import Utterance
from core.sums import Sum, means, own_counts
from core.team import ALONE, Team, WholeBatch
from core.training import own_dropout
from tests.engine import utterances
from tests.small_teams import apart, in_processes, learnt, together
from tests.test_spread import no_program
from tests.test_training import Setting, setting

__all__ = ["no_program"]  # used by every test here

WIDTH, VOCABULARY = 8, 11
FRAMES, TOKENS = (7, 5, 9, 4, 6), (3, 4, 2, 6, 5)
POINTS = {"encoder": FRAMES, "decoder": TOKENS}
PAIRS = (LayerPair("encoder", 1, 2), LayerPair("encoder", 2, 3), LayerPair("decoder", 1, 1))
OF_BOTH = (*PAIRS, LayerPair("encoder", 2, 1, of=1), LayerPair("decoder", 1, 1, of=1))
LOUDER = 1000.0
TRAINING = {
    "precision": "float32",
    "steps": 8,
    "batch_size": 5,
    "audio_context": 8,
    "evaluations": 1,
    "learning_rate": 3e-3,
}

teams = pytest.mark.parametrize("size", [2, 3])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Utterance, ...]:
    """Clips of unequal lengths, two contexts of them, and not a whole number of batches."""
    found = utterances(tmp_path_factory.mktemp("speech"), train=9)
    assert len({round(clip.duration, 1) for clip in found}) > 4
    return found


def in_threads(size: int, clips: tuple[Utterance, ...], **changes: Any) -> list[dict[str, Any]]:
    """Return what is `learnt` by each of a team, here threads."""
    settings = [setting(clips, **changes) for _ in range(size)]
    return together(size, lambda team: learnt(settings[team.number], team))


def require_same(found: list[dict[str, Any]], alone: dict[str, Any], *, within: float = 1e-5) -> None:
    for one in found:
        assert one["ended"] == alone["ended"] == ""
        # Products of other shapes are rounded otherwise, and on each processor in its own way.
        assert apart(one, alone, "weights") < 3e-6
        assert apart(one, alone) < within
        for mine, its in zip(one["metrics"], alone["metrics"], strict=True):
            assert mine == pytest.approx(its, rel=1e-3, abs=1e-6)
    # Not a bit may differ between them, or they would drift.
    assert all(apart(one, found[0]) == 0 for one in found)


@teams
def test_a_team_learns_what_one_learns_alone(clips, size: int) -> None:
    alone = learnt(setting(clips, training=TRAINING))
    assert {"loss/cross_entropy", "loss/soft_labels", "loss/geodesic"} <= set(alone["metrics"][0])
    require_same(in_threads(size, clips, training=TRAINING), alone)


@pytest.mark.long
@teams
def test_processes_learn_in_fifty_steps_what_one_learns_alone(clips, tmp_path: Path, size: int) -> None:
    training = {**TRAINING, "steps": 50, "learning_rate": 1e-3}
    alone = learnt(setting(clips, training=training))
    # The utterances of a batch in another order, which is rounding alone, take what one learns 4e-6 from itself.
    require_same(in_processes(size, clips, tmp_path, training=training), alone, within=2e-5)


def test_two_processes_learn_what_one_learns_alone(clips, tmp_path: Path) -> None:
    training = {**TRAINING, "steps": 3}
    require_same(in_processes(2, clips, tmp_path, training=training), learnt(setting(clips, training=training)))


def test_the_pace_of_taid_is_that_of_the_whole_batch(clips) -> None:
    def surer() -> Setting:
        """Random models say next to nothing: their head is made to say it louder."""
        method = {"losses": [{"kind": "cross_entropy"}, {"kind": "taid", "pace": 1.0, "momentum": 0.0}]}
        chosen = setting(clips, training=TRAINING, method=method)
        for model in (chosen.teacher, chosen.student):
            model.head = lambda states, head=model.head: LOUDER * head(states)
        return chosen

    settings = [surer(), surer()]
    found = together(2, lambda team: learnt(settings[team.number], team))
    alone = learnt(surer())
    assert alone["metrics"][0]["loss/taid"] > 1e-3
    require_same(found, alone)


def test_a_mixture_of_experts_is_balanced_over_the_whole_batch(clips) -> None:
    changes = {
        "training": {**TRAINING, "steps": 4},
        "lora": {"rank": 10, "alpha": 20, "mixture": {"experts": 3, "balance": 5.0}},
    }
    require_same(in_threads(2, clips, **changes), learnt(setting(clips, **changes)))


@pytest.mark.parametrize("where", ["first", "last"])
def test_what_is_not_finite_in_one_part_ends_all_at_the_same_step(clips, where: str) -> None:
    settings = [setting(clips, training=TRAINING) for _ in range(2)]
    for chosen in settings:
        number = 0 if where == "first" else -1
        prepared = list(chosen.lesson.prepared)
        broken = dataclasses.replace(prepared[number], start=prepared[number].start * float("nan"))
        prepared[number] = broken
        chosen.lesson = dataclasses.replace(chosen.lesson, prepared=prepared)
    found = together(2, lambda team: learnt(settings[team.number], team))
    assert "The loss became nan at step" in found[0]["ended"]
    assert found[0]["ended"] == found[1]["ended"]


def test_an_adapter_that_learns_nothing_is_found_by_all(clips) -> None:
    idle = {"rank": 2, "decoder_targets": ["fc1"]}
    method = {"losses": [{"kind": "geodesic", "decoder": False}]}
    found = in_threads(2, clips, training=TRAINING, lora=idle, method=method)
    assert "Remove their targets" in found[0]["ended"]
    assert found[0]["ended"] == found[1]["ended"]


def test_a_term_need_move_the_student_in_one_part_only(clips) -> None:
    chosen = setting(clips)
    objective = Objective(chosen.config.method, point_map=chosen.point_map, pairs=chosen.lesson.pairs)

    def check(team: Team, factor: float) -> None:
        paths = GradientPaths(objective, chosen.student.model, team)
        paths.require_from({"geodesic": factor * paths.adapters[0].sum()})

    together(2, lambda team: check(team, float(team.number)))
    with pytest.raises(GradientPathError, match="geodesic sends no gradient"):
        together(2, lambda team: check(team, 0.0))


def test_dropout_draws_something_else_in_every_part() -> None:
    def drawn(part: int) -> list[float]:
        with own_dropout(7, torch.device("cpu"), part=part):
            return torch.rand(3).tolist()

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1) != drawn(2)


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_parts_are_even_and_in_order_and_none_is_empty(count: int) -> None:
    parts = Team(0, 3).parts(range(count))
    assert [item for part in parts for item in part] == list(range(count))
    assert {len(part) for part in parts} <= {count // 3, count // 3 + 1}
    assert ALONE.part(range(count)) == range(count)


def test_a_batch_without_an_utterance_for_each_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 2 has no 3 parts"):
        Team(0, 3).parts(range(2))


def test_gradients_are_added_up_and_none_stays_none_where_nobody_has_one() -> None:
    def work(team: Team) -> list[Tensor | None]:
        everywhere, here, nowhere = (nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
        everywhere.grad = torch.full((2, 2), 1.0 + team.number)
        if team.number == 1:
            here.grad = torch.full((2, 2), 5.0)
        team.add_gradients([everywhere, here, nowhere])
        return [everywhere.grad, here.grad, nowhere.grad]

    for first, second, third in together(3, work):
        assert first is not None
        assert first.tolist() == [[6.0, 6.0]] * 2
        assert second is not None
        assert second.tolist() == [[5.0, 5.0]] * 2
        assert third is None


def test_a_broken_connection_is_told_late_enough_for_its_cause_to_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.team.PATIENCE_SECONDS", 0.3)

    def broken(values: Tensor) -> None:
        raise RuntimeError("Connection closed by peer")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="closed by peer"):
        Team(0, 2, broken).summed(torch.ones(1))
    assert time.monotonic() - began >= 0.3


def side(seed: int) -> Signals:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(99))
    # Lengths differ, so that a mean over points is none of means over utterances.
    return Signals(
        encoder={layer: torch.randn(sum(FRAMES), WIDTH, generator=generator) * (layer + 1) for layer in (1, 2, 3)},
        decoder={1: torch.randn(sum(TOKENS), WIDTH, generator=generator)},
        targets=torch.randint(VOCABULARY, (sum(TOKENS),), generator=generator),
        head=lambda states: states @ head.T,
        frame_counts=FRAMES,
        token_counts=TOKENS,
    )


def part_of(whole: Signals, team: Team) -> Signals:
    """Return a process' part of some signals, with leaves of its own."""

    def rows(name: str) -> slice:
        counts = [sum(part) for part in team.parts(POINTS[name])]
        return slice(sum(counts[: team.number]), sum(counts[: team.number + 1]))

    assert whole.targets is not None
    return dataclasses.replace(
        whole,
        encoder={layer: states[rows("encoder")].clone().requires_grad_() for layer, states in whole.encoder.items()},
        decoder={layer: states[rows("decoder")].clone().requires_grad_() for layer, states in whole.decoder.items()},
        targets=whole.targets[rows("decoder")],
        frame_counts=list(team.part(FRAMES)),
        token_counts=list(team.part(TOKENS)),
    )


def point_map(pairs: tuple[LayerPair, ...]) -> PointMap | PointMaps:
    known = StateStatistics(torch.full((WIDTH,), 0.1), torch.eye(WIDTH))
    maps = [
        PointMap(
            Mapping(),
            student_width=WIDTH,
            teacher_width=WIDTH,
            pairs=own,
            statistics={(pair.side, pair.teacher): known for pair in own},
            seed=0,
        )
        for number in range(1 + max(pair.of for pair in pairs))
        if (own := tuple(pair for pair in pairs if pair.of == number))
    ]
    return maps[0] if len(maps) == 1 else PointMaps(maps)


def added(loss: LossSettings, weights: Tensor, team: Team) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what a process adds to a loss, and the gradients of its part of the states and of the projections."""
    pairs = OF_BOTH if weights.shape[1] > 1 else PAIRS
    student = part_of(side(0), team)
    teachers = tuple(part_of(side(number + 1), team) for number in range(weights.shape[1]))
    own = torch.stack(list(team.part(list(weights))))
    counts = tuple(team.part(TOKENS))
    teaching = Teaching(teachers, own, teachers, counts)
    mapping = point_map(pairs)
    objective = Objective(Method.model_validate({"losses": [loss.model_dump()]}), point_map=mapping, pairs=pairs)
    terms = objective.terms(student=student, teacher=teaching, progress=0.5, batch=WholeBatch(team, POINTS, weights))
    (value,) = means(terms, team.counts(own_counts(terms), torch.device("cpu"))).values()
    value.backward()
    gradients = {
        **{f"encoder {layer}": states.grad for layer, states in student.encoder.items()},
        **{f"decoder {layer}": states.grad for layer, states in student.decoder.items()},
        **dict((name, one.grad) for name, one in mapping.named_parameters()),
    }
    return value.detach(), {name: gradient for name, gradient in gradients.items() if gradient is not None}


@teams
@pytest.mark.parametrize("teachers", ["one", "weighted", "best"])
@pytest.mark.parametrize("loss", [kind() for kind in LOSSES], ids=lambda loss: loss.kind)
def test_what_the_parts_of_a_batch_add_up_to_is_the_loss_of_the_batch(
    loss: LossSettings, teachers: str, size: int
) -> None:
    weights = {
        "one": torch.ones(5, 1),
        "weighted": torch.tensor([[0.3, 0.7]] * 5),
        # Two processes: the first hears one teacher alone. Three: so do the first and the last.
        "best": torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
    }[teachers]
    whole, expected = added(loss, weights, ALONE)
    parts = together(size, lambda team: added(loss, weights, team))
    assert float(sum(value for value, _ in parts)) == pytest.approx(float(whole), rel=1e-5, abs=1e-6)
    for name, gradient in expected.items():
        own = [gradients[name] for _, gradients in parts if name in gradients]
        together_ = torch.cat(own) if name.startswith(("encoder", "decoder")) else torch.stack(own).sum(dim=0)
        torch.testing.assert_close(together_, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-9)


def test_the_balance_of_experts_adds_up_to_that_of_the_batch() -> None:
    probabilities = {
        path: torch.randn(sum(POINTS[name]), 3, generator=torch.Generator().manual_seed(len(path))).softmax(dim=-1)
        for path, name in (("model.encoder.layers.0.fc1", "encoder"), ("model.decoder.layers.0.fc1", "decoder"))
    }

    def work(team: Team) -> tuple[Tensor, dict[str, Tensor]]:
        leaves = {}
        for path, name in zip(probabilities, POINTS, strict=True):
            counts = [sum(part) for part in team.parts(POINTS[name])]
            leaves[path] = probabilities[path].split(counts)[team.number].clone().requires_grad_()
        routings = {path: Routing(leaf, leaf, leaf) for path, leaf in leaves.items()}
        batch = WholeBatch(team, POINTS, torch.ones(5, 1))
        value = batch.once(Sum.single(mean_balance_loss(routings, batch.mean))).total
        value.backward()
        return value.detach(), {path: leaf.grad for path, leaf in leaves.items() if leaf.grad is not None}

    whole, expected = work(ALONE)
    parts = together(3, work)
    assert float(sum(value for value, _ in parts)) == pytest.approx(float(whole), rel=1e-6)
    for path, gradient in expected.items():
        torch.testing.assert_close(torch.cat([each[path] for _, each in parts]), gradient)
