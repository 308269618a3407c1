"""What is shared arrives as it was left, in order and in every bit, and nothing stays behind."""

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.cache.targets import TopTokens
from core.handover import handed_over, received
from core.mapping.statistics import StateStatistics
from core.pseudo_labels import PseudoLabelled
from core.shared import Shared
from core.sources import Utterance
from core.teacher_outputs import Heard, Prepared
from tests.engine import random_whisper


def everything(value: Any) -> list[Any]:
    """Return all that a structure holds, in order; tensors and arrays by type, shape and content."""
    if isinstance(value, Tensor):
        return [value.dtype, value.shape, value.double().tolist()]
    if isinstance(value, np.ndarray):
        return [value.dtype, value.shape, value.tolist()]
    if dataclasses.is_dataclass(value):
        return [
            type(value),
            *(part for each in dataclasses.fields(value) for part in everything(getattr(value, each.name))),
        ]
    if isinstance(value, dict):
        return [part for key, each in value.items() for part in (key, *everything(each))]
    if isinstance(value, list | tuple):
        return [type(value), *(part for each in value for part in everything(each))]
    return [value]


def an_utterance(number: int, *, top: TopTokens | None = None) -> Prepared:
    generator = torch.Generator().manual_seed(number)
    wide = torch.randn(3 + number, 10, generator=generator)
    states = {("encoder", 1): wide[:, ::2], ("decoder", 0): wide.half()[:1], ("decoder", 1): torch.zeros(0, 5)}
    heard = Heard(states, wide.bfloat16(), -1.5, 0.25, top)
    item = Utterance(f"u{number}", Path("a.wav"), "a text", "somebody", 1.0)
    return Prepared(item, [1, 2, number], wide, (heard,), (1.0,), 0.5)


def test_all_arrives_but_the_models_and_the_writer_keeps_nothing(tmp_path: Path) -> None:
    model = random_whisper()
    top = TopTokens({"tokens": np.array([[1, 2]], dtype=np.uint16)}, (2.0,))
    first, second = an_utterance(0), an_utterance(1, top=top)
    statistics = {("encoder", 1): StateStatistics(torch.ones(5), torch.eye(5))}
    pseudo = [PseudoLabelled(dataclasses.replace(first, tokens=[7]), 0.1), PseudoLabelled(second, None)]
    shared = Shared(
        (),
        model,
        [first, second],
        pseudo,
        [second],
        [second],
        {"test": [first]},
        [first],
        (statistics,),
        (0.25,),
        {"cache/a": 1.0},
    )
    fields = [each.name for each in dataclasses.fields(Shared) if each.name not in ("teachers", "student")]
    before = [everything(getattr(shared, name)) for name in fields]
    left = weakref.ref(shared)
    with handed_over(shared, tmp_path) as handed:
        del shared
        gc.collect()
        assert left() is None
        assert list(tmp_path.iterdir()) == []
        after = received(handed, teachers=(model,), student=model)
    assert [everything(getattr(after, name)) for name in fields] == before
    assert after.teachers == (model,)
    # What runs have in common is computed once only where they have the same objects.
    assert after.pseudo[0].prepared.start is after.train[0].start
    assert after.pseudo[0].prepared.teachers is after.train[0].teachers
    assert after.read[0] is after.tests["test"][0] is after.train[0]


def test_nothing_can_be_handed_over(tmp_path: Path) -> None:
    model = random_whisper()
    with handed_over(Shared((), model, [], [], [], [], {}, [], (), (), {}), tmp_path) as handed:
        assert received(handed, teachers=(), student=model).train == []
