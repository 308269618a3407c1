"""Tokenizer and feature extractor of an export, in the files that programs of today and of yesterday look for."""

import json
from pathlib import Path
from typing import Any

from whisper_normalizer.english import EnglishTextNormalizer

from core.weights.load import LoadedWhisper


def write_processor(loaded: LoadedWhisper, folder: Path) -> None:
    """Write everything beside the weights that reads audio and writes text.

    transformers 5 reads what 4 wrote, so it is written as 4 does (tried with 4.49, 4.57 and 5.23): features in
    preprocessor_config.json, as converters to CTranslate2 copy it, and not in processor_config.json, over which 4.49
    stumbles; special tokens by their old name; for the tokenizer in Python, and for ggml, vocab.json, merges.txt,
    added_tokens.json and special_tokens_map.json. normalizer.json holds the spellings without which
    `tokenizer.normalize` raises; saving a tokenizer loses it.

    Args:
        loaded: The model whose tokens and features are written.
        folder: That exists.
    """
    tokenizer, extractor = loaded.tokenizer, loaded.feature_extractor
    tokenizer.save_pretrained(str(folder))
    extractor.save_pretrained(str(folder))
    tokenizer.save_vocabulary(str(folder))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    special = [str(token) for token in settings.pop("extra_special_tokens", [])]
    added = tokenizer.added_tokens_decoder
    states = {str(number): token.__getstate__() for number, token in sorted(added.items())}
    settings["processor_class"] = "WhisperProcessor"
    _write(path, {**settings, "additional_special_tokens": special, "added_tokens_decoder": states})
    named = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    _write(folder / "special_tokens_map.json", {**named, "additional_special_tokens": special})
    _write(folder / "added_tokens.json", {token.content: number for number, token in sorted(added.items())})
    spellings = tokenizer.english_spelling_normalizer or EnglishTextNormalizer().standardize_spellings.mapping
    _write(folder / "normalizer.json", spellings)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
