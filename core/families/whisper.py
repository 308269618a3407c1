"""The Whisper family: prompt, collation, the encoder in two parts, the decoder, and greedy decoding.

Facts that decide the code, from the Whisper paper (Radford et al. 2022, arXiv 2212.04356) and its released models:
audio is a log-mel spectrogram of 100 frames per second, which the encoder halves to 50; positions are absolute from the
start of the clip, so that a context shorter than 30 s uses the first positions; every text begins with a prompt, which
differs between English-only and multilingual models.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperEncoder

from core.config.losses.base import Reads
from core.ensemble import mixed_logits
from core.errors import ModelError
from core.families.cross_attention import CrossAttention, cross_attention
from core.precision import in_own_precision
from core.weights.load import LoadedWhisper

MEL_FRAMES_PER_SECOND = 100
MEL_MARGIN_SECONDS = 0.5
ENCODER_FRAMES_PER_SECOND = 50
IGNORED = -100
"""Label of positions that no loss sees."""


@dataclass(frozen=True)
class Batch:
    """Utterances collated for a forward pass with reference tokens.

    Attributes:
        inputs: Decoder input, one prompt then the text, padded, [batch, tokens].
        labels: Next token, `IGNORED` in the prompt and in padding, [batch, tokens].
        token_mask: Where labels count, [batch, tokens].
        frame_mask: Frames that hold audio, not padding, [batch, frames].
    """

    inputs: Int[Tensor, "batch tokens"]
    labels: Int[Tensor, "batch tokens"]
    token_mask: Bool[Tensor, "batch tokens"]
    frame_mask: Bool[Tensor, "batch frames"]


def frame_count(seconds: float) -> int:
    """Return how many encoder frames hold a clip of this length; the last one may be part padding."""
    return max(1, int(np.ceil(round(seconds * ENCODER_FRAMES_PER_SECOND, 6))))


class Whisper:
    """A Whisper model, teacher or student, taken apart where distillation needs it.

    It is asleep where it was only described: it has shapes, tokens and features, and `wake` reads its weights.

    Attributes:
        gives: What a loss may read of it.
        revision: Of its weights, equal where they are; None where nobody knows, as while they are trained.
    """

    gives: frozenset[Reads] = frozenset({"states", "logits", "targets"})

    def __init__(
        self,
        loaded: LoadedWhisper,
        *,
        language: str,
        model: PreTrainedModel | PeftModel | None = None,
        revision: str | None = None,
    ) -> None:
        """Wrap a loaded model, or another model with the same tokens and features.

        Raises:
            ModelError: If the model does not know the language.
        """
        self.loaded = loaded
        self.language = language
        self.model = loaded.model if model is None else model
        self.revision = loaded.revision if model is None else revision
        self._wanted_on = torch.device("cpu")
        self._head: Tensor | None = None
        self.prompt = list(loaded.prompt(language))
        self.end_token = cast(int, loaded.tokenizer.convert_tokens_to_ids("<|endoftext|>"))
        self.suppress = sorted({*loaded.suppress_tokens})
        self.suppress_first = sorted({*loaded.suppress_tokens, *loaded.begin_suppress_tokens})

    def with_model(self, model: PreTrainedModel | PeftModel, revision: str | None = None) -> "Whisper":
        """Return another model that reads and writes as this one does."""
        return Whisper(self.loaded, language=self.language, model=model, revision=revision)

    @property
    def asleep(self) -> bool:
        """Whether the weights were not read yet."""
        return self.model is self.loaded.model and next(self.model.parameters()).is_meta

    def wake(self) -> "Whisper":
        """Read the weights, if that was not done yet, and return this.

        Raises:
            ModelError: If they cannot be read.
        """
        if self.asleep:
            self.model = self.loaded.read().requires_grad_(False)
            self._head = None
            self.to(self._wanted_on)
        return self

    @property
    def encoder(self) -> WhisperEncoder:
        """Return the encoder of the model, or of the model inside its adapters."""
        return cast(WhisperEncoder, self.model.get_encoder())

    @property
    def decoder(self) -> WhisperDecoder:
        """Return the decoder."""
        return cast(WhisperDecoder, self.model.get_decoder())

    @property
    def plain(self) -> PreTrainedModel:
        """Return the model, which has no adapters around it."""
        assert isinstance(self.model, PreTrainedModel)
        return self.model

    @property
    def device(self) -> torch.device:
        """Where the model computes, or will once it is awake."""
        return self._wanted_on if self.asleep else next(self.model.parameters()).device

    def to(self, device: torch.device) -> "Whisper":
        """Move the model, or let it wake there, and return this."""
        self._wanted_on = device
        if not self.asleep:
            nn.Module.to(self.model, device)
        return self

    @property
    def width(self) -> int:
        """Width of every hidden state."""
        return self.model.config.d_model

    @property
    def mel_bins(self) -> int:
        """Number of mel bins that the encoder hears."""
        return self.model.config.num_mel_bins

    @property
    def encoder_layers(self) -> int:
        """Number of encoder layers."""
        return self.model.config.encoder_layers

    @property
    def decoder_layers(self) -> int:
        """Number of decoder layers."""
        return self.model.config.decoder_layers

    # Text

    def tokens(self, text: str) -> list[int]:
        """Return the text's tokens without prompt or end. Whisper writes a text with a leading space."""
        return self.loaded.tokenizer.encode(" " + text.strip(), add_special_tokens=False)

    @property
    def control_tokens(self) -> dict[int, str]:
        """Tokens that stand for no text, by id: all that its tokenizer calls special. A text may hold their names."""
        tokenizer = self.loaded.tokenizer
        added = {token: str(each) for token, each in tokenizer.added_tokens_decoder.items() if each.special}
        return added | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))

    def collate(self, token_lists: list[list[int]], seconds: list[float], audio_context: float) -> Batch:
        """Collate texts and clip lengths; teacher and student read the same prompt, which the losses never see.

        Args:
            token_lists: Text tokens, from `tokens`.
            seconds: Clip lengths.
            audio_context: What the encoder sees, in seconds.
        """
        prompt, end = self.prompt, self.end_token
        longest = max(len(prompt) + len(tokens) for tokens in token_lists)
        inputs = torch.full((len(token_lists), longest), end)
        labels = torch.full((len(token_lists), longest), IGNORED)
        for row, tokens in enumerate(token_lists):
            sequence = torch.tensor([*prompt, *tokens, end])
            inputs[row, : len(sequence) - 1] = sequence[:-1]
            labels[row, len(prompt) - 1 : len(sequence) - 1] = sequence[len(prompt) :]
        frames = torch.tensor([frame_count(length) for length in seconds])
        frame_mask = torch.arange(frame_count(audio_context)) < frames[:, None]
        return Batch(inputs, labels, labels != IGNORED, frame_mask)

    # Encoder

    def mel(self, audio: list[np.ndarray], audio_context: float) -> Float[Tensor, "batch mels time"]:
        """Return log-mel features of 16 kHz clips, padded with silence to the context.

        Features are computed on a little more silence and cut: at an end, frames would be of mirrored samples. So each
        frame is that of the 30 s that Whisper was trained on, on a CPU bit for bit.

        Raises:
            ModelError: If a clip is longer than the context.
        """
        if any(len(clip) / 16_000 > audio_context + 1e-6 for clip in audio):
            raise ModelError(f"A clip is longer than the audio context of {audio_context:g} s. Raise audio_context.")
        extractor = self.loaded.feature_extractor
        samples = min(extractor.n_samples, round(16_000 * (audio_context + MEL_MARGIN_SECONDS)))
        # Where the model is: for a large one on a GPU, features made on the CPU would take longer than all its layers.
        with in_own_precision(self.device):
            features = extractor(
                audio, sampling_rate=16_000, max_length=samples, return_tensors="pt", device=str(self.device)
            )
        return features.input_features[..., : round(audio_context * MEL_FRAMES_PER_SECOND)]

    def encode_start(self, mel: Float[Tensor, "batch mels time"], layers: int) -> Float[Tensor, "batch frames width"]:
        """Return the states after the convolutions, positions and the first layers: what `freeze_below` caches."""
        encoder = self.encoder
        states = nn.functional.gelu(encoder.conv1(mel))
        states = nn.functional.gelu(encoder.conv2(states)).permute(0, 2, 1)
        states = states + encoder.embed_positions.weight[: states.shape[1]]
        for layer in encoder.layers[:layers]:
            states = layer(states, None)
        return states

    def encode_rest(
        self, states: Float[Tensor, "batch frames width"], start: int
    ) -> dict[int, Float[Tensor, "batch frames width"]]:
        """Return the states of every layer from `start` on; the last layer's after the final norm.

        Where `start` is past the last layer, the states that are given go through the final norm alone.
        """
        stream = self.encoder_stream(states, start)
        outputs = dict(enumerate(stream[1:], start))
        outputs[self.encoder_layers - 1] = self.encoder.layer_norm(stream[-1])
        return outputs

    def encoder_stream(
        self, states: Float[Tensor, "batch frames width"], start: int
    ) -> list[Float[Tensor, "batch frames width"]]:
        """Return the states that enter layer `start`, and what leaves it and all later ones, before the final norm."""
        stream = [states]
        for layer in self.encoder.layers[start:]:
            stream.append(layer(stream[-1], None))
        return stream

    # Decoder

    def decode(
        self, encoder_states: Float[Tensor, "batch frames width"], inputs: Int[Tensor, "batch tokens"]
    ) -> dict[int, Float[Tensor, "batch tokens width"]]:
        """Return the states of every decoder layer; the last layer's after the final norm."""
        output = self.decoder(inputs, encoder_hidden_states=encoder_states, output_hidden_states=True, use_cache=False)
        return dict(enumerate(output.hidden_states[1:]))

    def decoder_stream(
        self, encoder_states: Float[Tensor, "batch frames width"], inputs: Int[Tensor, "batch tokens"]
    ) -> list[Float[Tensor, "batch tokens width"]]:
        """Return the states that enter the first decoder layer, and what leaves every layer, before the final norm."""
        last: list[Tensor] = []
        hook = self.decoder.layer_norm.register_forward_pre_hook(lambda norm, given: last.append(given[0]))
        try:
            output = self.decoder(
                inputs, encoder_hidden_states=encoder_states, output_hidden_states=True, use_cache=False
            )
        finally:
            hook.remove()
        return [*output.hidden_states[:-1], *last]

    def decode_without(
        self,
        encoder_states: Float[Tensor, "batch frames width"],
        inputs: Int[Tensor, "batch tokens"],
        dropped: Collection[int],
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the last decoder states, after the final norm, with some layers left out."""
        decoder, layers = self.decoder, self.decoder.layers
        decoder.layers = nn.ModuleList(layer for number, layer in enumerate(layers) if number not in dropped)
        try:
            return decoder(inputs, encoder_hidden_states=encoder_states, use_cache=False).last_hidden_state
        finally:
            decoder.layers = layers

    def cross_attention(self, encoder_states: Float[Tensor, "batch frames width"]) -> CrossAttention:
        """Return what several passes of the decoder over the same clips share."""
        return cross_attention(self.decoder, encoder_states)

    def decode_again(
        self, heard: CrossAttention, inputs: Int[Tensor, "batch tokens"]
    ) -> dict[int, Float[Tensor, "batch tokens width"]]:
        """Return what `decode` returns, with keys and values that are there."""
        output = self.decoder(
            inputs,
            encoder_hidden_states=heard.states,
            past_key_values=heard.cache(),
            output_hidden_states=True,
            use_cache=True,
        )
        return dict(enumerate(output.hidden_states[1:]))

    def head(self, states: Float[Tensor, "*points width"]) -> Float[Tensor, "*points vocabulary"]:
        """Return raw logits."""
        return nn.functional.linear(states, self.vocabulary)

    @property
    def vocabulary(self) -> Float[Tensor, "vocabulary width"]:
        """All that the head is: a matrix without bias. A model that is asleep reads nothing else for it, once."""
        if not self.asleep:
            return cast(nn.Linear, self.model.get_output_embeddings()).weight
        if self._head is None:
            self._head = self.loaded.read_head().to(self._wanted_on)
        return self._head

    @torch.inference_mode()
    def transcribe(self, heard: CrossAttention, *, token_caps: list[int]) -> list[str]:
        """Decode greedily with a key-value cache.

        Tokens that the model suppresses never appear; a text ends at the end token or at its cap.

        Args:
            heard: See `cross_attention`.
            token_caps: Most text tokens of each utterance.
        """
        return transcribe_together([self], [heard], weights=(1.0,), token_caps=token_caps)


@torch.inference_mode()
def transcribe_together(
    models: Sequence[Whisper],
    heard: Sequence[CrossAttention],
    *,
    weights: Sequence[float],
    token_caps: list[int],
) -> list[str]:
    """Decode greedily with the weighted mean of several models' probabilities, taken anew for every token.

    Each model reads the common text so far with a key-value cache of its own. Once half of the texts have ended, the
    decoders go on with the others alone.

    Args:
        models: Over one token table.
        heard: By each model, see `Whisper.cross_attention`.
        weights: Of each model; they sum to one.
        token_caps: Most text tokens of each utterance.
    """
    first = models[0]
    device = heard[0].states.device
    clips = torch.arange(len(token_caps), device=device)
    feed = torch.tensor([first.prompt] * len(clips), device=device)
    caps = torch.tensor(token_caps, device=device)
    done = torch.zeros_like(caps, dtype=torch.bool)
    states, caches = [each.states for each in heard], [each.cache() for each in heard]
    positions = min(model.model.config.max_target_positions for model in models)
    texts = torch.full(
        (len(clips), min(max(token_caps), positions - len(first.prompt))), first.end_token, device=device
    )
    for step in range(texts.shape[1]):
        each = []
        for model, own, cache in zip(models, states, caches, strict=True):
            output = model.decoder(feed, encoder_hidden_states=own, past_key_values=cache, use_cache=True)
            each.append(model.head(output.last_hidden_state[:, -1]).float())
        logits = each[0] if len(each) == 1 else mixed_logits(each, torch.tensor([weights] * len(clips)))
        logits[:, first.suppress if step else first.suppress_first] = -torch.inf
        choice = logits.argmax(dim=-1)
        choice[done | (caps[clips] <= step)] = first.end_token
        texts[clips, step] = choice
        done |= choice == first.end_token
        left = len(done) - int(done.sum())
        if not left:
            break
        feed = choice[:, None]
        if 2 * left <= len(done):
            going = (~done).nonzero().squeeze(1)
            clips, feed, done, states = clips[going], feed[going], done[going], [own[going] for own in states]
            for cache in caches:
                cache.batch_select_indices(going)
    return [first.loaded.tokenizer.decode(row, skip_special_tokens=True).strip() for row in texts.tolist()]
