"""Terms that fit a rotation need more points in a batch than dimensions: what is said before a run, and when."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.batch_points import few_points_problems, require_enough_points
from core.checking import check
from core.config import RunConfig, method_row
from core.errors import ConfigError, Problem
from core.families.whisper import Whisper
from core.losses.procrustes import procrustes_loss
from core.sources import Utterance
from tests.engine import WIDTH, random_whisper, run_config

TEXT = "the quick brown fox"


@pytest.fixture(scope="module")
def teacher() -> Whisper:
    return random_whisper()


def turning(batch: int = 4, *, mapping: dict[str, Any] | None = None, context: float = 10, **loss: Any) -> RunConfig:
    losses = [{"kind": "cross_entropy"}, {"kind": "procrustes", **loss}]
    return run_config(
        method={"name": "procrustes", "losses": losses, "mapping": mapping or {}},
        training={"steps": 2, "batch_size": batch, "audio_context": context},
    )


def clips(seconds: float, text: str = TEXT, count: int = 5) -> list[Utterance]:
    return [Utterance(f"u{number}", Path("none.flac"), text, None, seconds) for number in range(count)]


def found(config: RunConfig, teacher: Whisper, learnt: list[Utterance]) -> list[Problem]:
    student = random_whisper(encoder_layers=3)
    return few_points_problems(config, student=student, teachers=[teacher], learnt=learnt)


def test_a_handful_of_tokens_is_refused_and_many_frames_are_not(teacher: Whisper) -> None:
    tokens = len(teacher.tokens(TEXT)) + 1
    (problem,) = found(turning(), teacher, clips(5.0))
    assert problem.where == "method.losses.1"
    assert f"about {4 * tokens} decoder states of {WIDTH} dimensions" in problem.message
    assert f"training.batch_size to {-(-4 * WIDTH // (4 * tokens))}," in problem.message
    assert f"common_width up to {4 * tokens})" in problem.message
    assert "set its decoder to false" in problem.message
    assert found(turning(decoder=False), teacher, clips(5.0)) == []


def test_what_the_sentence_proposes_is_enough(teacher: Whisper) -> None:
    tokens = len(teacher.tokens(TEXT)) + 1
    larger = -(-WIDTH // tokens)
    assert found(turning(larger), teacher, clips(5.0)) == []
    assert found(turning(larger - 1), teacher, clips(5.0)) != []
    few = {"basis": "principal", "common_width": 4 * tokens}
    assert found(turning(mapping=few), teacher, clips(5.0)) == []
    assert found(turning(mapping={"states": "whitened", "directions": 4 * tokens}), teacher, clips(5.0)) == []
    assert found(turning(mapping={"states": "whitened", "directions": 4 * tokens + 1}), teacher, clips(5.0)) != []


def test_short_clips_have_few_frames_too(teacher: Whisper) -> None:
    problems = found(turning(1, decoder=False), teacher, clips(0.2))
    assert ["encoder" in problem.message for problem in problems] == [True]


def test_before_the_speech_is_known_only_what_no_speech_could_have_is_refused(teacher: Whisper) -> None:
    assert found(turning(1, context=2), teacher, []) != []
    assert found(turning(64, context=30), teacher, []) == []


def test_other_terms_may_have_as_few_points_as_they_like(teacher: Whisper) -> None:
    for kind in ("cka", "geodesic", "gram", "rkd"):
        config = run_config(method={"name": kind, "losses": [{"kind": "cross_entropy"}, {"kind": kind}]})
        assert found(config, teacher, clips(0.1, "no")) == []


def test_every_run_of_a_job_is_named(teacher: Whisper) -> None:
    config = turning().model_copy(update={"name": "turned"})
    with pytest.raises(ConfigError, match=r"turned: method\.losses\.1"):
        require_enough_points(
            [run_config(), config], student=random_whisper(encoder_layers=3), teachers=[teacher], learnt=clips(5.0)
        )


def test_the_row_of_the_ablation_has_fewer_dimensions_than_two_short_sentences_have_tokens() -> None:
    mapping = method_row("procrustes").changes["method"]["mapping"]
    assert mapping == {"basis": "principal", "common_width": 32}
    # Two generated utterances have about 35 tokens. So many points of so few dimensions tell two sides apart.
    teacher, other, noise = torch.randn(3, 35, 32, generator=torch.Generator().manual_seed(0))
    related = teacher + 0.5 * noise
    related, other = (side * teacher.norm() / side.norm() for side in (related, other))
    assert procrustes_loss(related, teacher) < 0.4 * procrustes_loss(other, teacher)


def test_a_check_says_so_before_the_run(tmp_path: Path) -> None:
    (result,) = check([turning(1, context=9)], runs_folder=tmp_path, measured=False)
    assert [problem["where"] for problem in result["problems"]] == ["method.losses.1"]
    assert "so few can be turned onto any others" in result["problems"][0]["message"]
