import dataclasses
from pathlib import Path

import pytest

from core.config import RunConfig, parse_run
from core.errors import ConfigError
from core.families.whisper import Whisper
from core.preflight import check, device_of, model_problems, require_fits, require_shared, require_sound
from core.sources import Utterance
from tests.engine import random_whisper, run_config


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


def places(config: RunConfig, *, student: Whisper, teacher: Whisper) -> list[str]:
    return [problem.where for problem in model_problems(config, student=student, teacher=teacher)]


def test_a_sound_run_has_no_problems(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    assert places(run_config(), student=student, teacher=teacher) == []
    require_sound([run_config()], student=student, teacher=teacher)


def test_token_tables_that_differ_are_refused_for_tokens_and_accepted_for_frames(teacher: Whisper) -> None:
    student = other_tokens(teacher)
    problems = model_problems(run_config(), student=student, teacher=teacher)
    assert [problem.where for problem in problems] == ["method.losses.1", "method.losses.2"]
    assert "token tables differ" in problems[0].message

    alone = run_config(method={"name": "alone", "losses": [{"kind": "geodesic", "decoder": False}]})
    assert places(alone, student=student, teacher=teacher) == []


def test_an_alignment_of_frozen_layers_is_refused_before_it_starts(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3)
    config = run_config(freeze_below=3, lora={"encoder_targets": [], "decoder_targets": ["q_proj"]})
    assert places(config, student=student, teacher=teacher) == ["method.losses.2.encoder"]


def test_all_mistakes_of_a_run_come_together(teacher: Whisper) -> None:
    student = random_whisper(encoder_layers=3, width=16)
    config = run_config(
        teachers=[{"model": "a"}, {"model": "b"}],
        lora={"encoder_targets": ["qq_proj"], "decoder_targets": ["w"]},
        method={
            "name": "x",
            "losses": [{"kind": "cross_entropy"}, {"kind": "geodesic"}],
            "mapping": {"projection": "none"},
        },
    )
    assert places(config, student=student, teacher=teacher) == [
        "teachers",
        "lora.encoder_targets",
        "lora.decoder_targets",
        "method.mapping.projection",
    ]
    with pytest.raises(ConfigError, match="q_proj"):
        require_sound([config], student=student, teacher=teacher)


def test_more_frozen_layers_than_the_student_has_are_refused(teacher: Whisper) -> None:
    config = run_config(student={"kind": "pretrained", "model": "x"}, freeze_below=9)
    assert places(config, student=random_whisper(encoder_layers=3), teacher=teacher) == ["freeze_below"]


def test_the_check_counts_what_the_run_would_train() -> None:
    result = check(run_config(lora={"rank": 32}).model_dump(mode="json"))

    assert result["problems"] == []
    assert result["parameters"]["adapters"] == 221_184
    assert result["parameters"]["projections"] == 147_456
    assert result["parameters"]["teacher"] == 37_760_256
    assert result["parameters"]["share_of_teacher"] < 0.01
    assert result["adapted"][0] == "model.encoder.layers.2.self_attn.k_proj"


def test_the_check_says_what_is_wrong_instead_of_failing() -> None:
    assert check({"training": {"steps": 0}})["problems"][0]["where"] in ("method", "training.steps")
    no_model = run_config(teachers=[{"model": "./no-such-folder"}]).model_dump(mode="json")
    assert "no folder" in check(no_model)["problems"][0]["message"]
    no_layer = run_config(student={"kind": "pruned", "encoder_layers": [0, 1, 7]}).model_dump(mode="json")
    assert check(no_layer)["problems"][0]["where"] == "student.encoder_layers"


def test_runs_of_one_job_must_share_what_is_computed_once() -> None:
    base = run_config()
    other = base.model_copy(
        update={
            "name": "other",
            "language": "de",
            "training": base.training.model_copy(update={"audio_context": 12.0, "steps": 5}),
        }
    )
    with pytest.raises(ConfigError) as caught:
        require_shared([base, other])
    assert [problem.where for problem in caught.value.problems] == ["other: language", "other: training.audio_context"]


def test_clips_longer_than_the_context_are_named() -> None:
    clips = [Utterance("a", Path("a.flac"), "a", None, 4.0), Utterance("b", Path("b.flac"), "b", None, 9.0)]
    require_fits(clips, audio_context=9.0, field="training.audio_context")
    with pytest.raises(ConfigError, match=r"1 clips .* b\.flac"):
        require_fits(clips, audio_context=8.0, field="training.audio_context")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base = parse_run({"method": {"losses": [{"kind": "cross_entropy"}]}, "training": {"device": "cuda"}})
    with pytest.raises(ConfigError, match="no CUDA device"):
        device_of(base)
    assert device_of(base.model_copy(update={"training": run_config().training})).type == "cpu"
