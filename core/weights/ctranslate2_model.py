"""The parts of a transformers model from a CTranslate2 folder: model.bin, config.json, tokenizer.json."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AddedToken, WhisperConfig, WhisperTokenizer

from core.errors import ModelError
from core.weights.ctranslate2 import Architecture, as_float32, read_variables, to_transformers
from core.weights.files import ModelFiles, read_json
from core.weights.generation import generation_of
from core.weights.parts import (
    END,
    START,
    TIMES,
    ModelParts,
    Weights,
    add_times,
    complete_tokens,
    heads_are_one,
    token_id,
)


def read_parts(files: ModelFiles) -> ModelParts:
    """Read a CTranslate2 Whisper folder.

    Raises:
        ModelError: If the weights, the tokenizer or the configuration cannot be used.
    """
    arrays, architecture = to_transformers(read_variables(files.weights[0]))
    settings = read_json(files.folder / "config.json")
    tokenizer = read_tokenizer(files.folder)
    tokens = complete_tokens(tokenizer, architecture.vocabulary, files.folder)
    config = _config(architecture, tokenizer, tokens)
    generation = generation_of(
        _fields(settings, architecture, tokenizer, files.folder),
        tokenizer=tokenizer,
        config=config,
        forced=None,
        path=files.folder / "config.json",
    )

    def read(names: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
        # The arrays are views of the file: only what is asked for is read.
        yield from ((name, torch.from_numpy(as_float32(arrays[name]))) for name in names)

    shapes = {name: array.shape for name, array in arrays.items()}
    weights = Weights(str(files.folder), shapes, dict.fromkeys(shapes, files.weights[0].name), read)
    config.tie_word_embeddings = heads_are_one(weights, tied=True)
    return ModelParts(config, architecture.vocabulary, weights, tokenizer, generation.config, generation.left_out)


def _config(architecture: Architecture, tokenizer: WhisperTokenizer, tokens: int) -> WhisperConfig:
    end = token_id(tokenizer, END)
    return WhisperConfig(
        vocab_size=tokens,
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
        decoder_start_token_id=token_id(tokenizer, START),
        begin_suppress_tokens=None,  # these stand in the generation config
    )


def read_tokenizer(folder: Path) -> WhisperTokenizer:
    """Build the tokenizer from tokenizer.json's own tables: byte pairs, merges, and tokens added behind them.

    Times, which some files leave out, stand behind the special tokens, and what users added behind the times.
    """
    content = read_json(folder / "tokenizer.json")
    try:
        model = content["model"]
        merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        added = sorted((token["id"], token["content"]) for token in content["added_tokens"])
        tokenizer = WhisperTokenizer(vocab=dict(model["vocab"]), merges=merges, pad_token=END)
        others = [(number, text) for number, text in added if text not in TIMES]
        last = max((number for number, text in others if text == "<|notimestamps|>"), default=len(added) + 10**9)
        specials = [text for number, text in others if number <= last]
        tokenizer.add_special_tokens({"additional_special_tokens": specials})  # pyright: ignore[reportArgumentType]
        tokenizer.set_prefix_tokens()  # again, now that the start token has an id
        add_times(tokenizer)
        tokenizer.add_tokens([AddedToken(text, normalized=False) for number, text in others if number > last])
    except Exception as error:  # tokenizers raises plain Exception, and the file is a stranger's
        raise ModelError(
            f"{folder / 'tokenizer.json'} is no Whisper tokenizer ({error}). Copy the folder again."
        ) from error
    wrong = [text for number, text in others if token_id(tokenizer, text) != number]
    if wrong or token_id(tokenizer, START) == tokenizer.unk_token_id:
        raise ModelError(
            f"{folder / 'tokenizer.json'} does not number its tokens as Whisper does. Copy the folder again."
        )
    return tokenizer


def _fields(
    settings: Mapping[str, Any], architecture: Architecture, tokenizer: WhisperTokenizer, folder: Path
) -> dict[str, Any]:
    """Return as a generation config what the converter wrote of one into config.json."""
    fields: dict[str, Any] = {
        "alignment_heads": settings.get("alignment_heads"),
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
    }
    for ours, theirs in (("suppress_tokens", "suppress_ids"), ("begin_suppress_tokens", "suppress_ids_begin")):
        fields[ours] = _ids(settings, theirs, architecture.vocabulary, folder)
    # Which languages 'lang_ids' names says nothing: converters write it of English models, too.
    begin, start, end = fields["begin_suppress_tokens"], *(token_id(tokenizer, name) for name in (START, END))
    if start in begin and end not in begin:
        raise ModelError(
            f"{folder / 'config.json'} keeps texts from ending at once with other ids than the tokenizer beside "
            "it: they are of two models. Copy the tokenizer that belongs to this one."
        )
    return fields


def _ids(settings: Mapping[str, Any], key: str, vocabulary: int, folder: Path) -> list[int]:
    ids = settings.get(key, "nothing")
    if ids is None:
        return []
    if not isinstance(ids, list) or not all(type(number) is int and 0 <= number < vocabulary for number in ids):
        raise ModelError(
            f"{folder / 'config.json'} has no list of token ids under '{key}'. Copy the model folder again."
        )
    return ids
