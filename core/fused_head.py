"""Cross-entropy and soft labels straight from decoder states, without ever holding a table of logits.

A table of logits has a row of 51,864 numbers for every token, and the plain losses hold several of them. Here some
tokens at a time go through the vocabulary matrix; their losses and their gradient are taken while their logits are at
hand, and what is kept is the gradient of the states, as wide as the model. The matrix is frozen, so no other gradient
is needed. That the gradient is made in the forward pass follows Hsu et al. 2024, arXiv 2410.10989 (Liger Kernel).
Several students may share a pass, so that their teacher's logits are made once for all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.precision import in_own_precision
from core.sums import Sum

ROWS_AT_ONCE = 128
"""Tokens of all students together whose logits exist at one time."""

PIECES_ON_A_GPU, MOST_ON_A_GPU = 8, 2048
"""In how many pieces a GPU goes through all tokens, where a piece then has more rows than a CPU's, and how many rows it
has at most: a GPU has the memory, and is told less often."""

COLUMNS_AT_ONCE = 512
"""Entries of the vocabulary that a CPU sums in float32 at one time; a GPU sums them in a tree, which loses less."""


@dataclass(frozen=True)
class Wanted:
    """What a student is to learn from the head; a weight of 0 leaves a term out.

    Attributes:
        cross_entropy: Weight of the cross-entropy against the targets.
        soft_labels: Weight of temperature^2 * KL(teacher || student).
        temperature: Divides the logits of both sides in the soft labels.
    """

    cross_entropy: float = 0.0
    soft_labels: float = 0.0
    temperature: float = 1.0


class HeadTerms(NamedTuple):
    """A student's terms, in nats over all tokens, without their weights; 0 where it was not wanted."""

    cross_entropy: Sum
    soft_labels: Sum


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher whose logits are made from its states, some tokens at a time.

    Attributes:
        states: Of its last decoder layer, [tokens, width].
        vocabulary: Its head's matrix, [vocabulary, width].
    """

    states: Tensor
    vocabulary: Tensor


@dataclass(frozen=True)
class TopTeacher:
    """A teacher's most likely tokens at one temperature; all others are one class of their own, the tail.

    The divergence is that of the top tokens and the tail: at most that of the whole distributions, since merging
    classes only loses information. Top tokens scaled up to a sum of 1 would teach a sharper distribution than the
    teacher's.

    Attributes:
        tokens: Which, [tokens, k].
        log_probabilities: Of those, [tokens, k]; what they leave of 1 is the tail's.
        temperature: That divided the logits.
    """

    tokens: Int[Tensor, "tokens k"]
    log_probabilities: Float[Tensor, "tokens k"]
    temperature: float


def top_teacher(logits: Float[Tensor, "tokens vocabulary"], *, count: int, temperature: float) -> TopTeacher:
    """Return the teacher's `count` most likely tokens of each point, from its raw logits."""
    log_probabilities, tokens = (_exact(logits) / temperature).log_softmax(dim=-1).topk(count, dim=-1)
    return TopTeacher(tokens, log_probabilities, temperature)


def head_terms(
    states: Sequence[Float[Tensor, "tokens width"]],
    vocabulary: Float[Tensor, "vocabulary width"],
    *,
    wanted: Sequence[Wanted],
    targets: Int[Tensor, " tokens"] | None = None,
    teacher: LiveTeacher | TopTeacher | None = None,
    rows_at_once: int | None = None,
) -> list[HeadTerms]:
    """Return each student's terms; their values are those of `cross_entropy_loss` and `soft_labels_loss`.

    The gradient of each student's weighted sum is made at once. A backward pass with weights in another proportion is
    right as well, and goes through the vocabulary again. Logits are made in the precision of the product (autocast
    counts), all else in float32, or in float64 where the states are.

    Args:
        states: Of each student's last decoder layer, of the same tokens.
        vocabulary: The head's matrix, frozen, the same for all.
        wanted: Of each student.
        targets: Reference token of each point; only the cross-entropy reads them.
        teacher: Of the same points; only the soft labels read it, and no gradient flows into it.
        rows_at_once: See `ROWS_AT_ONCE`; None leaves it to the device.

    Raises:
        ValueError: If the vocabulary is not frozen, or a term is wanted without what it reads.
    """
    if vocabulary.requires_grad:
        raise ValueError("the vocabulary matrix is trained: no gradient is made for it here")
    for one in wanted:
        if one.cross_entropy and targets is None:
            raise ValueError("the cross-entropy is wanted without a transcript")
        if one.soft_labels and teacher is None:
            raise ValueError("soft labels are wanted without a teacher")
        if one.soft_labels and isinstance(teacher, TopTeacher) and teacher.temperature != one.temperature:
            raise ValueError(f"the top tokens are of temperature {teacher.temperature:g}, not {one.temperature:g}")
    if rows_at_once is None:
        rows = 0 if vocabulary.device.type == "cpu" else len(states) * math.ceil(len(states[0]) / PIECES_ON_A_GPU)
        rows_at_once = max(ROWS_AT_ONCE, min(rows, MOST_ON_A_GPU))
    head = _Head(vocabulary, targets, teacher, max(1, rows_at_once // len(states)))
    totals = [Sum(total, len(states[0])) for total in _Terms.apply(head, tuple(wanted), *states)]
    return [HeadTerms(*totals[first : first + 2]) for first in range(0, len(totals), 2)]


class _Terms(torch.autograd.Function):
    """Two values for each student, with the gradient of its weighted sum already made; see `head_terms`."""

    @staticmethod
    def forward(ctx: Any, head: "_Head", wanted: tuple[Wanted, ...], *states: Tensor) -> tuple[Tensor, ...]:
        values, slopes = head.run(states, wanted, with_gradient=any(ctx.needs_input_grad))
        ctx.head, ctx.wanted = head, wanted
        ctx.save_for_backward(*states, *slopes)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        wanted: tuple[Wanted, ...] = ctx.wanted
        states, slopes = ctx.saved_tensors[: len(wanted)], ctx.saved_tensors[len(wanted) :]
        weights = torch.stack(upstream).view(-1, 2).tolist()
        divisors = [_divisor(one, *given) for one, given in zip(wanted, weights, strict=True)]
        if None in divisors:
            # Another sum than was wanted, such as one term alone.
            asked = [
                replace(
                    one, cross_entropy=given[0] * bool(one.cross_entropy), soft_labels=given[1] * bool(one.soft_labels)
                )
                for one, given in zip(wanted, weights, strict=True)
            ]
            _, slopes = ctx.head.run(states, asked, with_gradient=True)
            divisors = [1.0] * len(wanted)
        scaled = [slope / divisor for slope, divisor in zip(slopes, divisors, strict=True)]
        return None, None, *(slope.to(mine.dtype) for slope, mine in zip(scaled, states, strict=True))


def _divisor(wanted: Wanted, cross_entropy: float, soft_labels: float) -> float | None:
    """Return what makes the gradient of the wanted sum that of the sum with these weights when divided by, or None.

    Mostly the number of tokens. Each weight was rounded to float32 twice, so that what is nearly a whole number is one.
    """
    pairs = ((cross_entropy, wanted.cross_entropy), (soft_labels, wanted.soft_labels))
    divisors = [weight / given if given else math.inf for given, weight in pairs if weight] or [math.inf]
    if not math.isclose(divisors[0], divisors[-1], rel_tol=4e-7):
        return None
    whole = round(divisors[0]) if math.isfinite(divisors[0]) else 0
    return whole if math.isclose(divisors[0], whole, rel_tol=4e-7) else divisors[0]


@dataclass(frozen=True)
class _Head:
    vocabulary: Tensor
    targets: Tensor | None
    teacher: LiveTeacher | TopTeacher | None
    tokens_at_once: int

    @torch.no_grad()
    def run(
        self, states: Sequence[Tensor], wanted: Sequence[Wanted], *, with_gradient: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return both values of each student, student by student, and the gradient of each one's weighted sum."""
        product = _product_dtype(states[0])
        with in_own_precision(states[0].device):
            return self._run(states, wanted, product, with_gradient=with_gradient)

    def _run(
        self, states: Sequence[Tensor], wanted: Sequence[Wanted], product: torch.dtype, *, with_gradient: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        tokens, width = states[0].shape
        dtype, device = _exact(states[0][:0]).dtype, states[0].device
        matrix = theirs = self.vocabulary.to(product)
        if isinstance(self.teacher, LiveTeacher) and self.teacher.vocabulary is not self.vocabulary:
            theirs = self.teacher.vocabulary.to(product)
        sums = torch.zeros(len(states), 2, dtype=dtype, device=device)
        slopes = torch.empty(len(states), tokens, width, dtype=dtype, device=device) if with_gradient else sums[:, :0]
        for first in range(0, tokens, self.tokens_at_once):
            chunk = slice(first, first + self.tokens_at_once)
            rows = torch.cat([mine[chunk] for mine in states]).to(product)
            logits = _exact(rows @ matrix.T)
            soft = _SoftLabels(self.teacher, theirs, chunk)
            for mine, one, total in zip(logits.chunk(len(states)), wanted, sums, strict=True):
                total += self._terms(mine, one, chunk, soft)
            if with_gradient:
                made = _through(logits.to(product), matrix).to(dtype)
                slopes[:, chunk] = made.view(len(states), -1, width)
        # Rounding may leave a sum just below zero where the sides are equal.
        return list(sums.clamp_min(0).flatten()), list(slopes)

    def _terms(self, logits: Tensor, wanted: Wanted, chunk: slice, soft: "_SoftLabels") -> Tensor:
        """Return both terms summed over some tokens, and overwrite their logits by the gradient of the weighted sum."""
        sums = torch.zeros(2, dtype=logits.dtype, device=logits.device)
        slope = None
        if wanted.cross_entropy:
            assert self.targets is not None
            targets = self.targets[chunk, None]
            slope, normaliser = _softmax(logits)
            sums[0] = (normaliser - logits.gather(1, targets)).sum()
            slope.scatter_add_(1, targets, torch.full_like(slope[:, :1], -1)).mul_(wanted.cross_entropy)
        if wanted.soft_labels:
            logits.div_(wanted.temperature)
            sums[1], difference = soft.divergence(logits, wanted.temperature)
            sums[1] *= wanted.temperature**2
            difference.mul_(wanted.temperature * wanted.soft_labels)
            slope = difference if slope is None else slope.add_(difference)
        logits.copy_(slope) if slope is not None else logits.zero_()
        return sums


class _SoftLabels:
    """The teacher's part of the divergence at some tokens; its distribution is made once for each temperature."""

    def __init__(self, teacher: LiveTeacher | TopTeacher | None, vocabulary: Tensor, chunk: slice) -> None:
        self._teacher, self._vocabulary, self._chunk = teacher, vocabulary, chunk
        self._known: dict[float, tuple[Tensor, Tensor, Tensor]] = {}

    @cached_property
    def _logits(self) -> Tensor:
        assert isinstance(self._teacher, LiveTeacher)
        return _exact(self._teacher.states[self._chunk].to(self._vocabulary.dtype) @ self._vocabulary.T)

    def divergence(self, student: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Return KL(teacher || student) summed over the tokens, and its gradient for the softened logits."""
        mine, normaliser = _softmax(student)
        if isinstance(self._teacher, TopTeacher):
            return self._of_top(self._teacher, student, mine, normaliser)
        if temperature not in self._known:
            softened = self._logits / temperature
            self._known[temperature] = (softened, *_softmax(softened))
        softened, theirs, their_normaliser = self._known[temperature]
        columns = COLUMNS_AT_ONCE if student.device.type == "cpu" else student.shape[1]
        parts = zip(*(each.split(columns, dim=1) for each in (theirs, softened, student)), strict=True)
        value = sum(torch.linalg.vecdot(weight, high - low).sum(dtype=torch.float64) for weight, high, low in parts)
        return value + (normaliser - their_normaliser).sum(), mine.sub_(theirs)

    def _of_top(self, teacher: TopTeacher, student: Tensor, mine: Tensor, normaliser: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same with all tokens below the top as one class."""
        tokens, log_theirs = teacher.tokens[self._chunk], teacher.log_probabilities[self._chunk].to(student.dtype)
        theirs = log_theirs.exp()
        tail = (1 - theirs.sum(dim=1, keepdim=True)).clamp_min(0)
        top = mine.gather(1, tokens)
        # Summed, not taken from 1: the tail may be smaller than the rounding of 1.
        my_tail = mine.scatter_(1, tokens, 0).sum(dim=1, keepdim=True).clamp_min(torch.finfo(mine.dtype).tiny)
        value = (theirs * (log_theirs - student.gather(1, tokens) + normaliser)).sum()
        value += (torch.xlogy(tail, tail) - tail * my_tail.log()).sum()
        return value, mine.mul_(1 - tail / my_tail).scatter_(1, tokens, top - theirs)


def _through(slopes: Tensor, matrix: Tensor) -> Tensor:
    """Return slopes @ matrix, the gradient of the states.

    On a CPU the order in which float32 is summed depends on the number of rows and threads, and a sum over a whole
    vocabulary may lose a digit by it (4e-6 of the gradient where 5e-7 is usual): it is summed in parts.
    """
    if slopes.dtype != torch.float32 or slopes.device.type != "cpu":
        return slopes @ matrix
    total = torch.zeros(len(slopes), matrix.shape[1], dtype=torch.float64)
    for first in range(0, len(matrix), COLUMNS_AT_ONCE):
        part = slice(first, first + COLUMNS_AT_ONCE)
        total += slopes[:, part] @ matrix[part]
    return total


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities, and each row's logsumexp as a column in float64; the largest probability, at least 1 / V,
    gives it.
    """
    probabilities = logits.softmax(dim=-1)
    if probabilities.dtype == torch.float32 and probabilities.device.type == "cpu":
        _sum_to_one(probabilities)
    largest, of_all = (each.amax(dim=-1, keepdim=True).double() for each in (probabilities, logits))
    return probabilities, of_all - largest.log()


def _sum_to_one(probabilities: Tensor) -> None:
    """Take out of each row, in place, what float32 lost in its sum.

    All of a row's probabilities are off by the same factor, by 1e-7 or so, and more where the CPU adds fewer numbers at
    a time. In the gradient of the states this is not averaged out: there probabilities nearly cancel what they are
    compared with, and 2e-6 of it were seen to be wrong. The factor is finer than float32: it is applied in float64.
    """
    parts = probabilities.split(COLUMNS_AT_ONCE, dim=1)
    total = torch.stack([part.sum(dim=1, keepdim=True, dtype=torch.float64) for part in parts]).sum(dim=0)
    for part in parts:
        part.copy_(part / total)


def _exact(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _product_dtype(states: Tensor) -> torch.dtype:
    """Return what a linear layer would multiply these states in, here and now."""
    kind = states.device.type
    holds = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if holds else states.dtype
