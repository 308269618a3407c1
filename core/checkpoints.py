"""Adapters on disk: the best and the last of a run, written so that a half-written one is never found.

runs/<run>/adapters/step-000050/   adapter_model.safetensors, adapter_config.json, projections.safetensors
                                   (a mixture: mixture.safetensors, mixture.json instead of the first two)
runs/<run>/adapters/best           -> step-000050
runs/<run>/adapters/last           -> step-000100
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from peft import PeftModel
from safetensors.torch import save_file
from transformers import PreTrainedModel

from core.leftovers import STAGING
from core.mapping import PointMap, PointMaps
from core.mixture import save_experts

Name = Literal["best", "last"]


def save_adapters(
    folder: Path,
    *,
    model: PeftModel | PreTrainedModel,
    point_map: PointMap | PointMaps,
    step: int,
    names: tuple[Name, ...],
) -> Path:
    """Write adapters and projections of a step, point `names` at them, and remove what nothing points at.

    Everything is written to a temporary folder, flushed, and renamed; a crash leaves the previous ones in place, and
    what it had begun is removed by the run's next call. A run has one writer at a time.

    Args:
        folder: The run's ``adapters`` folder.
        model: With adapters, or with a mixture of experts.
        point_map: Its projections are kept to go on from; they are never deployed.
        step: Names the folder.
        names: Which names are moved to this step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for begun in folder.glob(f"{STAGING}*"):
        shutil.rmtree(begun, ignore_errors=True)  # which follows no links
    target = folder / f"step-{step:06d}"
    if not target.exists():
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
        try:
            if isinstance(model, PeftModel):
                model.save_pretrained(str(staging), safe_serialization=True)
            else:
                save_experts(model, staging)
            projections = {name: value.detach().cpu().contiguous() for name, value in point_map.named_parameters()}
            if projections:
                save_file(projections, staging / "projections.safetensors")
            for file in staging.iterdir():
                _flush(file)
            _flush(staging)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    for name in names:
        pointer = folder / f".{name}"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(target.name)
        os.replace(pointer, folder / name)
    _flush(folder)
    kept = {os.readlink(folder / name) for name in ("best", "last") if (folder / name).is_symlink()}
    for old in folder.glob("step-*"):
        if old.name not in kept:
            shutil.rmtree(old)
    return target


def adapters_step(folder: Path, name: Name) -> int | None:
    """Return the step of the adapters that a name points to in a run's ``adapters`` folder; None where it has none."""
    pointer = folder / name
    step = os.readlink(pointer).removeprefix("step-") if pointer.is_symlink() and pointer.is_dir() else ""
    return int(step) if step.isdecimal() else None


def _flush(path: Path) -> None:
    """Make a file's or folder's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
