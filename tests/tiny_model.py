"""A Whisper of a few thousand random weights, for tests that ask about parts and not about speech."""

import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

WIDTH = 16
ENCODER_LAYERS = 3
DECODER_LAYERS = 2
VOCABULARY = 40


def tiny_model(seed: int = 0) -> WhisperForConditionalGeneration:
    """Return a frozen model in evaluation mode; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=VOCABULARY,
                d_model=WIDTH,
                encoder_layers=ENCODER_LAYERS,
                decoder_layers=DECODER_LAYERS,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=2 * WIDTH,
                decoder_ffn_dim=2 * WIDTH,
                num_mel_bins=8,
                max_source_positions=20,
                max_target_positions=12,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            )
        )
    return model.eval().requires_grad_(False)


def logits(model: torch.nn.Module) -> Tensor:
    """Return what a model says about two fixed clips, [2, 5, vocabulary]."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 8, 40, generator=generator)
    tokens = torch.randint(3, VOCABULARY, (2, 5), generator=generator)
    return model(input_features=features, decoder_input_ids=tokens).logits
