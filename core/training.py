"""The one training loop, readable from top to bottom.

The loop knows nothing of databases, folders or progress bars: it is handed what to learn from and a `Watcher`, which it
tells what happened.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from core.config import Method, RunConfig, Training
from core.errors import GradientPathError, NotFiniteError
from core.families.whisper import Whisper
from core.lora import adapter_parameters, gradient_norm, require_gradients
from core.losses import terms
from core.mapping import LayerPair, PointMap
from core.seeds import stream
from core.signals import Signals
from core.teacher_outputs import Prepared, student_signals, teacher_signals

SMALLEST_RATE = 1e-6
"""The learning rate's floor, where the cosine ends."""


class Watcher(Protocol):
    """What the loop tells; any of these may raise to stop the run."""

    def step(self, step: int, values: dict[str, float]) -> None:
        """A step was taken; `values` are its metrics."""

    def pause(self, step: int) -> None:
        """Called before the first step (0) and after every step: time to evaluate, probe and save."""


@dataclass(frozen=True)
class Lesson:
    """Everything that the student learns from.

    Attributes:
        prepared: Training utterances with the teacher's outputs.
        pairs: Layers that meet.
        means: The teacher's mean states.
        teacher: The frozen teacher (for its head).
    """

    prepared: Sequence[Prepared]
    pairs: tuple[LayerPair, ...]
    means: dict[tuple[str, int], Tensor]
    teacher: Whisper


def train(config: RunConfig, *, student: Whisper, point_map: PointMap, lesson: Lesson, watcher: Watcher) -> None:
    """Train the student's adapters and the projection, in place.

    Args:
        config: The run.
        student: With adapters; only they and the projection have gradients.
        point_map: The mapping into the aligned space.
        lesson: What to learn from.
        watcher: Told of every step.

    Raises:
        GradientPathError: If a term or an adapter learns nothing.
        NotFiniteError: If the loss becomes NaN or infinite.
    """
    settings, method = config.training, config.method
    adapters = list(adapter_parameters(student.model).values())
    projection = list(point_map.parameters()) if method.aligns else []
    optimiser = torch.optim.AdamW(_groups(adapters + projection, settings), lr=settings.learning_rate, fused=True)
    precision, scaler = _precision(settings, adapters[0].device)
    student.model.train()
    watcher.pause(0)
    order = batches(len(lesson.prepared), settings.batch_size, seed=config.seed)
    for step in range(1, settings.steps + 1):
        batch = [lesson.prepared[index] for index in next(order)]
        rate = learning_rate(step, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with precision:
            losses = method_terms(config, batch, student=student, point_map=point_map, lesson=lesson)
        total = weighted_sum(method, losses)
        if not bool(torch.isfinite(total)):
            raise NotFiniteError(
                f"The loss became {float(total.detach())} at step {step} ({_listed(losses)}). The last finite adapters "
                "are kept. Lower training.learning_rate, or the weight of the largest term."
            )
        if step == 1:
            require_gradient_paths(method, losses, adapters)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(total).backward()
        scaler.unscale_(optimiser)
        if step == 1:
            require_gradients(student.model)
        # Adapters and projections are clipped apart: a projection may not change how fast the student learns.
        norms = {name: gradient_norm(part) for name, part in (("adapters", adapters), ("projections", projection))}
        for part in (adapters, projection):
            nn.utils.clip_grad_norm_(part, settings.clip)
        scaler.step(optimiser)
        scaler.update()
        watcher.step(step, _metrics(method, losses, total, norms, rate))
        watcher.pause(step)
    student.model.eval()


def method_terms(
    config: RunConfig, batch: Sequence[Prepared], *, student: Whisper, point_map: PointMap, lesson: Lesson
) -> dict[str, Tensor]:
    """Return the method's terms on some utterances."""
    method = config.method
    mine = student_signals(
        batch,
        student,
        freeze_below=config.freeze_below,
        audio_context=config.training.audio_context,
        with_decoder=method.needs_decoder,
    )
    theirs: Signals = teacher_signals(batch, lesson.teacher)
    return terms(method, student=mine, teacher=theirs, point_map=point_map, pairs=lesson.pairs, means=lesson.means)


def weighted_sum(method: Method, losses: dict[str, Tensor]) -> Tensor:
    """Return the objective."""
    return torch.stack([loss.weight * losses[loss.kind] for loss in method.losses]).sum()


def require_gradient_paths(method: Method, losses: dict[str, Tensor], adapters: Sequence[nn.Parameter]) -> None:
    """Check that every term moves a weight that is deployed.

    An alignment whose only gradient goes to the projection would look like learning and change nothing.

    Raises:
        GradientPathError: Naming the terms that reach no adapter.
    """
    idle = []
    for loss in method.losses:
        value = losses[loss.kind]
        gradients = (
            torch.autograd.grad(value, adapters, retain_graph=True, allow_unused=True) if value.requires_grad else ()
        )
        if not any(gradient is not None and bool(gradient.any()) for gradient in gradients):
            idle.append(loss.kind)
    if idle:
        raise GradientPathError(
            f"{', '.join(idle)} sends no gradient to any weight that is deployed, so it cannot change the student. "
            "Put adapters (lora.encoder_targets, lora.decoder_targets) at or below the layers that it compares, or "
            "lower freeze_below."
        )


def learning_rate(step: int, settings: Training) -> float:
    """Return the rate of a step, from 1: a linear rise, then a cosine to `SMALLEST_RATE` at the last step."""
    rise = max(1, round(settings.warmup * settings.steps))
    if step <= rise:
        return settings.learning_rate * step / rise
    progress = (step - rise) / max(1, settings.steps - rise)
    return SMALLEST_RATE + (settings.learning_rate - SMALLEST_RATE) * (1 + math.cos(math.pi * progress)) / 2


def batches(count: int, size: int, *, seed: int) -> Iterator[list[int]]:
    """Yield batches without end: every utterance once per epoch, in an order of its own."""
    generator = stream(seed, "order")
    waiting: list[int] = []
    size = min(size, count)
    while True:
        while len(waiting) < size:
            waiting.extend(torch.randperm(count, generator=generator).tolist())
        yield waiting[:size]
        waiting = waiting[size:]


def _groups(parameters: Sequence[nn.Parameter], settings: Training) -> list[dict]:
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    return [
        {"params": matrices, "weight_decay": settings.weight_decay},
        *([{"params": others, "weight_decay": 0.0}] if others else []),
    ]


def _precision(settings: Training, device: torch.device):
    """Return the autocast context and the gradient scaler for this device."""
    chosen = settings.precision
    if chosen == "auto":
        # A CPU without bfloat16 instructions is slower with it; CUDA devices before Ampere have float16 only.
        chosen = "float32"
        if device.type == "cuda":
            chosen = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    context = nullcontext() if chosen == "float32" else torch.autocast(device.type, dtype=getattr(torch, chosen))
    return context, torch.amp.GradScaler(device.type, enabled=chosen == "float16")


def _metrics(
    method: Method, losses: dict[str, Tensor], total: Tensor, norms: dict[str, Tensor], rate: float
) -> dict[str, float]:
    whole = float(total.detach())
    values = {"loss/total": whole, "learning_rate": rate}
    for loss in method.losses:
        value = float(losses[loss.kind].detach())
        values[f"loss/{loss.kind}"] = value
        values[f"share/{loss.kind}"] = loss.weight * value / whole if whole else 0.0
    values.update(
        {f"gradient_norm/{name}": float(norm) for name, norm in norms.items() if method.aligns or name == "adapters"}
    )
    return values


def _listed(losses: dict[str, Tensor]) -> str:
    return ", ".join(f"{kind} {float(value.detach()):.4g}" for kind, value in losses.items())
