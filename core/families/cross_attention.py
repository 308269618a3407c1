"""Keys and values of a decoder's cross-attention, computed once for all that it reads and writes about some clips."""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache
from transformers.models.whisper.modeling_whisper import WhisperAttention, WhisperDecoder


@dataclass(frozen=True)
class CrossAttention:
    """What a decoder attends to.

    Attributes:
        states: Of the last encoder layer, [batch, frames, width].
        layers: Keys and values of each decoder layer, both [batch, heads, frames, size].
    """

    states: Float[Tensor, "batch frames width"]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def cache(self) -> EncoderDecoderCache:
        """Return a key-value cache that holds these keys and values, and of the text nothing yet."""
        cross = DynamicCache()
        for keys, values in self.layers:
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            # Not by `update`, which would copy them.
            layer.keys, layer.values = keys, values
            cross.layers.append(layer)
        return EncoderDecoderCache(DynamicCache(), cross)


def cross_attention(decoder: WhisperDecoder, states: Float[Tensor, "batch frames width"]) -> CrossAttention:
    """Return the keys and values of every layer, as the decoder would make them itself."""
    layers = []
    for layer in decoder.layers:
        attention = cast(WhisperAttention, layer.encoder_attn)
        by_head = (-1, (attention.num_heads, attention.head_dim))
        keys, values = (
            project(states).unflatten(*by_head).transpose(1, 2).contiguous()
            for project in (attention.k_proj, attention.v_proj)
        )
        layers.append((keys, values))
    return CrossAttention(states, tuple(layers))
