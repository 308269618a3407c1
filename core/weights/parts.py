"""What a model folder is read into, whatever its layout, and the checks that all layouts share."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import AddedToken, GenerationConfig, WhisperConfig, WhisperTokenizer

from core.errors import ModelError

TIMES = tuple(f"<|{index * 0.02:.2f}|>" for index in range(1501))

START, END = "<|startoftranscript|>", "<|endoftext|>"

HEAD, TABLE = "proj_out.weight", "model.decoder.embed_tokens.weight"
"""The output projection and the token embeddings, which are one matrix in Whisper as it was released."""

MOST_NAMED = 5
"""Tensors that an error names one by one."""

LONGEST_NAMED = 200


@dataclass(frozen=True)
class Weights:
    """The tensors of a folder by the names of transformers.

    Attributes:
        where: The folder or file, as an error names it.
        shapes: Of each, as stored.
        files: In which each is, by name.
        read: Yields some of them, float32, one at a time, so that no two copies of all stand in memory; raises
            ModelError if they cannot be read.
    """

    where: str
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, str]
    read: Callable[[Collection[str]], Iterator[tuple[str, torch.Tensor]]]


@dataclass(frozen=True)
class ModelParts:
    """A model, taken apart.

    Attributes:
        config: Sizes; the tokens that there are, and whether head and token table are one, as the weights have it.
        rows: Of embeddings and head as stored: tokens, and padding behind them.
        weights: The tensors.
        tokenizer: Complete.
        generation: How to generate.
        left_out: Generation settings that cannot be saved again.
    """

    config: WhisperConfig
    rows: int
    weights: Weights
    tokenizer: WhisperTokenizer
    generation: GenerationConfig
    left_out: Mapping[str, Any]

    def state(self) -> dict[str, torch.Tensor]:
        """Read all weights, float32 by name.

        Raises:
            ModelError: If they cannot be read, or hold values that are no numbers.
        """
        state = self._read(self.weights.shapes)
        if self.config.tie_word_embeddings:
            state[HEAD] = state[TABLE] = state[TABLE if TABLE in state else HEAD]
        return state

    def head(self) -> torch.Tensor:
        """Read the head's matrix alone, float32, [vocabulary, width]; raises as well."""
        name = HEAD if HEAD in self.weights.shapes else TABLE
        return self._read([name])[name]

    def _read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        broken: list[str] = []
        for name, stored in self.weights.read(names):
            tensor = stored[: self.config.vocab_size] if name in (HEAD, TABLE) else stored
            # Both are not a number where any value is; no table of truths as large as the tensor is made.
            least, most = torch.aminmax(tensor) if tensor.numel() else (torch.zeros(()), torch.zeros(()))
            if not (bool(least.isfinite()) and bool(most.isfinite())):
                counts = f"{int(tensor.isnan().sum())} NaN, {int(tensor.isinf().sum())} infinite"
                broken.append(f"{name} of {self.weights.files[name]} ({counts})")
            tensors[name] = tensor
        if broken:
            raise ModelError(
                f"{self.weights.where} holds values that are not finite numbers, in {listed(broken)}: nothing can be "
                "computed with this model. Copy it again, or save it again from before its training diverged; weights "
                "that were converted to float16 may be too large for it: convert them to bfloat16 or float32."
            )
        return tensors


def listed(names: Collection[str]) -> str:
    """Return the first of some names, and how many more there are; a stranger's name may be of any length."""
    first, more = [name[:LONGEST_NAMED] for name in list(names)[:MOST_NAMED]], len(names) - MOST_NAMED
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def heads_are_one(weights: Weights, *, tied: bool) -> bool:
    """Return whether the head is the token table, by transformers' rule (5.23): where both are stored and differ, not.

    Args:
        weights: Of the folder.
        tied: What its configuration says.

    Raises:
        ModelError: If a head of its own is said to be there and is not.
    """
    both = {name for name in (HEAD, TABLE) if name in weights.shapes}
    if len(both) == 2 and tied:
        head, table = (tensor for _, tensor in weights.read((HEAD, TABLE)))
        return torch.equal(head, table)
    if len(both) < 2 and not tied:
        raise ModelError(
            f"{weights.where} says that its head is not its token table (tie_word_embeddings is false), and holds no "
            f"{HEAD if HEAD not in both else TABLE}. Save the model with its head, or set tie_word_embeddings to true."
        )
    return tied


def require_all(weights: Weights, expected: Mapping[str, tuple[int, ...]], *, rows: int, tied: bool) -> None:
    """Make sure that every weight is there in its shape, and none besides.

    Args:
        weights: Of the folder.
        expected: Shapes by name, as the configuration gives them.
        rows: That embeddings and head have in the files, padding among them.
        tied: Whether head and token table are one, so that either is enough.

    Raises:
        ModelError: With what is missing, unknown, and of another shape.
    """
    missing = sorted(expected.keys() - weights.shapes.keys() - ({HEAD, TABLE} if tied else set()))
    if tied and not {HEAD, TABLE} & weights.shapes.keys():
        missing.append(TABLE)
    unknown = sorted(weights.shapes.keys() - expected.keys())
    if any(".lora_" in name for name in unknown):
        raise ModelError(
            f"{weights.where} holds adapters beside the weights ({listed(unknown)}). Merge them first, and save what "
            "that returns: model = model.merge_and_unload(); model.save_pretrained(FOLDER)."
        )
    shapes = {name: (rows, *shape[1:]) if name in (HEAD, TABLE) else shape for name, shape in expected.items()}
    differ = [
        f"{name} is {list(weights.shapes[name])}, not {list(shapes[name])}"
        for name in sorted(shapes.keys() & weights.shapes.keys())
        if weights.shapes[name] != shapes[name]
    ]
    said = {"missing": missing, "unknown": unknown, "of another shape": differ}
    problems = [f"  - {what}: {listed(names)}" for what, names in said.items() if names]
    if problems:
        summary = f"{weights.where} does not hold the weights that its configuration asks for:"
        raise ModelError("\n".join([summary, *problems, "Copy the complete model folder again."]))


def add_times(tokenizer: WhisperTokenizer) -> None:
    """Add the times that a tokenizer leaves out behind all that it has."""
    known = tokenizer.get_vocab()
    missing = [time for time in TIMES if time not in known]
    if missing:
        tokenizer.add_tokens([AddedToken(time, normalized=False, special=False) for time in missing])


def complete_tokens(tokenizer: WhisperTokenizer, rows: int, folder: object) -> int:
    """Add the times that some folders leave out, make sure that the model has a row for each token, and count them.

    Further rows are padding, which some trainers add to reach a multiple of 8 or 64: nothing is ever written with them.

    Raises:
        ModelError: If there is a token without a row, or the order is not Whisper's.
    """
    add_times(tokenizer)
    tokens = max(tokenizer.get_vocab().values()) + 1
    if tokens > rows:
        raise ModelError(
            f"{folder} has {tokens} tokens for {rows} embeddings. Copy the tokenizer that belongs to the model; or, if "
            "tokens were added, train the model with them first: model.resize_token_embeddings(len(tokenizer))."
        )
    for before, after in (("<|notimestamps|>", TIMES[0]), (TIMES[0], TIMES[1]), (TIMES[-2], TIMES[-1])):
        if token_id(tokenizer, before) + 1 != token_id(tokenizer, after):
            raise ModelError(f"{folder} does not number its tokens as Whisper does ({before}, {after}).")
    return tokens


def token_id(tokenizer: WhisperTokenizer, token: str) -> int:
    """Return the id of one token, or that of the unknown token (Whisper: the end of text) when there is none."""
    return cast(int, tokenizer.convert_tokens_to_ids(token))
