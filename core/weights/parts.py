"""What a model folder is read into, whatever its layout, and the checks that all layouts share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from transformers import AddedToken, GenerationConfig, WhisperConfig, WhisperTokenizer

from core.errors import ModelError

MULTILINGUAL_VOCABULARY = 51865
"""Smallest token table with which Whisper knows more than English (51,864 is English only)."""

TIMES = tuple(f"<|{index * 0.02:.2f}|>" for index in range(1501))


@dataclass(frozen=True)
class ModelParts:
    """A model, taken apart.

    Attributes:
        config: Sizes.
        state: Reads the weights, float32 by name; raises ModelError if they cannot be used.
        head: Reads the head's matrix alone, float32, [vocabulary, width]; raises as well.
        tokenizer: Complete.
        generation: How to generate.
    """

    config: WhisperConfig
    state: Callable[[], dict[str, torch.Tensor]]
    head: Callable[[], torch.Tensor]
    tokenizer: WhisperTokenizer
    generation: GenerationConfig


def complete_tokens(tokenizer: WhisperTokenizer, vocabulary: int, folder: object) -> None:
    """Add the times that some folders leave out, and make sure that the table fits the model.

    Raises:
        ModelError: If the tokenizer does not have one id for every row of the embeddings, in Whisper's order.
    """
    known = tokenizer.get_vocab()
    missing = [time for time in TIMES if time not in known]
    if missing:
        tokenizer.add_tokens([AddedToken(time, normalized=False, special=False) for time in missing])
    if len(tokenizer) != vocabulary:
        raise ModelError(
            f"{folder} has {len(tokenizer)} tokens for {vocabulary} embeddings. Copy the model folder again."
        )
    for before, after in (("<|notimestamps|>", TIMES[0]), (TIMES[0], TIMES[1]), (TIMES[-2], TIMES[-1])):
        if token_id(tokenizer, before) + 1 != token_id(tokenizer, after):
            raise ModelError(f"{folder} does not number its tokens as Whisper does ({before}, {after}).")


def token_id(tokenizer: WhisperTokenizer, token: str) -> int:
    """Return the id of one token, or that of the unknown token (Whisper: the end of text) when there is none."""
    return cast(int, tokenizer.convert_tokens_to_ids(token))
