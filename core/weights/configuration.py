"""A stranger's config.json, read key by key: what is known is checked, all at once, and the rest is left out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import WhisperConfig
from transformers.activations import ACT2FN

from core.errors import ModelError, quoted
from core.weights.files import read_json

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

SHARES = ("dropout", "attention_dropout", "activation_dropout")
"""Probabilities. Layer drop is not read: a layer that is skipped in training leaves no state to align."""

SWITCHES = ("scale_embedding", "tie_word_embeddings")

IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")

SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")


def read_config(folder: Path) -> tuple[WhisperConfig, Mapping[str, Any]]:
    """Return the configuration in a folder, and what its file says of token ids.

    Raises:
        ModelError: With everything that cannot be.
    """
    path = folder / "config.json"
    fields = read_json(path)
    problems = list(_problems(fields))
    if problems:
        raise refused(path, problems)
    known = (*LARGEST, *SHARES, *SWITCHES, *IDS, "activation_function", "median_filter_width")
    config = WhisperConfig(**{name: fields[name] for name in known if name in fields}, begin_suppress_tokens=None)
    return config, {name: fields[name] for name in (*IDS, *SUPPRESSED, "forced_decoder_ids") if name in fields}


def refused(path: Path, problems: list[str]) -> ModelError:
    """Return the error that names everything that is wrong with a file."""
    return ModelError("\n".join([f"{path} cannot be used:", *(f"  - {problem}" for problem in problems)]))


def shown(value: Any) -> str:
    """Return a stranger's value as a sentence repeats it: not longer than a name."""
    return quoted(value) if isinstance(value, str) else quoted(repr(value))[1:-1]


def id_problems(fields: Mapping[str, Any], *, rows: int) -> Iterator[str]:
    """Yield which token ids cannot be: of a single token (some have several ends), and of tokens never written."""
    for name in IDS:
        value = fields.get(name)
        listed = value if name == "eos_token_id" and isinstance(value, list) and value else [value]
        for number in listed if value is not None else ():
            if type(number) is not int or not 0 <= number < rows:
                yield f"{name} = {shown(number)}; it must be a token id from 0 to {rows - 1}"
    for name in SUPPRESSED:
        value = fields.get(name)
        if value is None:
            continue
        # -1 stands for none of the tokens, and suppresses nothing.
        wrong = [n for n in value if type(n) is not int or not -1 <= n < rows] if isinstance(value, list) else [value]
        if wrong:
            yield f"{name} holds {shown(wrong[0])}; it must be a list of token ids from 0 to {rows - 1}"


def _problems(fields: Mapping[str, Any]) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for name, largest in LARGEST.items():
        value = fields.get(name)
        if type(value) is int and 1 <= value <= largest:
            sizes[name] = value
        else:
            yield f"{name} = {shown(value)}; it must be a whole number from 1 to {largest}"
    for side in ("encoder", "decoder"):
        width, heads = sizes.get("d_model"), sizes.get(f"{side}_attention_heads")
        if width and heads and width % heads:
            yield f"{side}_attention_heads = {heads}; it must divide d_model = {width}"
    for name in SHARES:
        value = fields.get(name, 0.0)
        if type(value) not in (int, float) or not 0 <= value < 1:
            yield f"{name} = {shown(value)}; it must be a number from 0 to below 1"
    for name in SWITCHES:
        if type(fields.get(name, True)) is not bool:
            yield f"{name} = {shown(fields[name])}; it must be true or false"
    activation = fields.get("activation_function", "gelu")
    if not isinstance(activation, str) or activation not in ACT2FN:
        yield f"activation_function = {shown(activation)} is not known; Whisper's is gelu"
    filter_width = fields.get("median_filter_width", 7)
    if type(filter_width) is not int or not 1 <= filter_width <= 1001:
        yield f"median_filter_width = {shown(filter_width)}; it must be a whole number from 1 to 1001"
    if "vocab_size" in sizes:
        yield from id_problems(fields, rows=sizes["vocab_size"])
