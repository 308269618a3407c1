"""How a model is to generate: whether it knows more than English, what it never writes, and what can be saved again."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, WhisperConfig, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES
from transformers.utils import logging

from core.errors import ModelError
from core.weights.configuration import IDS, SUPPRESSED, id_problems, refused, shown
from core.weights.files import read_json
from core.weights.parts import END, START, token_id

GPT2_END = 50256
"""Id of the end of text behind GPT-2's byte pairs, which only the English models have."""

ESSENTIAL = (
    *IDS,
    *SUPPRESSED,
    "max_length",
    "is_multilingual",
    "lang_to_id",
    "task_to_id",
    "no_timestamps_token_id",
    "prev_sot_token_id",
    "alignment_heads",
    "max_initial_timestamp_index",
    "return_timestamps",
)
"""What Whisper is told by; all else says how a text is searched for, which here is done greedily."""

NEVER_KEPT = ("forced_decoder_ids", "transformers_version", "_from_model_config")
"""Superseded by the prompt, and in the way of it; and what each program writes of itself."""

SEARCH = frozenset(GenerationConfig().to_dict()) - {*ESSENTIAL, *NEVER_KEPT}
"""Every other setting that transformers knows."""


@dataclass(frozen=True)
class Generation:
    """How a model is to generate.

    Attributes:
        config: Can be saved.
        left_out: Settings that no program could save again, and what they were.
    """

    config: GenerationConfig
    left_out: Mapping[str, Any]


def read_generation(
    folder: Path, *, tokenizer: WhisperTokenizer, config: WhisperConfig, of_config: Mapping[str, Any], rows: int
) -> Generation:
    """Read generation_config.json; where it is there, nothing that config.json says of generating counts.

    Args:
        folder: Of the model.
        tokenizer: Complete.
        config: Its number of tokens counts.
        of_config: What config.json says of token ids; once they stood there alone.
        rows: Of the embeddings, padding among them.

    Raises:
        ModelError: With everything that cannot be.
    """
    path = folder / "generation_config.json"
    fields = dict(read_json(path)) if path.exists() else {n: of_config[n] for n in SUPPRESSED if n in of_config}
    problems = list(id_problems(fields, rows=rows))
    if type(fields.get("is_multilingual", True)) is not bool:
        problems.append(f"is_multilingual = {shown(fields['is_multilingual'])}; it must be true or false")
    for name in ("lang_to_id", "task_to_id"):
        ids = fields.get(name)
        if ids is not None and not _maps_tokens(ids, len(tokenizer)):
            problems.append(f"{name} = {shown(ids)}; it must give token ids by name")
    if problems:
        raise refused(path if path.exists() else folder / "config.json", problems)
    for name in IDS:
        if fields.get(name) is None and of_config.get(name) is not None:
            fields[name] = of_config[name]
    forced = fields.get("forced_decoder_ids") or of_config.get("forced_decoder_ids")
    return generation_of(fields, tokenizer=tokenizer, config=config, forced=forced, path=path)


def generation_of(
    fields: Mapping[str, Any], *, tokenizer: WhisperTokenizer, config: WhisperConfig, forced: Any, path: Path
) -> Generation:
    """Return how to generate, of settings whose ids can be.

    Args:
        fields: Of a generation config; what is missing is the tokenizer's.
        tokenizer: Complete.
        config: Its number of tokens and of positions count.
        forced: Ids that old folders force behind the start, as pairs of position and id.
        path: Of the file that they came from.

    Raises:
        ModelError: If the ids are not those of the tokenizer.
    """
    start, end = token_id(tokenizer, START), token_id(tokenizer, END)
    given = {name: value for name, value in fields.items() if name not in NEVER_KEPT}
    usual = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    values = {**usual, **{name: given[name] for name in IDS if given.get(name) is not None}}
    ends = values["eos_token_id"] if isinstance(values["eos_token_id"], list) else [values["eos_token_id"]]
    if values["decoder_start_token_id"] != start or end not in ends:
        raise ModelError(
            f"{path} begins a text with token {values['decoder_start_token_id']} and ends it with "
            f"{', '.join(map(str, ends))}, but the tokenizer beside it with {start} and {end}: they are of two models. "
            "Copy the tokenizer that belongs to this one."
        )
    values |= _whisper_ids(given, tokenizer, forced)
    most, longest = config.max_target_positions, given.get("max_length")
    values["max_length"] = longest if type(longest) is int and 1 <= longest <= most else most
    for name in SUPPRESSED:
        # Rows of padding are cut off, and need no suppressing.
        values[name] = [n for n in given.get(name) or () if 0 <= n < config.vocab_size] or None
    for name in ("alignment_heads", "max_initial_timestamp_index", "prev_sot_token_id", "return_timestamps"):
        if name in given:
            values[name] = given[name]
    return _savable(values, {n: v for n, v in given.items() if n not in ESSENTIAL}, path)


def _whisper_ids(given: Mapping[str, Any], tokenizer: WhisperTokenizer, forced: Any) -> dict[str, Any]:
    """Return what tells a multilingual model from an English one, as transformers reads it."""
    ids: dict[str, Any] = {"no_timestamps_token_id": token_id(tokenizer, "<|notimestamps|>")}
    ids["is_multilingual"] = _is_multilingual(given, tokenizer, forced)
    if ids["is_multilingual"]:
        known = tokenizer.get_vocab()
        names = [f"<|{language}|>" for language in LANGUAGES]
        ids["lang_to_id"] = given.get("lang_to_id") or {name: known[name] for name in names if name in known}
        tasks = {task: token_id(tokenizer, f"<|{task}|>") for task in ("transcribe", "translate")}
        ids["task_to_id"] = given.get("task_to_id") or tasks
    return ids


def _is_multilingual(given: Mapping[str, Any], tokenizer: WhisperTokenizer, forced: Any) -> bool:
    """Return what the settings say, or else the tokenizer; the number of tokens says nothing, for any may be added.

    English models have the names of languages in their tables, too, so that these alone tell nothing.
    """
    if "is_multilingual" in given:
        return given["is_multilingual"]
    if given.get("lang_to_id"):
        return True
    first = forced[0][1] if isinstance(forced, list) and forced and _is_pair(forced[0]) else None
    if type(first) is int and 0 <= first < len(tokenizer):
        return re.fullmatch(r"<\|[a-z]{2,3}\|>", str(tokenizer.convert_ids_to_tokens(first))) is not None
    return token_id(tokenizer, END) != GPT2_END


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _maps_tokens(value: Any, tokens: int) -> bool:
    return isinstance(value, dict) and all(type(number) is int and 0 <= number < tokens for number in value.values())


def _savable(essential: Mapping[str, Any], wanted: dict[str, Any], path: Path) -> Generation:
    """Return as many of the wanted settings as can be saved together.

    What can be saved is for transformers to say, and some settings count only beside others: a temperature needs
    sampling, a length penalty beams. So each is tried until no more can be added.
    """
    if (reason := _why_not_saved(essential)) is not None:
        raise ModelError(f"{path} cannot be used ({reason}).")
    kept = dict(essential)
    left = {name: value for name, value in wanted.items() if value is not None}
    before = None
    while before != len(left):
        before = len(left)
        for name in sorted(SEARCH & left.keys()):
            if _why_not_saved({**kept, name: left[name]}) is None:
                kept[name] = left.pop(name)
    return Generation(GenerationConfig.from_dict(kept), left)


def _why_not_saved(fields: Mapping[str, Any]) -> str | None:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it also warns of what it refuses
    try:
        config = GenerationConfig.from_dict(dict(fields))
        config.validate(strict=True)
        config.to_json_string()
    except Exception as error:  # noqa: BLE001 - whatever transformers raises on a stranger's settings is a reason
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    finally:
        logging.set_verbosity(verbosity)
    return None
