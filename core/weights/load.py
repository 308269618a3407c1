"""A Whisper model in memory, from any of the places where models come from."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from core.errors import ModelError
from core.weights import Hub, ctranslate2_model, resolve, transformers_model
from core.weights.files import ModelFiles
from core.weights.parts import ModelParts, require_all, token_id


@dataclass(frozen=True)
class LoadedWhisper:
    """A Whisper model and what is needed to speak with it.

    Attributes:
        model: float32, evaluation mode, scaled-dot-product attention, with its generation config; of `describe_whisper`
            on the meta device, with shapes and without weights.
        tokenizer: Complete: the text tokens, the specials, and the 1,501 times.
        feature_extractor: 16 kHz audio to log-mel frames.
        suppress_tokens: Ids that are never written.
        begin_suppress_tokens: Ids that are not written first.
        is_multilingual: Whether the prompt names language and task.
        origin: Where the weights came from, a few words.
        revision: sha256 over config and weights; equal models have equal revisions.
        read: Reads all weights into a model of its own, on the CPU; raises ModelError if they cannot be used.
        read_head: Reads the head's matrix alone, [vocabulary, width]; raises as well.
        left_out: Generation settings of its folder that cannot be saved again, and were not read.
    """

    model: WhisperForConditionalGeneration
    tokenizer: WhisperTokenizer
    feature_extractor: WhisperFeatureExtractor
    suppress_tokens: tuple[int, ...]
    begin_suppress_tokens: tuple[int, ...]
    is_multilingual: bool
    origin: str
    revision: str
    read: Callable[[], WhisperForConditionalGeneration]
    read_head: Callable[[], torch.Tensor]
    left_out: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return self.tokenizer.get_vocab()

    def prompt(self, language: str = "en") -> tuple[int, ...]:
        """Return the ids that every transcript starts with: no times; for multilingual models language and task.

        Raises:
            ModelError: If the model does not know the language.
        """
        names = ["<|startoftranscript|>", "<|notimestamps|>"]
        if self.is_multilingual:
            names[1:1] = [f"<|{language}|>", "<|transcribe|>"]
        elif language != "en":
            raise ModelError(f"The model knows English only, not '{language}'. Take a multilingual model.")
        ids = [token_id(self.tokenizer, name) for name in names]
        if self.tokenizer.unk_token_id in ids:
            raise ModelError(
                f"The model does not know the language '{language}'. Give it as Whisper writes it: en, de, ..."
            )
        return tuple(ids)


def load_whisper(model: str, revision: str | None = None, *, hub: Hub | None = None) -> LoadedWhisper:
    """Load a Whisper model from a folder, the Hub, or an installed package.

    Args:
        model: A local folder (transformers or CTranslate2), or a Hub id.
        revision: Hub commit, tag or branch; ignored for a local folder.
        hub: Which Hub to ask; the usual one by default.

    Raises:
        ModelError: If it cannot be found, read or trusted.
    """
    return load_files(resolve(model, revision, hub=hub))


def describe_whisper(model: str, revision: str | None = None, *, hub: Hub | None = None) -> LoadedWhisper:
    """Return all of a Whisper model but its weights, which `LoadedWhisper.read` reads; see `load_whisper`.

    Raises:
        ModelError: If it cannot be found, read or trusted, as far as that shows without the weights.
    """
    return describe_files(resolve(model, revision, hub=hub))


def load_files(files: ModelFiles) -> LoadedWhisper:
    """Load a Whisper model from files that were found already."""
    described = describe_files(files)
    return replace(described, model=described.read())


def describe_files(files: ModelFiles) -> LoadedWhisper:
    """Return all of a model but its weights, from files that were found already."""
    read_parts = ctranslate2_model.read_parts if files.layout == "ctranslate2" else transformers_model.read_parts
    parts = read_parts(files)
    model = _empty(parts, files)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    require_all(parts.weights, expected, rows=parts.rows, tied=parts.config.tie_word_embeddings)
    return LoadedWhisper(
        model=_finished(model, parts),
        tokenizer=parts.tokenizer,
        feature_extractor=WhisperFeatureExtractor(feature_size=parts.config.num_mel_bins),
        suppress_tokens=tuple(parts.generation.suppress_tokens or ()),
        begin_suppress_tokens=tuple(parts.generation.begin_suppress_tokens or ()),
        is_multilingual=bool(getattr(parts.generation, "is_multilingual", False)),
        origin=files.origin,
        revision=files.content_hash(),
        read=lambda: _build(parts, files),
        read_head=parts.head,
        left_out=parts.left_out,
    )


def _empty(parts: ModelParts, files: ModelFiles) -> WhisperForConditionalGeneration:
    """Return the model's shapes: no memory and no initialisation."""
    try:
        with torch.device("meta"):
            return WhisperForConditionalGeneration(copy.deepcopy(parts.config))
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:  # sizes that cannot be
        raise ModelError(f"The configuration of {files.folder} is of no model that can be: {error}") from error


def _build(parts: ModelParts, files: ModelFiles) -> WhisperForConditionalGeneration:
    """Put the weights into a model, each of them and nothing else."""
    model = _empty(parts, files)
    model.load_state_dict(parts.state(), strict=True, assign=True)
    return _finished(model, parts)


def _finished(model: WhisperForConditionalGeneration, parts: ModelParts) -> WhisperForConditionalGeneration:
    model.tie_weights()
    model.generation_config = copy.deepcopy(parts.generation)
    model.set_attn_implementation("sdpa")
    return model.eval()
