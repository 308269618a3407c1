"""Small real pieces for the engine's tests: Whisper with random weights, and the packaged tiny.en."""

import dataclasses
from functools import cache
from pathlib import Path

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from core.config import RunConfig, parse_run
from core.families.whisper import Whisper
from core.sources import Utterance, prepare
from core.weights.load import LoadedWhisper, load_whisper

WIDTH = 32


@cache
def tiny_en() -> LoadedWhisper:
    """Return the pretrained Whisper tiny.en; whoever changes its weights copies it first."""
    return load_whisper("openai/whisper-tiny.en")


def random_whisper(*, encoder_layers: int = 4, decoder_layers: int = 3, width: int = WIDTH, seed: int = 0) -> Whisper:
    """Return a small Whisper with random weights and tiny.en's tokens and features."""
    real = tiny_en().model.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=real.vocab_size,
                d_model=width,
                encoder_layers=encoder_layers,
                decoder_layers=decoder_layers,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=2 * width,
                decoder_ffn_dim=2 * width,
                bos_token_id=real.bos_token_id,
                eos_token_id=real.eos_token_id,
                pad_token_id=real.pad_token_id,
                decoder_start_token_id=real.decoder_start_token_id,
            )
        )
    model.eval().requires_grad_(False)
    return Whisper(dataclasses.replace(tiny_en(), model=model), language="en")


def utterances(folder: Path, *, train: int = 4) -> tuple[Utterance, ...]:
    """Return a few utterances of generated speech, made once per folder."""
    source = run_config(source={"kind": "generated", "train": train, "development": 1, "test": 1}).source
    return prepare(source, folder, lambda done, total: None).train


def run_config(**changes: object) -> RunConfig:
    """Return a small run: manifold with every term, unless `changes` say otherwise."""
    fields: dict[str, object] = {
        "name": "test",
        "method": {
            "name": "manifold",
            "losses": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}, {"kind": "geodesic", "weight": 4}],
        },
        "lora": {"rank": 4, "alpha": 8},
        "training": {"steps": 3, "batch_size": 2, "audio_context": 8, "evaluations": 1, "precision": "float32"},
        "evaluation": {"audio_context": 10, "batch_size": 4},
        "source": {"kind": "generated", "train": 4, "development": 2, "test": 2},
    }
    return parse_run({**fields, **changes})
