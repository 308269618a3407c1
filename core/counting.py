"""What a run costs, counted before anything is trained: parameters, each storage once, and FLOPs per second of audio.

Models are counted as copies on the meta device, which have shapes and no weights: a count takes neither memory nor
arithmetic, however large the model.
"""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig, WhisperForConditionalGeneration

from core.config import RunConfig
from core.families.whisper import MEL_FRAMES_PER_SECOND, Whisper
from core.lora import add_adapters, count_parameters
from core.mixture import inactive_parameters
from core.preflight import point_map_of, within_budget
from core.scaling.work import TOKENS_PER_SECOND
from core.store.records import ParameterCounts


def on_meta(model: Whisper) -> Whisper:
    """Return a model of the same shape without weights and adapters.

    Its attention is written out in matrix products, so that whoever counts sees each of them.
    """
    with torch.device("meta"):
        empty = WhisperForConditionalGeneration(copy.deepcopy(cast(WhisperConfig, model.model.config)))
    empty.set_attn_implementation("eager")
    return model.with_model(empty.eval().requires_grad_(False))


def parameter_counts(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> ParameterCounts:
    """Count what a run would train, deploy and compute.

    Args:
        config: The run; a budget is turned into its rank first.
        student: Without adapters.
        teachers: All of them.

    Raises:
        ConfigError: If the adapters match nothing, or the budget is too small for rank 1.
    """
    student, teachers = on_meta(student), [on_meta(teacher) for teacher in teachers]
    sizes = [count_parameters(teacher.model) for teacher in teachers]
    config = within_budget(config, student=student, teachers=teachers)
    adapted = add_adapters(student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    adapters = count_parameters(adapted, only_trainable=True)
    if config.lora.mixture is not None:
        student = student.with_model(adapted)  # it is deployed as it is: nothing is merged
    stored = count_parameters(student.model)
    projections = 0
    if config.method.aligns:
        projections = count_parameters(point_map_of(config, student=student, teachers=teachers))
    context = config.evaluation.audio_context
    return ParameterCounts(
        teacher=sum(sizes),
        student=stored,
        student_active=stored - inactive_parameters(student.model),
        adapters=adapters,
        projections=projections,
        largest_teacher=max(sizes),
        student_non_embedding=non_embedding_parameters(student.model),
        teacher_flops=sum(_flops_per_second(teacher, audio_context=context) for teacher in teachers),
        student_flops=_flops_per_second(student, audio_context=context),
    )


def non_embedding_parameters(model: nn.Module) -> int:
    """Return the number of parameters without tables of tokens and positions (Kaplan et al. 2020, arXiv 2001.08361).

    Whisper's output layer is its token table, and is not counted either.
    """
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return count_parameters(model) - count_parameters(*tables)


def flops_per_second(model: Whisper, *, audio_context: float) -> float:
    """Return the floating-point operations of encoder, decoder and output layer per second of audio.

    The encoder reads the whole context, padded or not; the decoder reads `TOKENS_PER_SECOND` in one pass, as many as
    its positions allow. A multiplication and an addition are two operations; only matrix products and convolutions
    count, as in `torch.utils.flop_counter`. Of a mixture all experts count, as they are computed, also those that a
    router leaves out.

    Args:
        model: Counted as a copy without weights.
        audio_context: What the encoder sees, in seconds.
    """
    return _flops_per_second(on_meta(model), audio_context=audio_context)


@torch.no_grad()
def _flops_per_second(empty: Whisper, *, audio_context: float) -> float:
    shape = empty.plain.config
    tokens = min(round(TOKENS_PER_SECOND * audio_context), shape.max_target_positions)
    mel = torch.zeros(1, shape.num_mel_bins, round(audio_context * MEL_FRAMES_PER_SECOND), device="meta")
    with FlopCounterMode(display=False) as counter:
        encoded = empty.encode_rest(empty.encode_start(mel, 0), 0)[empty.encoder_layers - 1]
        decoded = empty.decoder(
            torch.zeros(1, tokens, dtype=torch.long, device="meta"),
            # A mask that is handed in spares the model from looking at values that are not there.
            attention_mask=torch.zeros(1, 1, tokens, tokens, device="meta"),
            encoder_hidden_states=encoded,
            use_cache=False,
        )
        empty.head(decoded.last_hidden_state)
    return counter.get_total_flops() / audio_context
