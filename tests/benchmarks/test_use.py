"""Operations that the benchmark counts are those that a model needs, its attention among them."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.use import operations_of
from core.counting import TOKENS_PER_SECOND, flops_per_second
from core.families.whisper import MEL_FRAMES_PER_SECOND, Whisper
from tests.engine import random_whisper

CONTEXT = 6.0


def forward(model: Whisper) -> torch.Tensor:
    mel = torch.zeros(1, model.mel_bins, round(CONTEXT * MEL_FRAMES_PER_SECOND))
    encoded = model.encode_rest(model.encode_start(mel, 0), 0)[model.encoder_layers - 1]
    tokens = torch.zeros(1, round(TOKENS_PER_SECOND * CONTEXT), dtype=torch.long)
    return model.head(model.decode(encoded, tokens)[model.decoder_layers - 1])


@pytest.fixture
def model() -> Whisper:
    model = random_whisper()
    model.model.set_attn_implementation("sdpa")
    return model


def test_a_pass_has_as_many_operations_as_the_count_of_its_cost(model: Whisper) -> None:
    with torch.no_grad():
        found = operations_of(lambda: forward(model))
    assert found == pytest.approx(CONTEXT * flops_per_second(model, audio_context=CONTEXT), rel=1e-9)


def test_attention_is_in_the_count_forward_and_backward(model: Whisper) -> None:
    def step() -> None:
        forward(model).sum().backward()

    model.model.requires_grad_(True)
    found = operations_of(step)
    model.model.set_attn_implementation("eager")
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    assert found == counter.get_total_flops()


def test_fused_attention_alone_is_counted() -> None:
    query, key, value = torch.randn(3, 1, 2, 50, 16)
    found = operations_of(lambda: nn.functional.scaled_dot_product_attention(query, key, value))
    assert found == 2 * (2 * 2 * 50 * 50 * 16)
