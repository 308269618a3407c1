"""The parts of a transformers model from a CTranslate2 folder: model.bin, config.json, tokenizer.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, WhisperConfig, WhisperTokenizer

from core.errors import ModelError
from core.weights.ctranslate2 import Architecture, read_variables, to_transformers
from core.weights.files import ModelFiles, read_json
from core.weights.parts import MULTILINGUAL_VOCABULARY, ModelParts, complete_tokens, token_id


def read_parts(files: ModelFiles) -> ModelParts:
    """Read a CTranslate2 Whisper folder.

    Raises:
        ModelError: If the weights, the tokenizer or the configuration cannot be used.
    """
    arrays, architecture = to_transformers(read_variables(files.weights[0]))
    tokenizer = read_tokenizer(files.folder)
    complete_tokens(tokenizer, architecture.vocabulary, files.folder)
    settings = read_json(files.folder / "config.json")
    return ModelParts(
        config=_config(architecture, tokenizer),
        # The arrays are views of the file: only what is asked for is read.
        state=lambda: {name: _tensor(array) for name, array in arrays.items()},
        head=lambda: _tensor(arrays["proj_out.weight"]),
        tokenizer=tokenizer,
        generation=_generation(settings, architecture, tokenizer, files.folder),
    )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _config(architecture: Architecture, tokenizer: WhisperTokenizer) -> WhisperConfig:
    end = token_id(tokenizer, "<|endoftext|>")
    return WhisperConfig(
        vocab_size=architecture.vocabulary,
        d_model=architecture.width,
        num_mel_bins=architecture.mel_bins,
        encoder_layers=architecture.encoder_layers,
        decoder_layers=architecture.decoder_layers,
        encoder_attention_heads=architecture.encoder_heads,
        decoder_attention_heads=architecture.decoder_heads,
        encoder_ffn_dim=architecture.encoder_hidden,
        decoder_ffn_dim=architecture.decoder_hidden,
        max_source_positions=architecture.encoder_positions,
        max_target_positions=architecture.decoder_positions,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=token_id(tokenizer, "<|startoftranscript|>"),
        begin_suppress_tokens=None,  # these stand in the generation config
    )


def read_tokenizer(folder: Path) -> WhisperTokenizer:
    """Build the tokenizer from tokenizer.json's own tables: byte pairs, merges, and tokens added behind them."""
    content = read_json(folder / "tokenizer.json")
    try:
        model = content["model"]
        merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        added = sorted((token["id"], token["content"]) for token in content["added_tokens"])
        tokenizer = WhisperTokenizer(vocab=dict(model["vocab"]), merges=merges, pad_token="<|endoftext|>")
        specials = [text for number, text in added if not text.removeprefix("<|")[:1].isdigit()]
        tokenizer.add_special_tokens({"additional_special_tokens": specials})  # pyright: ignore[reportArgumentType]
        tokenizer.set_prefix_tokens()  # again, now that the start token has an id
    except Exception as error:  # tokenizers raises plain Exception, and the file is a stranger's
        raise ModelError(
            f"{folder / 'tokenizer.json'} is no Whisper tokenizer ({error}). Copy the folder again."
        ) from error
    wrong = [text for number, text in added if text in specials and token_id(tokenizer, text) != number]
    if wrong or token_id(tokenizer, "<|startoftranscript|>") == tokenizer.unk_token_id:
        raise ModelError(
            f"{folder / 'tokenizer.json'} does not number its tokens as Whisper does. Copy the folder again."
        )
    return tokenizer


def _generation(
    settings: Mapping[str, Any], architecture: Architecture, tokenizer: WhisperTokenizer, folder: Path
) -> GenerationConfig:
    end = token_id(tokenizer, "<|endoftext|>")
    multilingual = architecture.vocabulary >= MULTILINGUAL_VOCABULARY
    values: dict[str, Any] = {
        "is_multilingual": multilingual,
        "no_timestamps_token_id": token_id(tokenizer, "<|notimestamps|>"),
        "alignment_heads": settings.get("alignment_heads"),
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
    }
    if multilingual:
        languages = _ids(settings, "lang_ids", architecture.vocabulary, folder)
        values["lang_to_id"] = {tokenizer.convert_ids_to_tokens(number): number for number in languages}
        values["task_to_id"] = {task: token_id(tokenizer, f"<|{task}|>") for task in ("transcribe", "translate")}
    return GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=token_id(tokenizer, "<|startoftranscript|>"),
        max_length=architecture.decoder_positions,
        suppress_tokens=_ids(settings, "suppress_ids", architecture.vocabulary, folder),
        begin_suppress_tokens=_ids(settings, "suppress_ids_begin", architecture.vocabulary, folder),
        **values,
    )


def _ids(settings: Mapping[str, Any], key: str, vocabulary: int, folder: Path) -> list[int]:
    ids = settings.get(key)
    if not isinstance(ids, list) or not all(type(number) is int and 0 <= number < vocabulary for number in ids):
        raise ModelError(
            f"{folder / 'config.json'} has no list of token ids under '{key}'. Copy the model folder again."
        )
    return ids
