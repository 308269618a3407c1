"""Whether features and teacher outputs are finite numbers; what is not, is named clip by clip before training."""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.errors import DataError, ModelError, Problem
from core.families.whisper import Whisper
from core.sources import Utterance

MOST_NAMED = 5
"""Clips that an error names."""


def require_finite_features(mel: Tensor, batch: Sequence[Utterance]) -> None:
    """Raise DataError, naming every clip whose features hold NaN or infinite values."""
    problems = [
        Problem(item.id, f"the features of {item.audio_path} are not finite numbers; replace the clip, or remove it")
        for item in _not_finite(mel, batch)
    ]
    if problems:
        raise DataError("Audio that cannot be used:", problems)


def require_finite_states(encoder: Tensor, decoder: Tensor, batch: Sequence[Utterance], *, teacher: Whisper) -> None:
    """Raise ModelError, naming the clips of which a teacher with finite weights makes NaN or infinite states."""
    broken = dict.fromkeys(item.id for states in (encoder, decoder) for item in _not_finite(states, batch))
    if broken:
        raise ModelError(
            f"The teacher from {teacher.loaded.origin} computes values that are not finite numbers for "
            f"{', '.join(list(broken)[:MOST_NAMED])}, although its weights and the features of the clips are finite: "
            "they are too large for it. Set training.precision to float32 if it is not, or take another teacher."
        )


def _not_finite(states: Tensor, batch: Sequence[Utterance]) -> list[Utterance]:
    # NaN where any value is; a table of truths as large as the states would take ten times as long.
    least, most = torch.aminmax(states.flatten(1), dim=1)
    finite = (least.isfinite() & most.isfinite()).tolist()
    return [item for item, all_finite in zip(batch, finite, strict=True) if not all_finite]
