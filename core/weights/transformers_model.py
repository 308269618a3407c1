"""The parts of a model from a transformers folder: safetensors and JSON only."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import WhisperTokenizer

from core.errors import ModelError
from core.weights.configuration import read_config
from core.weights.files import ModelFiles, read_json
from core.weights.generation import read_generation
from core.weights.parts import ModelParts, Weights, complete_tokens, heads_are_one, listed

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that torch.compile, FSDP and activation checkpointing add, at any depth."""

FLOATS = ("F64", "F32", "F16", "BF16")


def read_parts(files: ModelFiles) -> ModelParts:
    """Read a transformers Whisper folder.

    Raises:
        ModelError: If the weights, the tokenizer or the configuration cannot be used.
    """
    config, of_config = read_config(files.folder)
    tokenizer = _tokenizer(files.folder)
    rows = config.vocab_size
    config.vocab_size = complete_tokens(tokenizer, rows, files.folder)
    generation = read_generation(files.folder, tokenizer=tokenizer, config=config, of_config=of_config, rows=rows)
    weights = _weights(files)
    config.tie_word_embeddings = heads_are_one(weights, tied=config.tie_word_embeddings)
    return ModelParts(config, rows, weights, tokenizer, generation.config, generation.left_out)


def plain_name(stored: str) -> str:
    """Return the name of a tensor in WhisperForConditionalGeneration.

    Without what wrappers add to it (torch.compile, DataParallel, FSDP), and with what a headless WhisperModel, whose
    two sides are its own, leaves out.
    """
    name = WRAPPERS.sub("", stored)
    while name.startswith("module."):
        name = name.removeprefix("module.")
    if name.startswith(("model.model.", "model.proj_out.")):  # a module that holds the model as its own `model`
        name = name.removeprefix("model.")
    return f"model.{name}" if name.startswith(("encoder.", "decoder.")) else name


def _weights(files: ModelFiles) -> Weights:
    """Return what the files hold by the names of transformers; their headers alone are read now."""
    places: dict[str, tuple[Path, str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    whole: list[str] = []
    for path in files.weights:
        with _opened(path) as file:
            for stored in file.keys():  # noqa: SIM118 - not a dictionary
                tensor, name = file.get_slice(stored), plain_name(stored)
                if name in places:
                    raise ModelError(f"{files.folder} holds {name} twice. Copy the model folder again.")
                places[name], shapes[name] = (path, stored), tuple(tensor.get_shape())
                whole += [] if tensor.get_dtype() in FLOATS else [f"{name} ({tensor.get_dtype()})"]
    if whole:
        raise ModelError(
            f"{files.folder} is quantised: {listed(whole)}. Give the model in float16, bfloat16 or float32, as it was "
            "before it was quantised."
        )

    def read(names: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
        for path in files.weights:
            wanted = [name for name in names if places[name][0] == path]
            if wanted:
                with _opened(path) as file:
                    yield from ((name, file.get_tensor(places[name][1]).float()) for name in wanted)

    return Weights(str(files.folder), shapes, {name: path.name for name, (path, _) in places.items()}, read)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as safetensors ({error}). Copy the model folder again.") from error


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
