"""Which runs of a job are trained side by side. No torch here: a plan asks, too."""

import math
from collections.abc import Sequence

from core.config import RunConfig

LARGEST_COMPANY = 8
"""Students side by side; more would save little more, and hold the activations of all."""


def shape_of_step(config: RunConfig) -> tuple[object, ...]:
    """Return what runs must agree in to be trained together, beside the frozen student, as something to compare."""
    training, lora = config.training, config.lora
    return (
        *(training.steps, training.batch_size, training.audio_context, training.length_buckets),
        *(training.precision, training.device),
        *(lora.rank, lora.encoder_targets, lora.decoder_targets, config.freeze_below),
    )


def companies(configs: Sequence[RunConfig], devices: int = 1) -> list[list[int]]:
    """Return which runs of a job are trained side by side, as their numbers in order; most stay alone.

    It pays where the encoder is not adapted: eight students then cost about as much as four or five steps of one, while
    students with an encoder of their own share little and would hold its activations all at once. It does not pay to
    leave a device without work.

    Args:
        configs: Of one job, with the ranks that their budgets allow.
        devices: That share them.
    """
    most = min(LARGEST_COMPANY, math.ceil(len(configs) / devices))
    found: list[list[int]] = []
    gathering: dict[object, list[int]] = {}
    for number, config in enumerate(configs):
        method = config.method
        learnt = (method.transcripts, method.largest_wer * (method.transcripts == "teacher"), method.needs_decoder)
        pays = may_join(config) and not config.lora.encoder_targets
        kind = (shape_of_step(config), learnt) if pays else number
        if kind not in gathering or len(gathering[kind]) == most:
            gathering[kind] = []
            found.append(gathering[kind])
        gathering[kind].append(number)
    return found


def may_join(config: RunConfig) -> bool:
    """Return whether a run may be trained beside others.

    What dropout draws depends on the shape of the whole batch, and the experts of a mixture are no plain adapters.
    """
    return not config.lora.dropout and config.lora.mixture is None
