"""What the teacher says about each utterance: valid points only, each model with its own ears."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from core.audio import read_audio
from core.config import PrunedStudent
from core.errors import DataError, ModelError
from core.families.pruning import prune
from core.families.whisper import Whisper, frame_count
from core.finite import require_finite_features
from core.mapping import LayerPair
from core.sources import Utterance
from core.teacher_outputs import (
    Heard,
    Prepared,
    prepare_utterances,
    student_signals,
    teacher_signals,
    teacher_statistics,
)
from tests.engine import random_whisper, utterances

PAIRS = (LayerPair("encoder", 2, 3), LayerPair("decoder", 0, 1))
CONTEXT = 8.0


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Utterance, ...]:
    return utterances(tmp_path_factory.mktemp("speech"), train=2)


def listened(clips: tuple[Utterance, ...], *, teacher: Whisper, student: Whisper) -> list[Prepared]:
    return prepare_utterances(
        clips,
        teachers=[teacher],
        student=student,
        freeze_below=1,
        pairs=PAIRS,
        audio_context=CONTEXT,
        keep_teacher_encoder=False,
        batch_size=2,
        advance=lambda count: None,
    )


def with_128_bins(whisper: Whisper) -> Whisper:
    """Return a model of the same sizes that hears 128 mel bins, as those since large-v3 do."""
    sizes = whisper.plain.config.to_dict() | {"num_mel_bins": 128}
    model = WhisperForConditionalGeneration(WhisperConfig.from_dict(sizes)).eval().requires_grad_(False)
    hears = WhisperFeatureExtractor(feature_size=128)
    return Whisper(dataclasses.replace(whisper.loaded, model=model, feature_extractor=hears), language="en")


def test_frames_of_padding_are_in_neither_side_and_both_pair_up(clips: tuple[Utterance, ...]) -> None:
    # Trap: the encoder gives 50 frames a second whatever the clip; those of the padding say nothing.
    teacher, student = random_whisper(), random_whisper(encoder_layers=3, seed=1)
    prepared = listened(clips, teacher=teacher, student=student)
    frames = [frame_count(clip.duration) for clip in clips]
    assert frames[0] != frames[1]
    assert max(frames) < CONTEXT * 50
    assert [len(item.teachers[0].states["encoder", 3]) for item in prepared] == frames
    mine = student_signals(prepared, student, freeze_below=1, with_decoder=True)
    theirs = teacher_signals(prepared, teacher)
    assert list(mine.frame_counts) == frames
    assert len(mine.encoder[2]) == len(theirs.encoder[3]) == sum(frames)
    tokens = [len(item.tokens) + 1 for item in prepared]
    assert list(mine.token_counts) == tokens
    assert len(mine.decoder[0]) == len(theirs.decoder[1]) == sum(tokens)


def test_each_model_hears_as_many_mel_bins_as_it_was_made_for(clips: tuple[Utterance, ...]) -> None:
    # Trap: 80 mel bins up to large-v2, 128 since large-v3.
    teacher, student = with_128_bins(random_whisper()), random_whisper(encoder_layers=3)
    prepared = listened(clips, teacher=teacher, student=student)
    audio = [read_audio(clip.audio_path) for clip in clips]
    with torch.inference_mode():
        start = student.encode_start(student.mel(audio, CONTEXT), 1)
        states = teacher.encode_rest(teacher.encode_start(teacher.mel(audio, CONTEXT), 0), 0)[3]
    for row, item in enumerate(prepared):
        assert torch.allclose(item.start, start[row], atol=1e-5)
        assert torch.allclose(
            item.teachers[0].states["encoder", 3], states[row, : frame_count(clips[row].duration)], atol=1e-4
        )


def test_statistics_of_decoder_states_are_of_utterances_that_have_a_text() -> None:
    def item(value: float, text: str) -> Prepared:
        teacher = {("encoder", 0): torch.full((2, 3), value), ("decoder", 0): torch.full((2, 3), value)}
        return Prepared(Utterance("a", Path("a.flac"), text, None, 1.0), [], torch.zeros(1), (Heard(teacher),))

    said, silent = item(1, "words"), item(3, "")
    (found,) = teacher_statistics([said, silent], read=[said])
    assert found["encoder", 0].mean.tolist() == [2, 2, 2]
    assert found["decoder", 0].mean.tolist() == [1, 1, 1]
    assert teacher_statistics([said, silent])[0]["decoder", 0].mean.tolist() == [2, 2, 2]


def test_a_teacher_layer_below_the_shared_ones_is_heard_too(clips: tuple[Utterance, ...]) -> None:
    teacher = random_whisper()
    student = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3)))
    prepared = prepare_utterances(
        clips,
        teachers=[teacher],
        student=student,
        freeze_below=2,
        pairs=[LayerPair("encoder", 2, 0)],
        audio_context=CONTEXT,
        keep_teacher_encoder=False,
        batch_size=2,
        advance=lambda count: None,
    )
    mel = teacher.mel([read_audio(clips[0].audio_path)], CONTEXT)
    expected = teacher.encode_start(mel, 1)[0, : frame_count(clips[0].duration)]
    torch.testing.assert_close(prepared[0].teachers[0].states["encoder", 0], expected, atol=1e-4, rtol=1e-4)


def test_clips_whose_features_are_no_numbers_are_all_named(clips: tuple[Utterance, ...]) -> None:
    # Finite samples, whose squares are not.
    noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    mel = random_whisper().mel([noise * 1e30, noise, noise * 1e30], CONTEXT)
    batch = [dataclasses.replace(clips[0], id=name) for name in ("loud", "fine", "loud too")]
    with pytest.raises(DataError, match="cannot be used") as caught:
        require_finite_features(mel, batch)
    assert [problem.where for problem in caught.value.problems] == ["loud", "loud too"]
    assert str(clips[0].audio_path) in caught.value.problems[0].message


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_teacher_of_finite_weights_that_computes_no_numbers_is_told_as_such(
    part: str, clips: tuple[Utterance, ...]
) -> None:
    teacher = random_whisper(encoder_layers=3)
    getattr(teacher, part).layer_norm.weight.fill_(3e38)
    teacher.encoder.layer_norm.bias.fill_(3e38) if part == "encoder" else teacher.decoder.layer_norm.bias.fill_(3e38)
    with pytest.raises(ModelError, match="computes values that are not finite numbers") as caught:
        listened(clips, teacher=teacher, student=random_whisper(encoder_layers=3, seed=1))
    assert clips[0].id in str(caught.value)
