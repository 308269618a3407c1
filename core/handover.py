"""What a group of runs shares, left where other processes of the machine can read it.

Tensors lie one after the other in a file without a name, of which nothing is left when the process that wrote it ends,
however it ends. All else is small, and goes over in an outline, in which slots stand for the tensors. Models stay out:
each process reads them from where they come from.
"""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.families.whisper import Whisper
from core.shared import Shared

ALIGNED = 64
"""Bytes: tensors begin at multiples of it, so that any of their types can be read in place."""


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies in the file: first byte, type, shape, and whether it belongs on the device."""

    begins: int
    kind: torch.dtype
    shape: tuple[int, ...]
    on_device: bool


@dataclass(frozen=True)
class Handover:
    """What other processes are given.

    Attributes:
        path: Of the file, while its writer lives.
        size: Of the file, in bytes.
        outline: Fields of `Shared` by name, with slots for tensors.
    """

    path: str
    size: int
    outline: dict[str, Any]


@contextmanager
def handed_over(shared: Shared, folder: Path) -> Iterator[Handover]:
    """Write what a group shares; it can be read while this is entered.

    Let go of `shared` inside: the caller's device has a process of its own, which needs the room.

    Args:
        shared: What is handed over.
        folder: On a disk with room for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:

        def put(tensor: Tensor) -> Slot:
            slot = Slot(file.tell(), tensor.dtype, tuple(tensor.shape), tensor.device.type != "cpu")
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            file.write(bytes(-file.tell() % ALIGNED))
            return slot

        file.write(bytes(ALIGNED))  # an empty file cannot be mapped
        names = [each.name for each in dataclasses.fields(Shared) if each.name not in ("teachers", "student")]
        outline = rebuilt({name: getattr(shared, name) for name in names}, Tensor, put)
        file.flush()
        del shared
        yield Handover(f"/proc/{os.getpid()}/fd/{file.fileno()}", file.tell(), outline)


def received(handed: Handover, *, teachers: tuple[Whisper, ...], student: Whisper) -> Shared:
    """Read what was handed over, onto the student's device; on a CPU all processes look at the same pages."""
    pages = torch.from_file(handed.path, shared=False, size=handed.size, dtype=torch.uint8)

    def get(slot: Slot) -> Tensor:
        size = torch.Size(slot.shape).numel() * slot.kind.itemsize
        tensor = pages[slot.begins : slot.begins + size].view(slot.kind).view(slot.shape)
        return tensor.to(student.device) if slot.on_device else tensor

    return Shared(teachers=teachers, student=student, **rebuilt(handed.outline, Slot, get))


def rebuilt(value: Any, kind: type, other: Callable[[Any], Any], known: dict[int, Any] | None = None) -> Any:
    """Return a structure with others in the place of all objects of a kind; what stood in two places still does.

    Args:
        value: Dataclasses, dictionaries, lists and tuples of anything.
        kind: What is replaced.
        other: By what.
        known: What was met already, by its id.
    """
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, kind):
        made = other(value)
    elif isinstance(value, dict):
        made = {key: rebuilt(each, kind, other, known) for key, each in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(rebuilt(each, kind, other, known) for each in value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [each.name for each in dataclasses.fields(value)]
        made = dataclasses.replace(
            value, **{name: rebuilt(getattr(value, name), kind, other, known) for name in fields}
        )
    else:
        return value
    known[id(value)] = made
    return made
