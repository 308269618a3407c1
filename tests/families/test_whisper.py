from pathlib import Path

import numpy as np
import pytest
import torch

from core.audio import read_audio
from core.config import PrunedStudent
from core.errors import ConfigError, ModelError
from core.families.whisper import IGNORED, Whisper, frame_count, prune, shares_start
from tests.engine import random_whisper, tiny_en, utterances


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return random_whisper()


def test_labels_are_the_inputs_one_step_on_and_the_prompt_is_not_learnt(whisper: Whisper) -> None:
    batch = whisper.collate([[11, 12, 13], [14]], [1.0, 2.0], audio_context=3.0)

    assert batch.inputs[0].tolist() == [*whisper.prompt, 11, 12, 13]
    assert batch.labels[0].tolist() == [IGNORED, 11, 12, 13, whisper.end_token]
    assert batch.labels[1].tolist() == [IGNORED, 14, whisper.end_token, IGNORED, IGNORED]


def test_a_text_has_one_start_token(whisper: Whisper) -> None:
    tokens = whisper.tokens("A cat sat down.")
    batch = whisper.collate([tokens], [1.0], audio_context=2.0)

    start = whisper.loaded.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert batch.inputs.flatten().tolist().count(start) == 1
    assert start not in batch.labels.flatten().tolist()
    assert tokens == whisper.tokens("  A cat sat down. ")


def test_frames_of_padding_are_masked(whisper: Whisper) -> None:
    batch = whisper.collate([[1], [1]], [1.0, 2.5], audio_context=3.0)

    assert batch.frame_mask.shape == (2, 150)
    assert batch.frame_mask.sum(dim=1).tolist() == [50, 125]


def test_the_encoder_gives_fifty_frames_a_second_at_every_context(whisper: Whisper) -> None:
    clip = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    for context in (2.0, 8.5, 30.0):
        with torch.no_grad():
            states = whisper.encode_start(whisper.mel([clip], context), 1)
        assert states.shape == (1, frame_count(context), whisper.width)


@pytest.mark.parametrize("context", [2.0, 3.4, 29.8, 30.0])
def test_features_of_a_short_context_are_those_of_thirty_seconds(whisper: Whisper, context: float) -> None:
    clips = [np.random.default_rng(0).normal(size=size).astype(np.float32) for size in (32_000, 5_000)]
    expected = whisper.loaded.feature_extractor(clips, sampling_rate=16_000, return_tensors="pt").input_features
    assert torch.equal(whisper.mel(clips, context), expected[..., : round(100 * context)])


def test_the_parts_together_are_the_whole_encoder_and_decoder_of_transformers(whisper: Whisper) -> None:
    clip = np.random.default_rng(0).normal(size=48_000).astype(np.float32)
    mel = whisper.mel([clip], 30.0)
    inputs = torch.tensor([[*whisper.prompt, 11, 12]])
    with torch.no_grad():
        expected = whisper.model(input_features=mel, decoder_input_ids=inputs)
        encoder = whisper.encode_rest(whisper.encode_start(mel, 2), 2)[whisper.encoder_layers - 1]
        decoder = whisper.decode(encoder, inputs)
        logits = whisper.head(decoder[whisper.decoder_layers - 1])

    torch.testing.assert_close(encoder, expected.encoder_last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=1e-4)


def test_a_clip_longer_than_the_context_is_refused(whisper: Whisper) -> None:
    with pytest.raises(ModelError, match="longer than the audio context"):
        whisper.mel([np.zeros(33_000, dtype=np.float32)], 2.0)


def test_pruning_keeps_the_named_layers_and_leaves_the_teacher_alone() -> None:
    teacher = random_whisper()
    student = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3), decoder_layers=(0, 2)))

    assert (student.encoder_layers, student.decoder_layers) == (3, 2)
    assert (teacher.encoder_layers, teacher.decoder_layers) == (4, 3)
    kept, original = (
        student.encoder.get_parameter("layers.2.fc1.weight"),
        teacher.encoder.get_parameter("layers.3.fc1.weight"),
    )
    assert torch.equal(kept, original)
    assert kept.data_ptr() != original.data_ptr()
    assert shares_start(student, teacher, 2)
    assert not shares_start(student, teacher, 3)
    assert not shares_start(student, teacher, 4)


def test_layers_that_do_not_exist_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        prune(random_whisper(), PrunedStudent(encoder_layers=(0, 9), decoder_layers=(7,)))
    assert [problem.where for problem in caught.value.problems] == ["student.encoder_layers", "student.decoder_layers"]


def test_the_pretrained_model_transcribes_generated_speech(tmp_path: Path) -> None:
    whisper = Whisper(tiny_en(), language="en")
    clips = utterances(tmp_path)[:2]
    with torch.inference_mode():
        start = whisper.encode_start(whisper.mel([read_audio(clip.audio_path) for clip in clips], 15.0), 2)
        states = whisper.encode_rest(start, 2)[3]
        together = whisper.transcribe(whisper.cross_attention(states), token_caps=[60, 60])
        alone = whisper.transcribe(whisper.cross_attention(states[1:]), token_caps=[60])
        short = whisper.transcribe(whisper.cross_attention(states[:1]), token_caps=[2])

    expected = {word.strip(".,").lower() for clip in clips for word in clip.text.split()}
    heard = {word.strip(".,").lower() for text in together for word in text.split()}
    assert len(expected & heard) > 0.6 * len(expected)
    assert alone[0] == together[1]
    assert len(whisper.tokens(short[0])) <= 2


def test_a_pass_with_keys_and_values_at_hand_says_what_a_pass_without_says(whisper: Whisper) -> None:
    states = torch.randn(2, 60, whisper.width, generator=torch.Generator().manual_seed(0))
    inputs = whisper.collate([[11, 12, 13], [14]], [1.0, 1.0], 1.2).inputs
    with torch.inference_mode():
        expected = whisper.decode(states, inputs)
        heard = whisper.cross_attention(states)
        whisper.transcribe(heard, token_caps=[5, 9])
        found = whisper.decode_again(heard, inputs)

    assert found.keys() == expected.keys()
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


def test_keys_and_values_at_hand_are_made_no_second_time(whisper: Whisper) -> None:
    states = torch.randn(1, 60, whisper.width, generator=torch.Generator().manual_seed(0))
    made: list[torch.Tensor] = []
    with torch.inference_mode():
        heard = whisper.cross_attention(states)
        hooks = [
            layer.get_submodule(f"encoder_attn.{name}").register_forward_hook(lambda *call: made.append(call[-1]))
            for layer in whisper.decoder.layers
            for name in ("k_proj", "v_proj")
        ]
        try:
            whisper.transcribe(heard, token_caps=[3])
            whisper.decode_again(heard, torch.tensor([whisper.prompt]))
            assert not made
            whisper.decode(states, torch.tensor([whisper.prompt]))
            assert len(made) == 2 * whisper.decoder_layers
        finally:
            for hook in hooks:
                hook.remove()


def test_texts_do_not_depend_on_which_ones_end_first(whisper: Whisper) -> None:
    states = torch.randn(5, 60, whisper.width, generator=torch.Generator().manual_seed(0))
    caps = [9, 2, 3, 7, 2]
    together = whisper.transcribe(whisper.cross_attention(states), token_caps=caps)
    alone = [
        whisper.transcribe(whisper.cross_attention(states[row : row + 1]), token_caps=caps[row : row + 1])[0]
        for row in range(5)
    ]
    assert together == alone
    assert all(together)
