"""A student in a group against the same student alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from core.companies import companies
from core.config import PrunedStudent, RunConfig
from core.errors import GradientPathError, ManifoldError, NotFiniteError, Stopped
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.listening import by_context
from core.lora import adapter_parameters, add_adapters
from core.preflight import pairs_of, point_map_of
from core.side_by_side import Member, train_side_by_side
from core.sources import Utterance
from core.teacher_outputs import Prepared, Teachers, prepare_utterances, teacher_statistics
from core.training import Lesson, train
from tests.engine import random_whisper, run_config, tiny_en, utterances

DECODER = {"rank": 4, "alpha": 8, "encoder_targets": [], "decoder_targets": ["q_proj", "v_proj"]}
ENCODER = {"rank": 4, "alpha": 8, "encoder_targets": ["q_proj", "v_proj", "fc1"], "decoder_targets": []}
BOTH = {"rank": 4, "alpha": 8, "encoder_targets": ["q_proj"], "decoder_targets": ["encoder_attn.k_proj", "fc2"]}
CE, KD = {"kind": "cross_entropy"}, {"kind": "soft_labels"}
GEODESIC = {"kind": "geodesic", "weight": 4}
METHODS = [
    {"losses": [CE, KD, GEODESIC]},
    {"losses": [CE]},
    {"losses": [CE, {"kind": "soft_labels", "temperature": 4}]},
    {"losses": [CE, {"kind": "fisher_rao"}, {"kind": "cosine", "begins": 0.5}]},
]


class Notes:
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self.pauses: list[int] = []

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        self.values.append(values)
        self.seconds.append(seconds)

    def pause(self, step: int) -> None:
        self.pauses.append(step)


@dataclasses.dataclass
class Classroom:
    """Models and utterances that several runs share."""

    teacher: Whisper
    frozen: Whisper
    prepared: list[Prepared]

    def member(self, config: RunConfig, prepared: list[Prepared] | None = None) -> Member:
        adapted = add_adapters(self.frozen.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
        statistics = teacher_statistics(self.prepared)
        point_map = point_map_of(config, student=self.frozen, teachers=[self.teacher], statistics=statistics)
        pairs = pairs_of(config, student=self.frozen, teachers=[self.teacher])
        lesson = Lesson(self.prepared if prepared is None else prepared, pairs, Teachers((self.teacher,)))
        return Member(config, self.frozen.with_model(adapted), point_map, lesson, Notes())


def classroom(
    clips: tuple[Utterance, ...],
    teacher: Whisper,
    config: RunConfig,
    student: PrunedStudent = PrunedStudent(encoder_layers=(0, 1, 3)),  # noqa: B008 - it cannot be changed
) -> Classroom:
    frozen = prune(teacher, student)

    def listen(items: Sequence[Utterance], audio_context: float) -> list[Prepared]:
        return prepare_utterances(
            items,
            teachers=[teacher],
            student=frozen,
            freeze_below=config.freeze_below,
            pairs=pairs_of(config, student=frozen, teachers=[teacher]),
            audio_context=audio_context,
            keep_teacher_encoder=False,
            batch_size=2,
            advance=lambda count: None,
        )

    return Classroom(teacher, frozen, by_context(clips, config.training, listen))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Utterance, ...]:
    return utterances(tmp_path_factory.mktemp("speech"), train=6)


def configs(
    lora: dict[str, Any],
    *,
    seeds: tuple[int, ...] = (0, 0, 0, 0),
    steps: int = 6,
    length_buckets: int = 1,
    **changes: Any,
) -> list[RunConfig]:
    training = {
        "steps": steps,
        "batch_size": 2,
        "audio_context": 8,
        "length_buckets": length_buckets,
        "evaluations": 1,
        "precision": "float32",
    }
    rates = (1e-3, 3e-3, 1e-3, 5e-4)
    return [
        run_config(
            name=f"{number}",
            method=method,
            lora=lora,
            seed=seed,
            training={**training, "learning_rate": rate},
            **changes,
        )
        for number, (method, rate, seed) in enumerate(zip(METHODS, rates, seeds, strict=True))
    ]


def weights(member: Member) -> list[Tensor]:
    trained = [*adapter_parameters(member.student.model).values()]
    if member.config.method.aligns:
        trained += member.point_map.parameters()
    return [parameter.detach() for parameter in trained]


def alone(member: Member) -> None:
    train(
        member.config, student=member.student, point_map=member.point_map, lesson=member.lesson, watcher=member.watcher
    )


def apart(mine: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the distance of two lists of weights, relative to the second."""
    difference = torch.stack([(one - other).norm() for one, other in zip(mine, theirs, strict=True)]).norm()
    return float(difference / torch.stack([other.norm() for other in theirs]).norm())


def refuse(number: int, error: ManifoldError) -> None:
    raise AssertionError(f"member {number} failed") from error


@pytest.mark.parametrize("lora", [DECODER, ENCODER, BOTH], ids=["decoder", "encoder", "both"])
@pytest.mark.parametrize("seeds", [(0, 0, 0, 0), (0, 1, 2, 3)], ids=["same data", "data of their own"])
@pytest.mark.parametrize("buckets", [1, pytest.param(16, marks=pytest.mark.long)])
def test_a_student_in_a_group_becomes_what_it_becomes_alone(
    clips, lora: dict[str, Any], seeds: tuple[int, ...], buckets: int
) -> None:
    chosen = configs(lora, seeds=seeds, length_buckets=buckets)
    room = classroom(clips, random_whisper(), chosen[0])
    assert (len({item.audio_context for item in room.prepared}) > 1) == (buckets > 1)
    singles, group = [room.member(config) for config in chosen], [room.member(config) for config in chosen]
    start = weights(group[0])
    begun = [value.clone() for value in start]
    for single in singles:
        alone(single)
    train_side_by_side(group, frozen=room.frozen, failed=refuse)
    for member, single in zip(group, singles, strict=True):
        assert apart(weights(member), weights(single)) < 1e-5
        assert isinstance(member.watcher, Notes)
        assert isinstance(single.watcher, Notes)
        assert member.watcher.pauses == single.watcher.pauses
        for mine, theirs in zip(member.watcher.values, single.watcher.values, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    # They did learn, and differently.
    assert apart(weights(group[0]), begun) > 1e-3
    assert apart(weights(group[1]), weights(group[2])) > 1e-3


def poisoned(member: Member) -> Member:
    """Return a member whose adapters are not numbers any more."""
    with torch.no_grad():
        next(iter(adapter_parameters(member.student.model).values())).fill_(float("nan"))
    return member


def test_a_student_that_diverges_leaves_and_the_others_do_not_notice(clips) -> None:
    chosen = configs(BOTH)[:3]
    room = classroom(clips, random_whisper(), chosen[0])
    group = [room.member(config) for config in chosen]
    poisoned(group[1])
    failures: dict[int, ManifoldError] = {}
    train_side_by_side(group, frozen=room.frozen, failed=failures.__setitem__)
    assert set(failures) == {1}
    assert isinstance(failures[1], NotFiniteError)
    assert [len(member.watcher.values) for member in group] == [6, 0, 6]  # pyright: ignore[reportAttributeAccessIssue]
    for number in (0, 2):
        single = room.member(chosen[number])
        alone(single)
        assert apart(weights(group[number]), weights(single)) < 1e-5


def test_a_student_that_diverges_on_the_way_leaves_then(clips) -> None:
    chosen = configs(DECODER)[:2]
    room = classroom(clips, random_whisper(), chosen[0])
    group = [room.member(config) for config in chosen]

    class Poison(Notes):
        def pause(self, step: int) -> None:
            super().pause(step)
            if step == 2:
                poisoned(group[0])

    group[0] = dataclasses.replace(group[0], watcher=Poison())
    failures: dict[int, ManifoldError] = {}
    train_side_by_side(group, frozen=room.frozen, failed=failures.__setitem__)
    assert "at step 3" in str(failures[0])
    single = room.member(chosen[1])
    alone(single)
    assert apart(weights(group[1]), weights(single)) < 1e-5


def test_only_the_student_whose_alignment_reaches_nothing_is_refused(clips) -> None:
    idle = {"losses": [CE, {"kind": "geodesic", "decoder": False}]}
    chosen = configs(DECODER)[:2]
    chosen[0] = chosen[0].model_copy(update={"method": run_config(method=idle).method})
    room = classroom(clips, random_whisper(), chosen[0])
    failures: dict[int, ManifoldError] = {}
    group = [room.member(config) for config in chosen]
    train_side_by_side(group, frozen=room.frozen, failed=failures.__setitem__)
    assert set(failures) == {0}
    assert isinstance(failures[0], GradientPathError)
    assert isinstance(group[1].watcher, Notes)
    assert len(group[1].watcher.values) == 6


def test_a_request_to_stop_ends_the_whole_group(clips) -> None:
    chosen = configs(DECODER)[:2]
    room = classroom(clips, random_whisper(), chosen[0])

    class Stop(Notes):
        def pause(self, step: int) -> None:
            super().pause(step)
            if step == 2:
                raise Stopped("stopped")

    first, second = (room.member(config) for config in chosen)
    with pytest.raises(Stopped):
        train_side_by_side([dataclasses.replace(first, watcher=Stop()), second], frozen=room.frozen, failed=refuse)
    assert isinstance(second.watcher, Notes)
    assert second.watcher.pauses[-1] <= 2


def test_what_the_students_share_is_computed_once(clips) -> None:
    chosen = configs(DECODER)
    room = classroom(clips, random_whisper(), chosen[0])
    group = [room.member(config) for config in chosen]
    rows: dict[str, set[int]] = {"encoder": set(), "keys": set(), "decoder": set()}

    def watch(part: str):
        return lambda module, given, output: rows[part].add(len(given[0]))

    # Hooks and forward functions travel with the copies that a group makes of the modules.
    room.frozen.encoder.get_submodule("layers.2.self_attn.q_proj").register_forward_hook(watch("encoder"))
    room.frozen.decoder.get_submodule("layers.1.encoder_attn.k_proj").register_forward_hook(watch("keys"))
    room.frozen.decoder.get_submodule("layers.1.fc1").register_forward_hook(watch("decoder"))
    train_side_by_side(group, frozen=room.frozen, failed=refuse)
    assert rows == {"encoder": {2}, "keys": {2}, "decoder": {8}}


def test_students_hold_no_frozen_weights_of_their_own(clips) -> None:
    chosen = configs(BOTH)
    room = classroom(clips, random_whisper(), chosen[0])
    member = room.member(chosen[0])
    own = {parameter.data_ptr() for parameter in adapter_parameters(member.student.model).values()}
    shared = {parameter.data_ptr() for parameter in room.frozen.model.parameters()}
    assert {parameter.data_ptr() for parameter in member.student.model.parameters()} == own | shared


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": {**DECODER, "rank": 2}},
        {"lora": {**DECODER, "dropout": 0.1}},
        {"training": {"steps": 7, "batch_size": 2, "audio_context": 8, "evaluations": 1}},
    ],
)
def test_runs_whose_steps_differ_are_refused(clips, changes: dict[str, Any]) -> None:
    first = configs(DECODER)[0]
    other = run_config(**{"lora": DECODER, "training": first.training.model_dump(), **changes})
    room = classroom(clips, random_whisper(), first)
    with pytest.raises(ValueError, match="one by one"):
        train_side_by_side([room.member(first), room.member(other)], frozen=room.frozen, failed=refuse)


def test_runs_that_share_the_shape_of_a_step_and_a_frozen_encoder_go_together() -> None:
    decoder, encoder = ({"lora": lora, "method": METHODS[0]} for lora in (DECODER, ENCODER))
    steps = {"training": {"steps": 9, "batch_size": 2, "audio_context": 8, "evaluations": 1}}
    pseudo = {"method": {**METHODS[1], "transcripts": "teacher"}}
    chosen = [
        run_config(**decoder),
        run_config(**encoder),
        run_config(**{**decoder, "method": METHODS[1], "seed": 3}),
        run_config(**{**decoder, **steps}),
        run_config(**encoder),
        run_config(**{**decoder, **pseudo}),
        run_config(**{**decoder, "lora": {**DECODER, "alpha": 4}}),
        run_config(**{**decoder, "lora": {**DECODER, "dropout": 0.1}}),
    ]
    assert companies(chosen) == [[0, 2, 6], [1], [3], [4], [5], [7]]
    assert [len(company) for company in companies([run_config(**decoder)] * 19)] == [8, 8, 3]


@pytest.mark.long
def test_fifty_steps_of_the_real_model_end_at_the_same_weights(clips) -> None:
    teacher = Whisper(tiny_en(), language="en")
    lora = {"rank": 8, "alpha": 16, "encoder_targets": [], "decoder_targets": ["q_proj", "v_proj"]}
    chosen = [config.model_copy(update={"freeze_below": 4}) for config in configs(lora, steps=50, freeze_below=2)[:3]]
    room = classroom(clips, teacher, chosen[0], PrunedStudent(decoder_layers=(0, 1, 3)))
    singles, group = [room.member(config) for config in chosen], [room.member(config) for config in chosen]
    for single in singles:
        alone(single)
    train_side_by_side(group, frozen=room.frozen, failed=refuse)
    for member, single in zip(group, singles, strict=True):
        assert apart(weights(member), weights(single)) < 1e-5
