"""What a folder says of generating: which language, what is never written, and what can be saved again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ctranslate2.converters import TransformersConverter
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, WhisperForConditionalGeneration

from core.errors import ModelError
from core.weights.load import LoadedWhisper, describe_whisper, load_whisper

TABLE = "model.decoder.embed_tokens.weight"
ENGLISH, MULTILINGUAL = (50257, 50362), (50258, 50259, 50359, 50363)


def edited(source: Path, target: Path, name: str = "generation_config.json", **fields: Any) -> Path:
    """Copy a folder with other settings; `...` leaves one out."""
    folder = target if target.exists() else Path(shutil.copytree(source, target))
    content = {**json.loads((folder / name).read_text()), **fields}
    (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    return folder


def with_added_tokens(folder: Path, count: int) -> None:
    loaded = load_whisper(str(folder))
    loaded.tokenizer.add_tokens([f"<|domain {number}|>" for number in range(count)])
    loaded.tokenizer.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    state[TABLE] = state[TABLE][[*range(len(state[TABLE])), *[7] * count]]
    save_file(state, folder / "model.safetensors")
    edited(folder, folder, "config.json", vocab_size=len(state[TABLE]))


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("said", [False, ...])
def test_an_english_model_with_tokens_added_stays_english(count: int, said: Any, small_folder: Path, tmp_path: Path):
    folder = edited(small_folder, tmp_path / "copy", is_multilingual=said)
    with_added_tokens(folder, count)
    loaded = load_whisper(str(folder))
    assert (loaded.prompt(), loaded.is_multilingual) == (ENGLISH, False)
    assert loaded.model.config.vocab_size == 51864 + count
    with pytest.raises(ModelError, match="English only"):
        loaded.prompt("de")
    TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(tmp_path / "ct2"))
    again = load_whisper(str(tmp_path / "ct2"))
    assert (again.prompt(), again.vocabulary) == (ENGLISH, loaded.vocabulary)


def test_what_the_settings_say_counts_before_the_tokenizer(
    small_folder: Path, small_multilingual_folder: Path, tmp_path: Path
):
    def prompt(name: str, source: Path, **fields: Any) -> tuple[int, ...]:
        return describe_whisper(str(edited(source, tmp_path / name, **fields))).prompt()

    assert prompt("a", small_multilingual_folder, is_multilingual=..., lang_to_id=...) == MULTILINGUAL
    assert prompt("b", small_multilingual_folder, is_multilingual=...) == MULTILINGUAL
    assert prompt("c", small_multilingual_folder, is_multilingual=False) == (50258, 50363)
    assert prompt("d", small_folder, is_multilingual=..., lang_to_id=...) == ENGLISH
    assert prompt("e", small_folder, is_multilingual=True)[:2] == (50257, 50258)


@pytest.mark.parametrize(
    ("forced", "expected"), [([[1, 50259], [2, 50359], [3, 50363]], MULTILINGUAL), ([[1, 50363]], (50258, 50363))]
)
def test_old_folders_say_it_by_the_ids_that_they_force(
    forced: list[list[int]], expected: tuple[int, ...], small_multilingual_folder: Path, tmp_path: Path
):
    folder = edited(small_multilingual_folder, tmp_path / "copy", "config.json", forced_decoder_ids=forced, **OLD)
    (folder / "generation_config.json").unlink()
    assert describe_whisper(str(folder)).prompt() == expected


OLD = {"eos_token_id": 50257, "bos_token_id": 50257, "pad_token_id": 50257, "decoder_start_token_id": 50258}


def suppressed(loaded: LoadedWhisper) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return loaded.suppress_tokens, loaded.begin_suppress_tokens


@pytest.mark.parametrize("nothing", [[], None, ...])
def test_a_generation_config_wins_over_old_lists_as_in_transformers(nothing: Any, small_folder: Path, tmp_path: Path):
    folder = edited(small_folder, tmp_path / "copy", suppress_tokens=nothing, begin_suppress_tokens=nothing)
    edited(folder, folder, "config.json", suppress_tokens=[1, 2, 7], begin_suppress_tokens=[220, 50256])
    assert suppressed(describe_whisper(str(folder))) == ((), ())
    theirs: Any = WhisperForConditionalGeneration.from_pretrained(folder)
    assert not theirs.generation_config.suppress_tokens
    assert not theirs.generation_config.begin_suppress_tokens
    (folder / "generation_config.json").unlink()
    assert suppressed(describe_whisper(str(folder))) == ((1, 2, 7), (220, 50256))


def test_each_list_counts_for_itself_and_padding_needs_no_suppressing(small_folder: Path, tmp_path: Path):
    folder = edited(small_folder, tmp_path / "copy", suppress_tokens=[5, 51870, -1], begin_suppress_tokens=[])
    edited(folder, folder, "config.json", vocab_size=51872, suppress_tokens=[1], begin_suppress_tokens=[220])
    state = load_file(folder / "model.safetensors")
    state[TABLE] = state[TABLE][[*range(51864), *[0] * 8]]
    save_file(state, folder / "model.safetensors")
    assert suppressed(load_whisper(str(folder))) == ((5,), ())


def test_a_ctranslate2_folder_that_suppresses_nothing_is_read(small_folder: Path, tmp_path: Path):
    folder = edited(small_folder, tmp_path / "copy", suppress_tokens=..., begin_suppress_tokens=...)
    TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(tmp_path / "ct2"))
    assert suppressed(load_whisper(str(tmp_path / "ct2"))) == ((), ())


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"temperature": 0.7, "do_sample": False}, {"temperature"}),
        ({"temperature": 0.7, "do_sample": True}, set()),
        ({"temperature": [0.0, 0.2, 0.4]}, {"temperature"}),
        ({"num_beams": 1, "length_penalty": 0.8, "early_stopping": True}, {"length_penalty", "early_stopping"}),
        ({"num_beams": 5, "length_penalty": 0.8, "early_stopping": True}, set()),
        ({"num_return_sequences": 4}, {"num_return_sequences"}),
        ({"top_p": 0.9, "top_k": 5, "typical_p": 0.5, "min_p": 0.1}, {"top_p", "top_k", "typical_p", "min_p"}),
        ({"output_attentions": True, "max_new_tokens": -3}, {"output_attentions", "max_new_tokens"}),
        ({"early_stopping": [1], "cache_implementation": "none of them"}, {"early_stopping", "cache_implementation"}),
        ({"logits_processor": "x", "anything": {"else": 1}}, {"logits_processor", "anything"}),
        ({"repetition_penalty": 1.2, "no_repeat_ngram_size": 3}, set()),
    ],
)
def test_settings_that_cannot_be_saved_are_left_out_and_named(
    fields: dict[str, Any], left: set[str], small_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    loaded = describe_whisper(str(edited(small_folder, tmp_path / "copy", **fields)))
    assert loaded.left_out == {name: fields[name] for name in left}
    settings = loaded.model.generation_config
    assert settings is not None
    settings.save_pretrained(tmp_path)
    saved = GenerationConfig.from_pretrained(tmp_path)
    kept = {name: value for name, value in fields.items() if name not in left}
    assert {name: getattr(saved, name) for name in kept} == kept
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("given", "kept"), [(100, 100), (448, 448), (10**9, 448), ("long", 448), (-3, 448)])
def test_no_text_is_longer_than_the_decoder_has_positions(given: Any, kept: int, small_folder: Path, tmp_path: Path):
    settings = describe_whisper(str(edited(small_folder, tmp_path / "copy", max_length=given))).model.generation_config
    assert settings is not None
    assert settings.max_length == kept
