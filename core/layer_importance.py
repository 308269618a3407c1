"""How much each layer of a model does, measured before anything is cut or trained.

The angular distance between what enters a layer and what leaves it says in one forward pass how much the layer turns
the residual stream (ShortGPT: Men et al. 2024, arXiv 2403.03853; the distance in units of pi, and blocks of layers:
Gromov et al. 2024, arXiv 2403.17887). What a cut costs in tokens needs a pass for each cut, with nothing healed.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from core.audio import read_audio
from core.errors import DataError
from core.families.whisper import Whisper, frame_count
from core.geometry import geodesic_angle, on_sphere
from core.layer_cuts import SIDES
from core.sources import Utterance
from core.store.records import LayerDistance, LayerScan, Side

FEWEST_CLIPS = 2
"""From which there is a standard error."""


@dataclass(frozen=True)
class Damage:
    """What leaving out some layers does to the next token, teacher-forced on the transcripts, nothing healed.

    Attributes:
        layers: That were left out.
        agreement: Share of the tokens at which the most likely one stays what it was.
        kl: KL(whole || cut) in nats per token.
    """

    side: Side
    layers: tuple[int, ...]
    agreement: float
    kl: float


@dataclass(frozen=True)
class _Clip:
    """A clip as the model sees it: encoder states before the first layer, and its text."""

    start: Tensor
    frames: int
    inputs: Tensor
    mask: Tensor


def angular_distances(
    stream: Sequence[Float[Tensor, "points width"]],
) -> dict[tuple[int, int], float]:
    """Return the mean angular distance between what enters a layer and what leaves it or a later one, by (first, last).

    The angle between the two states of a point over pi, 0 to 1: 0 for the same direction, 0.5 at right angles.

    Args:
        stream: States before the first layer, then after each; at real points only.
    """
    points = [on_sphere(states) for states in stream]
    return {
        (first, last): float(geodesic_angle(points[first], points[last + 1]).double().mean() / math.pi)
        for first in range(len(points) - 1)
        for last in range(first, len(points) - 1)
    }


def mean_over_clips(side: Side, clips: Sequence[dict[tuple[int, int], float]]) -> list[LayerDistance]:
    """Return each block's mean over clips with its standard error: sample deviation over the root of their number.

    Args:
        side: Whose layers they are.
        clips: Of each clip what `angular_distances` returns; two at least.
    """
    found = []
    for first, last in clips[0]:
        values = torch.tensor([clip[first, last] for clip in clips], dtype=torch.float64)
        error = float(values.std(correction=1)) / math.sqrt(len(clips))
        found.append(LayerDistance(side, first, last, float(values.mean()), error))
    return found


def chosen_clips(utterances: Sequence[Utterance], count: int, *, audio_context: float) -> list[Utterance]:
    """Return some utterances that the context holds, evenly spread in their order; with a text where any has one.

    Args:
        utterances: To choose from.
        count: How many at most.
        audio_context: Longer clips are left out, in seconds.

    Raises:
        DataError: If fewer than two are left.
    """
    usable = _usable(utterances, audio_context)
    taken = min(count, len(usable))
    if taken < FEWEST_CLIPS:
        raise DataError(
            f"Too few clips to measure layers on: {taken} of {len(utterances)} can be used, and {FEWEST_CLIPS} are "
            f"needed, each of at most {audio_context:g} s. Name more speech, or raise the audio context (30 s at most)."
        )
    return [usable[round(place * (len(usable) - 1) / (taken - 1))] for place in range(taken)]


def usable_clips(utterances: Sequence[Utterance], *, audio_context: float) -> int:
    """Return from how many utterances `chosen_clips` chooses."""
    return len(_usable(utterances, audio_context))


def _usable(utterances: Sequence[Utterance], audio_context: float) -> list[Utterance]:
    fitting = [item for item in utterances if item.duration <= audio_context + 1e-6]
    return [item for item in fitting if item.text] or fitting


@torch.inference_mode()
def scan_layers(
    model: Whisper,
    name: str,
    utterances: Sequence[Utterance],
    *,
    audio_context: float,
    sides: Iterable[Side] = SIDES,
    advance: Callable[[int], None] = lambda count: None,
) -> LayerScan:
    """Return the angular distances of a model's layers over some clips, each of which counts alike.

    The decoder reads the transcripts; without any it is left out.

    Args:
        model: Awake.
        name: What the scan calls it.
        utterances: Two at least, no longer than the context; see `chosen_clips`.
        audio_context: Seconds that the encoder sees.
        sides: What is measured.
        advance: Called with the number of clips done since the last call; may raise to stop.
    """
    began = time.perf_counter()
    wanted: list[Side] = [side for side in sides if side == "encoder" or all(item.text for item in utterances)]
    found: dict[Side, list[dict[tuple[int, int], float]]] = {side: [] for side in wanted}
    for clip in _clips(model, utterances, audio_context):
        stream = model.encoder_stream(clip.start, 0)
        if "encoder" in found:
            found["encoder"].append(angular_distances([states[0, : clip.frames] for states in stream]))
        if "decoder" in found:
            heard = model.encoder.layer_norm(stream[-1])
            tokens = model.decoder_stream(heard, clip.inputs)
            found["decoder"].append(angular_distances([states[0, clip.mask] for states in tokens]))
        advance(1)
    return LayerScan(
        model=name,
        audio_context=audio_context,
        clips=len(utterances),
        audio_seconds=sum(item.duration for item in utterances),
        seconds=time.perf_counter() - began,
        distances=tuple(each for side, clips in found.items() for each in mean_over_clips(side, clips)),
    )


@torch.inference_mode()
def damage_of(
    model: Whisper,
    utterances: Sequence[Utterance],
    dropped: Sequence[tuple[Side, tuple[int, ...]]],
    *,
    audio_context: float,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Damage]:
    """Return what leaving out layers does to the next token, with a pass for each cut.

    Args:
        model: Awake.
        utterances: With texts, no longer than the context.
        dropped: Consecutive layers of one side, each cut by itself.
        audio_context: Seconds that the encoder sees.
        advance: As in `scan_layers`.
    """
    kept = torch.zeros(len(dropped), dtype=torch.float64)
    diverged = torch.zeros_like(kept)
    count = 0
    for clip in _clips(model, utterances, audio_context):
        stream = model.encoder_stream(clip.start, 0)
        heard = model.encoder.layer_norm(stream[-1])
        whole = _log_probabilities(model, model.decode_without(heard, clip.inputs, ()), clip.mask)
        count += len(whole)
        for place, (side, layers) in enumerate(dropped):
            if side == "encoder":
                rest = model.encode_rest(stream[layers[0]], layers[-1] + 1)
                states = model.decode_without(rest[model.encoder_layers - 1], clip.inputs, ())
            else:
                states = model.decode_without(heard, clip.inputs, layers)
            cut = _log_probabilities(model, states, clip.mask)
            kept[place] += int((cut.argmax(dim=-1) == whole.argmax(dim=-1)).sum())
            diverged[place] += float(torch.nn.functional.kl_div(cut, whole, log_target=True, reduction="sum"))
        advance(1)
    return [
        Damage(side, layers, agreement=float(kept[place]) / count, kl=float(diverged[place]) / count)
        for place, (side, layers) in enumerate(dropped)
    ]


def _clips(model: Whisper, utterances: Sequence[Utterance], audio_context: float) -> Iterator[_Clip]:
    for item in utterances:
        audio = read_audio(item.audio_path, may_be_silent=True)
        mel = model.mel([audio], audio_context).to(model.device)
        batch = model.collate([model.tokens(item.text)], [item.duration], audio_context)
        inputs, mask = batch.inputs.to(model.device), batch.token_mask[0].to(model.device)
        yield _Clip(model.encode_start(mel, 0), frame_count(item.duration), inputs, mask)


def _log_probabilities(model: Whisper, states: Tensor, mask: Tensor) -> Tensor:
    return cast(Tensor, model.head(states[0, mask])).float().log_softmax(dim=-1)
