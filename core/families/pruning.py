"""Students that are made of some of a teacher's layers."""

import copy
from typing import cast

import torch
from torch import nn
from transformers.models.whisper.modeling_whisper import WhisperAttention

from core.config import PrunedStudent
from core.errors import ConfigError, Problem
from core.families.whisper import Whisper


def prune(teacher: Whisper, student: PrunedStudent) -> Whisper:
    """Return a student made of some of the teacher's layers, with weights of its own.

    Raises:
        ConfigError: If a layer that is kept does not exist.
    """
    kept = {
        "encoder": student.encoder_layers or tuple(range(teacher.encoder_layers)),
        "decoder": student.decoder_layers or tuple(range(teacher.decoder_layers)),
    }
    count = {"encoder": teacher.encoder_layers, "decoder": teacher.decoder_layers}
    problems = [
        Problem(f"student.{side}_layers", f"the teacher has layers 0 to {count[side] - 1}; remove {layer}")
        for side, layers in kept.items()
        for layer in layers
        if layer >= count[side]
    ]
    if problems:
        raise ConfigError("The student cannot be cut from this teacher:", problems)
    model = copy.deepcopy(teacher.plain)
    pruned = teacher.with_model(model, teacher.revision and f"{teacher.revision} {kept}")
    for part, layers in ((pruned.encoder, kept["encoder"]), (pruned.decoder, kept["decoder"])):
        part.layers = nn.ModuleList([part.layers[layer] for layer in layers])
    for number, layer in enumerate(pruned.decoder.layers):
        # The key-value cache finds a layer's entries by this number.
        for attention in ("self_attn", "encoder_attn"):
            cast(WhisperAttention, layer.get_submodule(attention)).layer_idx = number
    model.config.encoder_layers, model.config.decoder_layers = len(kept["encoder"]), len(kept["decoder"])
    model.config.num_hidden_layers = model.config.encoder_layers
    if model.generation_config is not None:
        # Alignment heads name layers of the teacher; word timestamps of the student would read the wrong ones.
        setattr(model.generation_config, "alignment_heads", None)  # noqa: B010 - a field of Whisper's alone
    return pruned


def shares_start(student: Whisper, teacher: Whisper, layers: int) -> bool:
    """Return whether the first encoder layers of both are equal, weight by weight, so that one pass serves both."""
    if layers > min(student.encoder_layers, teacher.encoder_layers) or student.width != teacher.width:
        return False
    parts = ["conv1", "conv2", "embed_positions", *(f"layers.{number}" for number in range(layers))]
    return all(
        torch.equal(mine, theirs)
        for part in parts
        for mine, theirs in zip(
            student.encoder.get_submodule(part).state_dict().values(),
            teacher.encoder.get_submodule(part).state_dict().values(),
            strict=True,
        )
    )
