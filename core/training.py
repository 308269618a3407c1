"""The one training loop, readable from top to bottom.

The loop knows nothing of databases, folders or progress bars: it is handed what to learn from and a `Watcher`, which it
tells what happened.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from core.config import RunConfig, Training
from core.errors import GradientPathError, NotFiniteError
from core.families.whisper import Whisper
from core.lora import adapter_parameters, gradient_norm, idle_adapters, require_none_idle
from core.losses import Objective
from core.mapping import LayerPair, PointMap, PointMaps
from core.seeds import stream, stream_seed
from core.teacher_outputs import Prepared, Teachers, student_signals

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
        prepared: Training utterances with the teachers' outputs and how much each counts.
        pairs: Layers that meet.
        teachers: Frozen (for their heads).
    """

    prepared: Sequence[Prepared]
    pairs: tuple[LayerPair, ...]
    teachers: Teachers


def train(
    config: RunConfig, *, student: Whisper, point_map: PointMap | PointMaps, lesson: Lesson, watcher: Watcher
) -> None:
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
    objective = Objective(method, point_map=point_map, pairs=lesson.pairs)
    paths = GradientPaths(objective, student.model)
    student.model.train()
    watcher.pause(0)
    order = batches(len(lesson.prepared), settings.batch_size, seed=config.seed)
    with own_dropout(config.seed, adapters[0].device):
        for step in range(1, settings.steps + 1):
            batch = [lesson.prepared[index] for index in next(order)]
            progress = step / settings.steps
            rate = learning_rate(step, settings)
            for group in optimiser.param_groups:
                group["lr"] = rate
            with precision:
                losses = method_terms(
                    config, batch, objective, student=student, teachers=lesson.teachers, progress=progress
                )
            total = objective.total(losses, progress)
            if not bool(torch.isfinite(total)):
                raise NotFiniteError(
                    f"The loss became {float(total.detach())} at step {step} ({_listed(losses)}). The last finite "
                    "adapters are kept. Lower training.learning_rate, or the weight of the largest term."
                )
            paths.require_from(losses)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(total).backward()
            scaler.unscale_(optimiser)
            paths.require_in_adapters()
            # Adapters and projections are clipped apart: a projection may not change how fast the student learns.
            norms = {name: gradient_norm(part) for name, part in (("adapters", adapters), ("projections", projection))}
            for part in (adapters, projection):
                nn.utils.clip_grad_norm_(part, settings.clip)
            scaler.step(optimiser)
            scaler.update()
            watcher.step(step, _metrics(objective, losses, total, norms, rate, progress))
            watcher.pause(step)
    student.model.eval()


def method_terms(
    config: RunConfig,
    batch: Sequence[Prepared],
    objective: Objective,
    *,
    student: Whisper,
    teachers: Teachers,
    progress: float,
) -> dict[str, Tensor]:
    """Return the terms that count at a point of the run, on some utterances."""
    mine = student_signals(
        batch,
        student,
        freeze_below=config.freeze_below,
        audio_context=config.training.audio_context,
        with_decoder=config.method.needs_decoder,
    )
    return objective.terms(student=mine, teacher=teachers.teaching(batch), progress=progress)


class GradientPaths:
    """Checks that every term moves a weight that is deployed, and that every adapter is moved by some term.

    An alignment whose only gradient goes to the projection would look like learning and change nothing. Terms that set
    in later are checked when they do; adapters, once every term has counted.
    """

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        """Begin a run in which nothing was checked yet."""
        self._model = model
        self._adapters = list(adapter_parameters(model).values())
        self._unchecked = {loss.kind: loss for loss in objective.method.losses}
        self._idle: set[str] | None = None

    def require_from(self, losses: dict[str, Tensor]) -> None:
        """Check the terms that count for the first time.

        Raises:
            GradientPathError: Naming the terms that reach no adapter.
        """
        new = [self._unchecked.pop(kind) for kind in losses if kind in self._unchecked]
        idle = [loss.kind for loss in new if loss.reaches_student and not self._reached(losses[loss.kind])]
        if idle:
            raise GradientPathError(
                f"{', '.join(idle)} sends no gradient to any weight that is deployed, so it cannot change the student. "
                "Put adapters (lora.encoder_targets, lora.decoder_targets) at or below the layers that it compares, or "
                "lower freeze_below."
            )

    def require_in_adapters(self) -> None:
        """Check, after a backward pass, which adapters have had a gradient.

        Raises:
            GradientPathError: Naming the adapters that none of the terms has moved, once every term has counted.
        """
        if self._idle is not None and not self._idle:
            return
        idle = idle_adapters(self._model)
        self._idle = idle if self._idle is None else self._idle & idle
        if not self._unchecked:
            require_none_idle(self._idle)
            self._idle = set()

    def _reached(self, value: Tensor) -> bool:
        if not value.requires_grad:
            return False
        gradients = torch.autograd.grad(value, self._adapters, retain_graph=True, allow_unused=True)
        return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


@contextmanager
def own_dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Give dropout, which can only draw from the global stream, a stream of its own; the global one is put back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, "dropout"))
        yield


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
    objective: Objective,
    losses: dict[str, Tensor],
    total: Tensor,
    norms: dict[str, Tensor],
    rate: float,
    progress: float,
) -> dict[str, float]:
    whole = float(total.detach())
    values = {"loss/total": whole, "learning_rate": rate}
    for kind, weight in objective.weights(progress).items():
        value = float(losses[kind].detach())
        values[f"loss/{kind}"] = value
        values[f"share/{kind}"] = weight * value / whole if whole else 0.0
    for name, norm in norms.items():
        if objective.method.aligns or name == "adapters":
            values[f"gradient_norm/{name}"] = float(norm)
    return values


def _listed(losses: dict[str, Tensor]) -> str:
    return ", ".join(f"{kind} {float(value.detach()):.4g}" for kind, value in losses.items())
