import dataclasses
from typing import ClassVar

import pytest

from core.config import LossSettings, RunConfig, parse_run
from core.config.losses.base import Reads
from core.counting import parameter_counts
from core.errors import ConfigError
from core.families.whisper import Whisper
from core.mapping import LayerPair
from core.preflight import (
    device_of,
    model_problems,
    pairs_of,
    point_map_of,
    require_sound,
    within_budget,
)
from tests.engine import WIDTH, random_whisper, run_config


@pytest.fixture(scope="module")
def teacher() -> Whisper:
    return random_whisper()


def other_tokens(teacher: Whisper) -> Whisper:
    """Return a student that spells one token differently."""

    class OtherTokens:
        def get_vocab(self) -> dict[str, int]:
            table = dict(teacher.loaded.tokenizer.get_vocab())
            first = next(iter(table))
            table[first + "x"] = table.pop(first)
            return table

    student = random_whisper(encoder_layers=3)
    student.loaded = dataclasses.replace(student.loaded, tokenizer=OtherTokens())  # pyright: ignore[reportArgumentType]
    return student


def places(config: RunConfig, *, student: Whisper, teachers: list[Whisper]) -> list[str]:
    return [problem.where for problem in model_problems(config, student=student, teachers=teachers)]


def test_a_sound_run_has_no_problems(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    assert places(run_config(), student=student, teachers=[teacher]) == []
    require_sound([run_config()], student=student, teachers=[teacher])


def test_a_loss_that_reads_what_the_models_do_not_give_is_refused(teacher: Whisper) -> None:
    class LabelSequences(LossSettings):
        kind: str = "label_sequences"
        reads: ClassVar[frozenset[Reads]] = frozenset({"label_sequences"})

    config = run_config()
    losses = (*config.method.losses, LabelSequences())
    config = config.model_copy(update={"method": config.method.model_copy(update={"losses": losses})})
    problems = model_problems(config, student=random_whisper(encoder_layers=3), teachers=[teacher])
    assert [problem.where for problem in problems] == ["method.losses.3"]
    assert "reads label sequences, which these models do not give" in problems[0].message


def test_token_tables_that_differ_are_refused_for_tokens_and_accepted_for_frames(teacher: Whisper) -> None:
    # Trap: vocabularies differ between models although their sizes may agree.
    student = other_tokens(teacher)
    problems = model_problems(run_config(), student=student, teachers=[teacher])
    assert [problem.where for problem in problems] == ["method.losses.1", "method.losses.2"]
    assert "token tables differ" in problems[0].message

    alone = run_config(method={"name": "alone", "losses": [{"kind": "geodesic", "decoder": False}]})
    assert places(alone, student=student, teachers=[teacher]) == []


def test_a_budget_decides_the_rank_of_the_run(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    config = run_config(lora={"rank": 32, "alpha": 64, "budget": 0.01})
    fitting = within_budget(config, student=student, teachers=[teacher])
    projection = WIDTH * WIDTH
    # One layer: q, k, v and out are 32 + 32 wide, fc1 and fc2 32 + 64.
    each = 4 * 2 * WIDTH + 2 * 3 * WIDTH
    whole = sum({id(part): part.numel() for part in teacher.model.parameters()}.values())
    assert fitting.lora.rank == min(WIDTH, (int(0.01 * whole) - projection) // each)
    assert fitting.lora.alpha == 2 * fitting.lora.rank
    assert within_budget(run_config(), student=student, teachers=[teacher]) == run_config()


def test_projections_take_their_part_of_the_budget(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    ranks = [
        within_budget(
            run_config(lora={"budget": 0.005}, method={"losses": [{"kind": "geodesic"}], "mapping": mapping}),
            student=student,
            teachers=[teacher],
        ).lora.rank
        for mapping in ({"projection": "none"}, {"sharing": "per_pair"})
    ]
    assert ranks[0] > ranks[1]


def test_a_budget_that_is_too_small_is_a_problem_of_the_run(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    assert places(run_config(lora={"budget": 1e-7}), student=student, teachers=[teacher]) == ["lora.budget"]


def test_a_stage_between_two_steps_is_refused(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    losses = [{"kind": "cross_entropy"}, {"kind": "geodesic", "begins": 0.4, "ends": 0.6}]
    assert places(run_config(method={"losses": losses}), student=student, teachers=[teacher]) == ["method.losses.1"]
    losses[1]["ends"] = 0.7  # the second of three steps ends at 0.67
    assert places(run_config(method={"losses": losses}), student=student, teachers=[teacher]) == []


def test_the_null_alone_is_refused(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    config = run_config(method={"losses": [{"kind": "projection_only"}]})
    assert places(config, student=student, teachers=[teacher]) == ["method.losses"]


def test_a_layer_map_that_does_not_fit_the_models_is_refused(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    method = {"losses": [{"kind": "geodesic"}], "mapping": {"encoder_list": [9], "decoder_layers": "next_input"}}
    config = run_config(method=method, student={"kind": "pretrained", "model": "x"})
    assert places(config, student=student, teachers=[teacher]) == [
        "method.mapping.encoder_list",
        "method.mapping.decoder_layers",
    ]


def test_a_pruned_student_knows_which_layers_it_kept(teacher: Whisper) -> None:
    config = run_config(method={"losses": [{"kind": "geodesic"}], "mapping": {"encoder_layers": "next_input"}})
    pairs = pairs_of(config, student=random_whisper(encoder_layers=3), teachers=[teacher])
    assert pairs == (LayerPair("encoder", 2, 3), *(LayerPair("decoder", layer, layer) for layer in range(3)))


def test_a_method_that_aligns_nothing_has_no_projection_to_train(teacher: Whisper) -> None:
    config = run_config(method={"losses": [{"kind": "cross_entropy"}]})
    student = random_whisper(encoder_layers=3)
    assert list(point_map_of(config, student=student, teachers=[teacher]).parameters()) == []


def test_an_alignment_of_frozen_layers_is_refused_before_it_starts(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    frozen = {"freeze_below": 3, "lora": {"encoder_targets": [], "decoder_targets": ["q_proj"]}}
    losses = [{"kind": "cross_entropy"}, {"kind": "geodesic", "decoder": False}]
    config = run_config(method={"losses": losses}, **frozen)
    assert places(config, student=student, teachers=[teacher]) == ["method.losses.1"]
    # Where it aligns decoder states too, these are what is left to it.
    assert places(run_config(**frozen), student=student, teachers=[teacher]) == []


def test_all_mistakes_of_a_run_come_together(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3, width=16)
    config = run_config(
        ensemble={"states": "mean"},
        lora={"encoder_targets": ["qq_proj"], "decoder_targets": ["w"]},
        method={
            "name": "x",
            "losses": [{"kind": "cross_entropy"}, {"kind": "geodesic"}],
            "mapping": {"projection": "none"},
        },
    )
    other = random_whisper(encoder_layers=5)
    assert places(config, student=student, teachers=[teacher, other]) == [
        "lora.encoder_targets",
        "lora.decoder_targets",
        "ensemble.states",
        "method.mapping",
    ]
    with pytest.raises(ConfigError, match="q_proj"):
        require_sound([config], student=student, teachers=[teacher])


def test_more_frozen_layers_than_the_student_has_are_refused(teacher: Whisper) -> None:
    config = run_config(student={"kind": "pretrained", "model": "x"}, freeze_below=9)
    assert places(config, student=random_whisper(encoder_layers=3), teachers=[teacher]) == ["freeze_below"]


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base = parse_run({"method": {"losses": [{"kind": "cross_entropy"}]}, "training": {"device": "cuda"}})
    with pytest.raises(ConfigError, match="no CUDA device"):
        device_of(base)
    assert device_of(base.model_copy(update={"training": run_config().training})).type == "cpu"


def test_a_mixture_that_does_not_fit_is_refused_before_the_run(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    config = run_config(lora={"rank": 5, "mixture": {"experts": 4}})
    (problem,) = model_problems(config, student=student, teachers=[teacher])
    assert problem.where == "lora.mixture.experts"
    assert "raise lora.rank to 6" in problem.message
    assert places(run_config(lora={"rank": 6, "mixture": {"experts": 4}}), student=student, teachers=[teacher]) == []


def test_a_mixture_keeps_within_the_budget_of_its_run(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    config = run_config(lora={"budget": 0.01, "mixture": {"experts": 2}})
    counts = parameter_counts(config, student=student, teachers=[teacher])
    dense = parameter_counts(run_config(lora={"budget": 0.01}), student=student, teachers=[teacher])
    assert 0.8 * dense.adapters < counts.adapters <= dense.adapters
    assert counts.share_of_teacher <= 0.01
