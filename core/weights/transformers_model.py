"""The parts of a model from a transformers folder: safetensors and JSON only."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import GenerationConfig, WhisperConfig, WhisperTokenizer

from core.errors import ModelError
from core.weights.files import ModelFiles, read_json
from core.weights.parts import ModelParts, complete_tokens, token_id

HEADS = ("proj_out.weight", "model.decoder.embed_tokens.weight")

LARGEST = {
    "d_model": 8192,
    "encoder_layers": 256,
    "decoder_layers": 256,
    "encoder_attention_heads": 256,
    "decoder_attention_heads": 256,
    "encoder_ffn_dim": 65536,
    "decoder_ffn_dim": 65536,
    "vocab_size": 1_000_000,
    "num_mel_bins": 1024,
    "max_source_positions": 100_000,
    "max_target_positions": 100_000,
}
"""Sizes beyond these are a mistake or an attack; Whisper large has a width of 1280 and 32 layers."""


def read_parts(files: ModelFiles) -> ModelParts:
    """Read a transformers Whisper folder.

    Raises:
        ModelError: If the weights, the tokenizer or the configuration cannot be used.
    """
    config = _config(files.folder)
    tokenizer = _tokenizer(files.folder)
    complete_tokens(tokenizer, config.vocab_size, files.folder)
    return ModelParts(
        config=config,
        state=lambda: _state(files),
        head=lambda: _state(files, only=HEADS)["proj_out.weight"],
        tokenizer=tokenizer,
        generation=_generation(files.folder, config, tokenizer),
    )


def _state(files: ModelFiles, *, only: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    """Read the weights, or only some of them; the head is the token table where a folder does not hold it twice."""
    state: dict[str, torch.Tensor] = {}
    for path in files.weights:
        state.update(_tensors(path, only))
    state.setdefault("proj_out.weight", state.get("model.decoder.embed_tokens.weight", torch.empty(0)))
    return state


def _config(folder: Path) -> WhisperConfig:
    fields = read_json(folder / "config.json")
    for name, largest in LARGEST.items():
        value = fields.get(name)
        if type(value) is not int or not 1 <= value <= largest:
            raise ModelError(
                f"{folder / 'config.json'} has {name} = {value!r}; it must be a whole number from 1 to {largest}."
            )
    try:
        return WhisperConfig.from_dict(fields)
    except Exception as error:  # whatever transformers raises on a stranger's settings
        raise ModelError(f"{folder / 'config.json'} is no Whisper configuration ({error}).") from error


def _tensors(path: Path, only: Sequence[str] | None) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if only is None or name in only]  # noqa: SIM118 - not a dictionary
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as safetensors ({error}). Copy the model folder again.") from error
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise ModelError(f"{path} is quantised. Give a model in float16, bfloat16 or float32.")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _tokenizer(folder: Path) -> WhisperTokenizer:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ModelError(f"{folder} holds no tokenizer.json. Copy the complete model folder.")
    if "auto_map" in (
        read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    ):
        raise ModelError(f"{folder / 'tokenizer_config.json'} contains 'auto_map', which makes code run. Remove it.")
    try:
        return WhisperTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain Exception, and the files are a stranger's
        raise ModelError(f"{folder} holds no Whisper tokenizer that can be read ({error}).") from error


def _generation(folder: Path, config: WhisperConfig, tokenizer: WhisperTokenizer) -> GenerationConfig:
    """Read generation_config.json; old folders without it keep these values in config.json."""
    fields = read_json(folder / "generation_config.json") if (folder / "generation_config.json").exists() else {}
    fields.pop("forced_decoder_ids", None)  # superseded by the prompt, and in the way of it
    defaults = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "decoder_start_token_id": config.decoder_start_token_id,
        "max_length": config.max_target_positions,
        "no_timestamps_token_id": token_id(tokenizer, "<|notimestamps|>"),
    }
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        ids = fields.get(name) or getattr(config, name, None) or []
        if not isinstance(ids, list) or not all(type(i) is int and -1 <= i < config.vocab_size for i in ids):
            raise ModelError(f"{folder} has {name} that are no token ids. Copy the model folder again.")
        fields[name] = [number for number in ids if number >= 0] or None
    try:
        return GenerationConfig.from_dict({**defaults, **fields})
    except Exception as error:  # whatever transformers raises on a stranger's settings
        raise ModelError(f"{folder / 'generation_config.json'} cannot be used ({error}).") from error
