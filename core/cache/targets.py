"""What is kept of a teacher: its most likely tokens with what they leave over, and states in fewer bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.cache.shelves import Entry
from core.fused_head import TopTeacher

COUNTS = (8, 16, 32, 64, 128)
"""How many tokens of each row may be kept."""

Precision = Literal["bfloat16", "int8"]


def enough_tokens(
    logits: Float[Tensor, "tokens vocabulary"], *, mass: float, temperature: float = 1.0, most: int = COUNTS[-1]
) -> tuple[int, float]:
    """Return how many of the most likely tokens hold a share of the probability, on average, and the share they hold.

    Args:
        logits: Raw, of some typical tokens.
        mass: The share, below 1.
        temperature: At which it is asked for.
        most: So many at most, whatever they hold.
    """
    top = (logits.float() / temperature).softmax(dim=-1).topk(min(most, logits.shape[-1]), dim=-1).values
    held = top.cumsum(dim=-1).mean(dim=0)
    counts = [count for count in COUNTS if count <= len(held)] or [len(held)]
    count = next((count for count in counts if float(held[count - 1]) >= mass), counts[-1])
    return count, float(held[count - 1])


def top_entry(
    logits: Float[Tensor, "tokens vocabulary"], *, count: int, temperatures: Sequence[float]
) -> dict[str, np.ndarray]:
    """Return what is kept of a teacher's logits.

    Tokens and their log-probabilities at temperature 1, two bytes each; and, for every temperature that may be asked
    for, the logarithm of the sum over *all* tokens of p^(1/T), without which a softened distribution of the top tokens
    could not tell what they leave over; at temperature 1 it is 0, and need not be named.

    Args:
        logits: Raw.
        count: How many tokens of each row.
        temperatures: Which.
    """
    log_probabilities = logits.float().log_softmax(dim=-1)
    top, tokens = log_probabilities.topk(count, dim=-1)
    entry = {
        "tokens": tokens.cpu().numpy().astype(np.uint16 if logits.shape[-1] <= 1 << 16 else np.uint32),
        "log_probabilities": top.cpu().numpy().astype(np.float16),
    }
    if temperatures:
        normalisers = [(log_probabilities / temperature).logsumexp(dim=-1) for temperature in temperatures]
        entry["normalisers"] = torch.stack(normalisers, dim=-1).cpu().numpy().astype(np.float32)
    return entry


def top_teacher(
    entries: Sequence[Entry], *, temperature: float, temperatures: Sequence[float], device: torch.device | str = "cpu"
) -> TopTeacher:
    """Return the teacher of some utterances, token by token, from what was kept.

    Args:
        entries: From `top_entry`, in order.
        temperature: Which of those that were kept, or 1.
        temperatures: Those, in the order of `top_entry`.
        device: Where it is wanted.
    """

    def joined(name: str, kind: type) -> Tensor:
        return torch.from_numpy(np.concatenate([entry[name] for entry in entries]).astype(kind)).to(device)

    softened = joined("log_probabilities", np.float32) / temperature
    if temperature != 1:
        softened -= joined("normalisers", np.float32)[:, temperatures.index(temperature), None]
    return TopTeacher(joined("tokens", np.int64), softened, temperature)


@dataclass(frozen=True)
class TopTokens:
    """What is kept of a teacher's logits about one utterance.

    Attributes:
        entry: From `top_entry`.
        temperatures: At which it can be asked for beside 1, in the order of `top_entry`.
    """

    entry: Entry
    temperatures: tuple[float, ...]


def joined_top(items: Sequence[TopTokens], temperature: float, device: torch.device | str) -> TopTeacher:
    """Return the teacher of some utterances, kept for the same temperatures, token by token."""
    return top_teacher(
        [item.entry for item in items], temperature=temperature, temperatures=items[0].temperatures, device=device
    )


def held_mass(entry: Entry, *, temperature: float, temperatures: Sequence[float]) -> float:
    """Return the mean share of the probability that an entry's tokens hold."""
    teacher = top_teacher([entry], temperature=temperature, temperatures=temperatures)
    return float(teacher.log_probabilities.exp().sum(dim=-1).mean())


def packed_states(states: Float[Tensor, "points width"], precision: Precision) -> dict[str, np.ndarray]:
    """Return states in two bytes a number, or in one with a scale for each point (largest absolute value / 127)."""
    if precision == "bfloat16":
        return {"states": states.bfloat16().cpu().view(torch.int16).numpy()}
    scale = states.float().abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / 127
    whole = (states.float() / scale).round().to(torch.int8)
    return {"states": whole.cpu().numpy(), "scale": scale.cpu().numpy()}


def unpacked_states(entry: Entry) -> Float[Tensor, "points width"]:
    """Return states in float32 again."""
    states = torch.from_numpy(np.ascontiguousarray(entry["states"]))
    if "scale" in entry:
        return states.float() * torch.from_numpy(np.ascontiguousarray(entry["scale"]))
    return states.view(torch.bfloat16).float()
