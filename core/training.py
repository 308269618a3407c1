"""The one training loop, readable from top to bottom.

The loop knows nothing of databases, folders or progress bars: it is handed what to learn from and a `Watcher`, which it
tells what happened.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from core.config import RunConfig, Training
from core.errors import NotFiniteError
from core.families.whisper import Whisper, frame_count
from core.gradient_paths import GradientPaths
from core.lora import adapter_parameters
from core.mapping import LayerPair, PointMap, PointMaps
from core.mixture import Routing, mean_balance_loss, of_valid_points, recorded
from core.objective import BALANCE, Objective, SingleBatch
from core.precision import product_type, products_in
from core.seeds import stream, stream_seed
from core.sums import Part, Sum, Terms, means, own_counts
from core.teacher_outputs import Prepared, Teachers, collated, student_signals
from core.team import ALONE, Team, WholeBatch

SMALLEST_RATE = 1e-6
"""The learning rate's floor, where the cosine ends."""


class Watcher(Protocol):
    """What the loop tells; any of these may raise to stop the run."""

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """A step was taken; `values` are its metrics, `seconds` what it took, pauses left out."""

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

    @property
    def contexts(self) -> tuple[float, ...]:
        """Seconds that the encoder sees of each utterance; those of a batch see the same."""
        return tuple(item.audio_context for item in self.prepared)


def train(
    config: RunConfig,
    *,
    student: Whisper,
    point_map: PointMap | PointMaps,
    lesson: Lesson,
    watcher: Watcher,
    team: Team = ALONE,
) -> None:
    """Train the student's adapters and the projection, in place.

    `core.side_by_side` trains several students as this trains each of them. In a team every process calls this with
    the same arguments, but for the watcher, and ends with the same adapters.

    Args:
        config: The run.
        student: With adapters; only they and the projection have gradients.
        point_map: The mapping into the aligned space.
        lesson: What to learn from.
        watcher: Told of every step.
        team: Who else trains it, each on a part of every batch.

    Raises:
        GradientPathError: If a term or an adapter learns nothing.
        NotFiniteError: If the loss becomes NaN or infinite.
    """
    settings = config.training
    learner = Learner(config, student=student, point_map=point_map, pairs=lesson.pairs, team=team)
    student.model.train()
    watcher.pause(0)
    order = batches(lesson.contexts, settings.batch_size, seed=config.seed)
    with own_dropout(config.seed, student.device, part=team.number):
        for step in range(1, settings.steps + 1):
            began = time.perf_counter()
            batch = [lesson.prepared[index] for index in next(order)]
            progress = step / settings.steps
            with learner.precision:
                terms = method_terms(
                    config,
                    batch,
                    learner.objective,
                    student=student,
                    teachers=lesson.teachers,
                    progress=progress,
                    team=team,
                )
            losses = learner.means(terms)
            total = learner.total(step, losses)
            learner.paths.require_from(losses)
            total.backward()
            values = learner.update(step)
            watcher.step(step, values, time.perf_counter() - began)
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
    team: Team = ALONE,
) -> Terms:
    """Return the terms that count at a point of the run, on this process's part of some utterances."""
    part = team.part(batch)
    weights = torch.tensor([item.weights for item in batch])
    points = {
        "encoder": [frame_count(item.utterance.duration) for item in batch],
        "decoder": [len(item.tokens) + 1 for item in batch],
    }
    whole = SingleBatch(weights) if team.size == 1 else WholeBatch(team, points, weights)
    with recorded(student.model) as routings:
        mine = student_signals(
            part, student, freeze_below=config.freeze_below, with_decoder=config.method.needs_decoder
        )
    terms = objective.terms(student=mine, teacher=teachers.teaching(part), progress=progress, batch=whole)
    if objective.balance > 0:
        balance = mean_balance_loss(valid_routings(routings, part, student=student), whole.mean)
        terms[BALANCE] = [Part(whole.once(Sum.single(balance)))]
    return terms


def valid_routings(
    routings: Mapping[str, Routing], batch: Sequence[Prepared], *, student: Whisper
) -> dict[str, Routing]:
    """Return what the routers said of some utterances, without the padding and prompts beside them."""
    masks, device = collated(batch, student), student.device
    return of_valid_points(routings, frame_mask=masks.frame_mask.to(device), token_mask=masks.token_mask.to(device))


class Learner:
    """What is one student's own in a step: its objective, its optimiser, and what is checked and told of it.

    Attributes:
        objective: Its terms.
        paths: The check that they reach it.
        precision: The context of its forward passes.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        student: Whisper,
        point_map: PointMap | PointMaps,
        pairs: tuple[LayerPair, ...],
        team: Team = ALONE,
    ) -> None:
        """Begin a run.

        Args:
            config: The run.
            student: With adapters.
            point_map: The mapping into the aligned space.
            pairs: Layers that meet.
            team: Who trains it, each with a learner that is told the terms of its own part.
        """
        method, self._settings, self._team = config.method, config.training, team
        adapters = list(adapter_parameters(student.model).values())
        projection = list(point_map.parameters()) if method.aligns else []
        self._parts = {"adapters": adapters, "projections": projection}
        self._optimiser = torch.optim.AdamW(
            _groups(adapters + projection, self._settings), lr=self._settings.learning_rate, fused=True
        )
        self._device = device = adapters[0].device
        kind = product_type(self._settings, device)
        self.precision = products_in(kind, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=kind == torch.float16)
        balance = config.lora.mixture.balance if config.lora.mixture else 0.0
        self.objective = Objective(method, point_map=point_map, pairs=pairs, balance=balance)
        self.paths = GradientPaths(self.objective, student.model, team)
        self._last: tuple[float, dict[str, float]] = 0.0, {}

    def means(self, terms: Terms) -> dict[str, Tensor]:
        """Return what this process adds to the terms of the whole batch: its sums, divided by the counts of all."""
        return means(terms, self._team.counts(own_counts(terms), self._device))

    def total(self, step: int, losses: dict[str, Tensor]) -> Tensor:
        """Return what to go backward from; gradients of the last step are forgotten.

        What is told and checked is the whole batch's, so that all processes of a team see the same.

        Raises:
            NotFiniteError: If it is NaN or infinite.
        """
        total = self.objective.total(losses, step / self._settings.steps)
        whole, *parts = numbers([total, *losses.values()], self._team)
        by_kind = dict(zip(losses, parts, strict=True))
        if not math.isfinite(whole):
            raise NotFiniteError(f"The loss became {whole} at step {step} ({_listed(by_kind)}). {self._cause(step)}")
        self._last = whole, by_kind
        self.objective.update_schedules(by_kind, step / self._settings.steps)
        self._optimiser.zero_grad(set_to_none=True)
        return self._scaler.scale(total)

    def _cause(self, step: int) -> str:
        """Return why a loss is not finite, and what to do. Weights and features were finite when they were read."""
        shorter = "set training.precision to bfloat16 or float32: the numbers of float16 end at 65,504"
        if step == 1:
            remedy = shorter if self._scaler.is_enabled() else "look at the settings of the terms that are not finite"
            return f"No step was taken before, so no learning rate can help: {remedy}."
        remedy = "Lower training.learning_rate, or the weight of the largest term"
        if self._scaler.is_enabled():
            remedy += f"; or {shorter}"
        finite = all(bool(one.isfinite().all()) for part in self._parts.values() for one in part)
        return f"{'' if finite else 'The step before left the adapters without finite values. '}{remedy}."

    def update(self, step: int) -> dict[str, float]:
        """Take the step that the gradients ask for, and return its metrics.

        Raises:
            GradientPathError: If an adapter has learned nothing since the run began, once every term has counted.
        """
        self._team.add_gradients([one for part in self._parts.values() for one in part])
        self._scaler.unscale_(self._optimiser)
        self.paths.require_in_adapters()
        # Adapters and projections are clipped apart: a projection may not change how fast the student learns.
        norms = [nn.utils.clip_grad_norm_(part, self._settings.clip) for part in self._parts.values()]
        rate = learning_rate(step, self._settings)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._scaler.step(self._optimiser)
        self._scaler.update()
        of_parts = dict(zip(self._parts, numbers(norms), strict=True))
        return _metrics(self.objective, *self._last, of_parts, rate, step / self._settings.steps)


@contextmanager
def own_dropout(seed: int, device: torch.device, *, part: int = 0) -> Iterator[None]:
    """Give dropout, which can only draw from the global stream, a stream of its own; the global one is put back.

    Args:
        seed: Of the run.
        device: On which it draws.
        part: Of a batch; each has a stream of its own.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, f"dropout {part}" if part else "dropout"))
        yield


def learning_rate(step: int, settings: Training) -> float:
    """Return the rate of a step, from 1: a linear rise, then a cosine to `SMALLEST_RATE` at the last step."""
    rise = max(1, round(settings.warmup * settings.steps))
    if step <= rise:
        return settings.learning_rate * step / rise
    progress = (step - rise) / max(1, settings.steps - rise)
    return SMALLEST_RATE + (settings.learning_rate - SMALLEST_RATE) * (1 + math.cos(math.pi * progress)) / 2


def batches(contexts: Sequence[float], size: int, *, seed: int) -> Iterator[list[int]]:
    """Yield batches without end, each of one context: every utterance once per epoch, in an order of its own.

    Which context comes next does not depend on the seed, so that students side by side take steps of one shape. Of a
    context with fewer utterances than a batch holds, some come twice in it, as rarely as it has a turn.

    Args:
        contexts: Of each utterance, in seconds.
        size: Utterances of a batch; all, where there are fewer.
        seed: Of the order.
    """
    order, turns = stream(seed, "order"), stream(0, "turns")
    size = min(size, len(contexts))
    buckets: dict[float, list[int]] = {}
    for number, context in enumerate(contexts):
        buckets.setdefault(context, []).append(number)
    waiting: dict[float, list[int]] = {context: [] for context in buckets}
    due = Counter[float]()
    while True:
        for number in torch.randperm(len(contexts), generator=turns).tolist():
            context = contexts[number]
            due[context] += 1
            if due[context] == size:
                due[context] = 0
                bucket, mine = buckets[context], waiting[context]
                while len(mine) < size:
                    mine.extend(bucket[place] for place in torch.randperm(len(bucket), generator=order).tolist())
                waiting[context] = mine[size:]
                yield mine[:size]


def _groups(parameters: Sequence[nn.Parameter], settings: Training) -> list[dict]:
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    return [
        {"params": matrices, "weight_decay": settings.weight_decay},
        *([{"params": others, "weight_decay": 0.0}] if others else []),
    ]


def numbers(values: Sequence[Tensor], team: Team = ALONE) -> list[float]:
    """Return single values as numbers, added up over a team.

    All of a GPU's at once: it is waited for each time that one is read.
    """
    stacked = torch.stack([value.detach().to(values[0].device, torch.float64) for value in values])
    return team.summed(stacked).tolist()


def _metrics(
    objective: Objective,
    whole: float,
    losses: dict[str, float],
    norms: dict[str, float],
    rate: float,
    progress: float,
) -> dict[str, float]:
    values = {"loss/total": whole, "learning_rate": rate}
    for kind, weight in objective.weights(progress).items():
        value = losses[kind]
        values[f"loss/{kind}"] = value
        values[f"share/{kind}"] = weight * value / whole if whole else 0.0
    for name, norm in norms.items():
        if objective.method.aligns or name == "adapters":
            values[f"gradient_norm/{name}"] = norm
    return values


def _listed(losses: dict[str, float]) -> str:
    return ", ".join(f"{kind} {value:.4g}" for kind, value in losses.items())
