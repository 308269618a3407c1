import dataclasses
import itertools
import math
import re

import pytest
import torch

from core.config import PrunedStudent, RunConfig, Training
from core.errors import GradientPathError, NotFiniteError
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.lora import adapter_parameters, add_adapters
from core.losses.soft_labels import soft_labels_loss
from core.mapping import PointMap, PointMaps
from core.mixture import mixed_modules, recorded
from core.objective import Objective
from core.preflight import pairs_of, point_map_of
from core.sums import means
from core.teacher_outputs import Teachers, prepare_utterances, student_signals, teacher_signals, teacher_statistics
from core.training import Lesson, batches, learning_rate, method_terms, own_dropout, train, valid_routings
from tests.engine import random_whisper, run_config, utterances

ALONE = {"name": "alone", "losses": [{"kind": "geodesic", "decoder": False}]}


class Notes:
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.pauses: list[int] = []

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        self.values.append(values)

    def pause(self, step: int) -> None:
        self.pauses.append(step)


@dataclasses.dataclass
class Setting:
    config: RunConfig
    teacher: Whisper
    frozen: Whisper
    student: Whisper
    point_map: PointMap | PointMaps
    lesson: Lesson


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory):
    return utterances(tmp_path_factory.mktemp("speech"))


def setting(clips, **changes) -> Setting:
    config = run_config(**changes)
    teacher = random_whisper()
    frozen = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3)))
    pairs = pairs_of(config, student=frozen, teachers=[teacher])
    prepared = prepare_utterances(
        clips,
        teachers=[teacher],
        student=frozen,
        freeze_below=config.freeze_below,
        pairs=pairs,
        audio_context=config.training.audio_context,
        keep_teacher_encoder=False,
        batch_size=2,
        advance=lambda count: None,
    )
    student = frozen.with_model(
        add_adapters(frozen.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    )
    point_map = point_map_of(config, student=frozen, teachers=[teacher], statistics=teacher_statistics(prepared))
    return Setting(config, teacher, frozen, student, point_map, Lesson(prepared, pairs, Teachers((teacher,))))


def learn(chosen: Setting) -> Notes:
    notes = Notes()
    train(chosen.config, student=chosen.student, point_map=chosen.point_map, lesson=chosen.lesson, watcher=notes)
    return notes


def test_every_term_is_recorded_and_only_adapters_and_projection_change(clips) -> None:
    chosen = setting(clips)
    frozen = {name: value.clone() for name, value in chosen.frozen.model.state_dict().items()}
    before = {name: value.detach().clone() for name, value in adapter_parameters(chosen.student.model).items()}
    (projection,) = (value.detach().clone() for value in chosen.point_map.parameters())

    notes = learn(chosen)

    assert notes.pauses == [0, 1, 2, 3]
    assert {"loss/total", "loss/geodesic", "share/soft_labels", "gradient_norm/adapters", "learning_rate"} <= set(
        notes.values[0]
    )
    shares = [value for name, value in notes.values[0].items() if name.startswith("share/")]
    assert math.isclose(sum(shares), 1.0, rel_tol=1e-5)
    assert all(torch.equal(frozen[name], value) for name, value in chosen.frozen.model.state_dict().items())
    after = adapter_parameters(chosen.student.model)
    assert all(not torch.equal(before[name], value) for name, value in after.items())
    assert not torch.equal(projection, next(chosen.point_map.parameters()))


def test_the_same_seed_gives_the_same_run_and_another_seed_another(clips) -> None:
    first = [values["loss/total"] for values in learn(setting(clips)).values]
    again = [values["loss/total"] for values in learn(setting(clips)).values]
    other = [values["loss/total"] for values in learn(setting(clips, seed=1)).values]

    assert first == again
    assert first != other


def test_padding_beside_a_longer_utterance_does_not_change_the_losses(clips) -> None:
    # Trap: a divergence over padding, or divided by the length of the batch instead of its valid tokens.
    method = {
        "losses": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}, {"kind": "cosine", "decoder": False}],
    }
    chosen = setting(clips, method=method)
    beside_a_longer_one = sorted(chosen.lesson.prepared, key=lambda item: len(item.tokens))
    short, long = beside_a_longer_one[0], beside_a_longer_one[-1]
    assert len(short.tokens) < len(long.tokens)

    objective = Objective(chosen.config.method, point_map=chosen.point_map, pairs=chosen.lesson.pairs)

    def each(batch):
        terms = method_terms(
            chosen.config, batch, objective, student=chosen.student, teachers=chosen.lesson.teachers, progress=1.0
        )
        return means(terms)

    # With padding beside it, the mean over both is the point-weighted mean of each alone.
    together, alone, other = each([short, long]), each([short]), each([long])

    def mean(kind: str, counts: list[int]) -> torch.Tensor:
        return (counts[0] * alone[kind] + counts[1] * other[kind]) / sum(counts)

    tokens = [len(item.tokens) + 1 for item in (short, long)]
    for kind in ("cross_entropy", "soft_labels"):
        torch.testing.assert_close(together[kind], mean(kind, tokens), atol=1e-4, rtol=1e-4)
    frames = [len(item.teachers[0].states["encoder", 3]) for item in (short, long)]
    assert frames[0] != frames[1]
    torch.testing.assert_close(together["cosine"], mean("cosine", frames), atol=1e-4, rtol=1e-4)


def test_alignment_that_reaches_no_deployed_weight_is_refused(clips) -> None:
    # Trap: with a frozen encoder and a projection that is thrown away, an alignment of encoder states aligns nothing.
    chosen = setting(
        clips,
        freeze_below=2,
        lora={"rank": 2, "encoder_targets": [], "decoder_targets": ["q_proj"]},
        method={
            "name": "x",
            "losses": [{"kind": "cross_entropy"}, {"kind": "geodesic", "decoder": False}],
        },
    )
    with pytest.raises(GradientPathError, match="geodesic sends no gradient"):
        learn(chosen)


def test_adapters_that_the_method_never_trains_are_named(clips) -> None:
    # Trap: adapters that are there, and that nothing trains.
    chosen = setting(clips, method=ALONE, lora={"rank": 2, "decoder_targets": ["fc1"]})
    with pytest.raises(GradientPathError, match=r"decoder\.layers\.0\.fc1"):
        learn(chosen)


STEPS = {"steps": 6, "batch_size": 2, "audio_context": 8, "evaluations": 1, "learning_rate": 0.01, "clip": 0.001}
CE = {"kind": "cross_entropy"}
NULL = {"kind": "projection_only", "weight": 20}


def adapters_after(clips, *losses: dict, **changes) -> list[torch.Tensor]:
    chosen = setting(clips, method={"losses": list(losses)}, training=STEPS, **changes)
    learn(chosen)
    return [parameter.detach() for parameter in adapter_parameters(chosen.student.model).values()]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_null_equals_the_row_without_alignment_bit_for_bit(clips, dropout: float) -> None:
    # Trap: the alignment that aligns nothing. The labelled null trains a projection and changes nothing that is
    # deployed: not by its gradient, not by clipping, not by what it draws.
    lora = {"rank": 4, "alpha": 8, "dropout": dropout}
    without = adapters_after(clips, CE, lora=lora)
    torch.rand(3)  # what else draws from the global stream in between does not matter
    null = setting(clips, method={"losses": [CE, NULL]}, training=STEPS, lora=lora)
    (projection,) = (parameter.detach().clone() for parameter in null.point_map.parameters())
    notes = learn(null)
    with_null = [parameter.detach() for parameter in adapter_parameters(null.student.model).values()]
    assert not torch.equal(projection, next(iter(null.point_map.parameters())))
    assert all(values["gradient_norm/projections"] > 0 for values in notes.values)
    # Both parts are clipped in every step, so a common norm would have slowed the adapters down.
    assert all(values["gradient_norm/adapters"] > null.config.training.clip for values in notes.values)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(with_null, without, strict=True))


def test_the_norm_that_is_told_is_that_of_all_gradients_before_they_are_clipped(clips) -> None:
    one = setting(clips, training={"steps": 1, "batch_size": 2, "audio_context": 8, "evaluations": 1, "clip": 100.0})
    (values,) = learn(one).values
    gradients = [parameter.grad for parameter in adapter_parameters(one.student.model).values()]
    norm = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).norm()
    assert values["gradient_norm/adapters"] == pytest.approx(float(norm), rel=1e-5)


def test_an_alignment_that_is_no_null_changes_the_adapters(clips) -> None:
    without = adapters_after(clips, CE)
    aligned = adapters_after(clips, CE, {"kind": "geodesic", "weight": 20})
    assert not any(torch.equal(mine, theirs) for mine, theirs in zip(aligned, without, strict=True))


def test_dropout_draws_from_a_stream_of_its_own_and_puts_the_global_one_back() -> None:
    def drawn(seed: int) -> torch.Tensor:
        with own_dropout(seed, torch.device("cpu")):
            return torch.rand(4)

    before = torch.random.get_rng_state()
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_term_counts_in_its_stage_and_with_its_schedule(clips) -> None:
    losses = [
        {"kind": "cross_entropy", "weight": 2, "begins": 0.5, "warmup": 0.5},
        {"kind": "soft_labels", "weight": 1, "final": 0.5},
        {"kind": "geodesic", "weight": 3, "ends": 0.5},
    ]
    notes = learn(setting(clips, method={"losses": losses}, training={**STEPS, "steps": 4}))
    kinds = [{name[5:] for name in values if name.startswith("loss/")} - {"total"} for values in notes.values]
    assert kinds == [{"soft_labels", "geodesic"}] * 2 + [{"cross_entropy", "soft_labels"}] * 2
    weights = [
        # soft_labels falls on a line from 1 to a half, geodesic stays, cross_entropy rises from the middle on.
        {"soft_labels": 1 - 0.5 * 1 / 4, "geodesic": 3},
        {"soft_labels": 1 - 0.5 * 2 / 4, "geodesic": 3},
        {"soft_labels": 1 - 0.5 * 3 / 4, "cross_entropy": 2 * 0.5},
        {"soft_labels": 0.5, "cross_entropy": 2},
    ]
    for values, expected in zip(notes.values, weights, strict=True):
        parts = {kind: weight * values[f"loss/{kind}"] for kind, weight in expected.items()}
        assert values["loss/total"] == pytest.approx(sum(parts.values()), rel=1e-5)
        for kind, part in parts.items():
            assert values[f"share/{kind}"] == pytest.approx(part / sum(parts.values()), rel=1e-5)


def test_a_term_that_begins_later_is_checked_when_it_begins(clips) -> None:
    chosen = setting(
        clips,
        freeze_below=2,
        lora={"rank": 2, "encoder_targets": [], "decoder_targets": ["q_proj"]},
        method={"losses": [CE, {"kind": "geodesic", "decoder": False, "begins": 0.5}]},
        training={**STEPS, "steps": 4},
    )
    notes = Notes()
    with pytest.raises(GradientPathError, match="geodesic sends no gradient"):
        train(chosen.config, student=chosen.student, point_map=chosen.point_map, lesson=chosen.lesson, watcher=notes)
    assert len(notes.values) == 2


def test_adapters_may_wait_for_a_term_that_begins_later(clips) -> None:
    losses = [{"kind": "geodesic", "decoder": False}, {"kind": "cross_entropy", "begins": 0.5}]
    lora = {"rank": 2, "decoder_targets": ["fc1"]}
    chosen = setting(clips, method={"losses": losses}, lora=lora, training={**STEPS, "steps": 4})
    before = {name: value.detach().clone() for name, value in adapter_parameters(chosen.student.model).items()}
    assert len(learn(chosen).values) == 4
    after = adapter_parameters(chosen.student.model)
    assert all(not torch.equal(before[name], value) for name, value in after.items())


def test_adapters_that_only_an_earlier_term_moves_are_not_idle(clips) -> None:
    losses = [{**CE, "ends": 0.5}, {"kind": "geodesic", "decoder": False, "begins": 0.5}]
    lora = {"rank": 2, "decoder_targets": ["fc1"]}
    assert len(learn(setting(clips, method={"losses": losses}, lora=lora, training={**STEPS, "steps": 4})).values) == 4


def test_adapters_are_required_once_all_terms_have_counted(clips) -> None:
    losses = [{"kind": "geodesic", "decoder": False}, {"kind": "cosine", "decoder": False, "begins": 0.5}]
    lora = {"rank": 2, "decoder_targets": ["fc1"]}
    chosen = setting(clips, method={"losses": losses}, lora=lora, training={**STEPS, "steps": 4})
    notes = Notes()
    with pytest.raises(GradientPathError, match=r"3 adapters get no gradient.*decoder\.layers\.0\.fc1"):
        train(chosen.config, student=chosen.student, point_map=chosen.point_map, lesson=chosen.lesson, watcher=notes)
    assert len(notes.values) == 2


def test_suppressed_tokens_leave_no_infinite_logit_in_what_losses_read(clips) -> None:
    # Trap: tokens that decoding suppresses are minus infinity, which makes a divergence NaN.
    chosen = setting(clips)
    batch, teacher = chosen.lesson.prepared[:2], chosen.teacher
    assert teacher.suppress
    logits = teacher_signals(batch, teacher).logits
    assert logits.dtype == torch.float32
    assert bool(torch.isfinite(logits[:, teacher.suppress]).all())
    mine = student_signals(batch, chosen.student, freeze_below=2, with_decoder=True).logits
    assert bool(torch.isfinite(mine).all())
    assert bool(torch.isfinite(soft_labels_loss(mine, logits, temperature=2.0).mean()))


def test_alignment_alone_needs_no_decoder_pass(clips) -> None:
    chosen = setting(clips, method=ALONE)
    del chosen.student.decoder.layers  # whoever runs the decoder fails
    notes = learn(chosen)
    assert set(notes.values[0]) >= {"loss/geodesic"}
    assert "loss/cross_entropy" not in notes.values[0]


def test_a_loss_that_is_not_finite_ends_the_run_with_what_to_do(clips) -> None:
    chosen = setting(clips)
    with torch.no_grad():
        next(iter(adapter_parameters(chosen.student.model).values())).fill_(float("nan"))
    # A rate that no step was taken with is not the cause, and whether anything is kept is not for the loop to say.
    with pytest.raises(NotFiniteError, match="No step was taken before, so no learning rate can help") as caught:
        learn(chosen)
    assert not re.search("[Ll]ower|kept", str(caught.value))


def test_a_loss_that_leaves_the_numbers_on_the_way_says_that_a_lower_rate_may_help(clips) -> None:
    chosen = setting(clips)

    class Poison(Notes):
        def pause(self, step: int) -> None:
            super().pause(step)
            if step == 1:
                with torch.no_grad():
                    next(iter(adapter_parameters(chosen.student.model).values())).fill_(float("inf"))

    with pytest.raises(
        NotFiniteError, match=r"at step 2 .* left the adapters without finite values. Lower training.lea"
    ):
        train(
            chosen.config,
            student=chosen.student,
            point_map=chosen.point_map,
            lesson=chosen.lesson,
            watcher=Poison(),
        )


def test_the_rate_rises_linearly_and_ends_at_its_floor() -> None:
    settings = Training(steps=100, warmup=0.1, learning_rate=1.0)
    assert learning_rate(5, settings) == pytest.approx(0.5)
    assert learning_rate(10, settings) == pytest.approx(1.0)
    assert learning_rate(55, settings) == pytest.approx(0.5, abs=0.01)
    assert learning_rate(100, settings) == pytest.approx(1e-6)


def test_every_utterance_comes_once_per_epoch() -> None:
    order = batches([8.0] * 5, 2, seed=3)
    seen = [index for _ in range(5) for index in next(order)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]
    assert len(next(batches([8.0] * 3, 8, seed=0))) == 3


def test_a_batch_has_one_context_and_every_utterance_still_comes_once_per_epoch() -> None:
    contexts = [4.0, 8.0, 4.0, 8.0, 8.0, 4.0, 8.0, 4.0]
    drawn = list(itertools.islice(batches(contexts, 2, seed=3), 8))
    assert all(len({contexts[index] for index in batch}) == 1 for batch in drawn)
    for epoch in (drawn[:4], drawn[4:]):
        assert sorted(index for batch in epoch for index in batch) == list(range(8))
    # Another seed draws others, but of the same context: their steps have one shape.
    others = list(itertools.islice(batches(contexts, 2, seed=4), 8))
    assert others != drawn
    assert [contexts[first] for first, _ in others] == [contexts[first] for first, _ in drawn]


def test_a_context_with_fewer_utterances_than_a_batch_has_its_turn_as_rarely() -> None:
    contexts = [4.0] + [8.0] * 7
    drawn = list(itertools.islice(batches(contexts, 2, seed=0), 8))
    assert sum(batch == [0, 0] for batch in drawn) == 1


def test_clips_are_padded_to_the_shortest_length_that_holds_them() -> None:
    settings = Training(audio_context=10, length_buckets=3)
    assert [settings.context_of(seconds) for seconds in (2, 3.4, 3.41, 6.7, 6.8, 10)] == [3.4, 3.4, 6.7, 6.7, 10, 10]
    assert Training(audio_context=10).context_of(2) == 10


def mixture(**settings: float) -> dict[str, object]:
    return {"rank": 14, "alpha": 28, "mixture": {"experts": 3, "balance": 0.5, **settings}}


def experts_that_changed(clips, **changes) -> tuple[Notes, dict[str, list[bool]]]:
    chosen = setting(clips, **changes)
    before = {name: value.detach().clone() for name, value in adapter_parameters(chosen.student.model).items()}
    notes = learn(chosen)
    after = adapter_parameters(chosen.student.model)
    moved = {
        name: [not torch.equal(*both) for both in zip(before[name], value, strict=True)]
        for name, value in after.items()
    }
    return notes, moved


def test_training_changes_every_expert_and_every_router_of_a_mixture(clips) -> None:
    notes, moved = experts_that_changed(clips, lora=mixture())
    assert {name.rpartition("fc1.")[2] for name in moved if "fc1" in name} == {"lora_A", "lora_B", "router.weight"}
    assert all(all(experts) for experts in moved.values())
    for values in notes.values:
        assert 1 <= values["loss/balance"] <= 3
        assert values["share/balance"] == pytest.approx(0.5 * values["loss/balance"] / values["loss/total"], rel=1e-4)
        shares = [value for name, value in values.items() if name.startswith("share/")]
        assert sum(shares) == pytest.approx(1, rel=1e-5)


def test_an_expert_that_no_point_goes_to_stays_as_it_is_and_the_run_goes_on(clips) -> None:
    # In its first step a router has no gradient, because every B is zero: two steps go where it points at first.
    chosen = setting(clips, lora=mixture(top_k=1, balance=0), training={**STEPS, "steps": 2})
    modules = mixed_modules(chosen.student.model)
    with torch.no_grad():
        for module in modules.values():
            module.router.weight.zero_()  # equal logits: every point goes the same way
    with recorded(chosen.student.model) as routings:
        student_signals(chosen.lesson.prepared, chosen.student, freeze_below=2, with_decoder=False)
    busy = {path: routing.dispatch.flatten(0, 1).any(dim=0) for path, routing in routings.items()}
    assert {int(experts.sum()) for experts in busy.values()} == {1}
    assert len(learn(chosen).values) == 2
    for path, module in modules.items():
        assert torch.equal(module.lora_B.detach().flatten(1).any(dim=1), busy[path])


def test_a_balance_without_weight_is_not_a_term(clips) -> None:
    notes, moved = experts_that_changed(clips, lora=mixture(balance=0))
    assert not [name for name in notes.values[0] if "balance" in name]
    assert all(all(experts) for experts in moved.values())


def test_padding_and_prompts_do_not_change_the_balance_of_a_mixture(clips) -> None:
    lora = {**mixture(), "encoder_targets": [], "decoder_targets": ["fc1"]}
    chosen = setting(clips, lora=lora, freeze_below=3, method={"losses": [CE]})
    objective = Objective(chosen.config.method, point_map=chosen.point_map, pairs=chosen.lesson.pairs, balance=1.0)
    by_length = sorted(chosen.lesson.prepared, key=lambda item: len(item.tokens))
    short, long = by_length[0], by_length[-1]

    def shares(batch) -> dict[str, torch.Tensor]:
        with recorded(chosen.student.model) as routings:
            student_signals(batch, chosen.student, freeze_below=3, with_decoder=True)
        valid = valid_routings(routings, batch, student=chosen.student)
        return {path: routing.dispatch for path, routing in valid.items()}

    together, alone = shares([short, long]), shares([short])
    assert all(len(rows) == len(short.tokens) + 1 for rows in alone.values())
    for path, rows in together.items():
        torch.testing.assert_close(rows[: len(alone[path])], alone[path], atol=1e-5, rtol=1e-5)
    terms = method_terms(
        chosen.config, [short, long], objective, student=chosen.student, teachers=chosen.lesson.teachers, progress=1.0
    )
    by_hand = [3 * float((rows.detach().mean(dim=0) ** 2).sum()) for rows in together.values()]
    assert float(means(terms)["balance"].detach()) == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)
