import dataclasses
import math

import pytest
import torch

from core.config import PrunedStudent, RunConfig, Training
from core.errors import GradientPathError, NotFiniteError
from core.families.whisper import Whisper, prune
from core.lora import adapter_parameters, add_adapters
from core.mapping import PointMap
from core.preflight import pairs_of, point_map_of
from core.losses import Objective
from core.teacher_outputs import prepare_utterances, teacher_statistics
from core.training import Lesson, batches, learning_rate, method_terms, train
from tests.engine import random_whisper, run_config, utterances

ALONE = {"name": "alone", "losses": [{"kind": "geodesic", "decoder": False}]}


class Notes:
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.pauses: list[int] = []

    def step(self, step: int, values: dict[str, float]) -> None:
        self.values.append(values)

    def pause(self, step: int) -> None:
        self.pauses.append(step)


@dataclasses.dataclass
class Setting:
    config: RunConfig
    teacher: Whisper
    frozen: Whisper
    student: Whisper
    point_map: PointMap
    lesson: Lesson


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory):
    return utterances(tmp_path_factory.mktemp("speech"))


def setting(clips, **changes) -> Setting:
    config = run_config(**changes)
    teacher = random_whisper()
    frozen = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3)))
    pairs = pairs_of(config, student=frozen, teacher=teacher)
    prepared = prepare_utterances(
        clips,
        teacher=teacher,
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
    point_map = point_map_of(config, student=frozen, teacher=teacher, statistics=teacher_statistics(prepared))
    return Setting(config, teacher, frozen, student, point_map, Lesson(prepared, pairs, teacher))


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
    chosen = setting(clips)
    beside_a_longer_one = sorted(chosen.lesson.prepared, key=lambda item: len(item.tokens))
    short, long = beside_a_longer_one[0], beside_a_longer_one[-1]
    assert len(short.tokens) < len(long.tokens)

    objective = Objective(chosen.config.method, point_map=chosen.point_map, pairs=chosen.lesson.pairs)

    def each(batch):
        return method_terms(
            chosen.config, batch, objective, student=chosen.student, teacher=chosen.lesson.teacher, progress=1.0
        )

    # With padding beside it, the mean over both is the point-weighted mean of each alone.
    together, alone, other = each([short, long]), each([short]), each([long])
    counts = len(short.tokens) + 1, len(long.tokens) + 1
    for kind in ("cross_entropy", "soft_labels"):
        expected = (counts[0] * alone[kind] + counts[1] * other[kind]) / sum(counts)
        torch.testing.assert_close(together[kind], expected, atol=1e-4, rtol=1e-4)


def test_alignment_that_reaches_no_deployed_weight_is_refused(clips) -> None:
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
    chosen = setting(clips, method=ALONE, lora={"rank": 2, "decoder_targets": ["fc1"]})
    with pytest.raises(GradientPathError, match=r"decoder\.layers\.0\.fc1"):
        learn(chosen)


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
    with pytest.raises(NotFiniteError, match="learning_rate"):
        learn(chosen)


def test_the_rate_rises_linearly_and_ends_at_its_floor() -> None:
    settings = Training(steps=100, warmup=0.1, learning_rate=1.0)
    assert learning_rate(5, settings) == pytest.approx(0.5)
    assert learning_rate(10, settings) == pytest.approx(1.0)
    assert learning_rate(55, settings) == pytest.approx(0.5, abs=0.01)
    assert learning_rate(100, settings) == pytest.approx(1e-6)


def test_every_utterance_comes_once_per_epoch() -> None:
    order = batches(5, 2, seed=3)
    seen = [index for _ in range(5) for index in next(order)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]
    assert len(next(batches(3, 8, seed=0))) == 3
