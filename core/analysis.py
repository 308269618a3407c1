"""What the analysis worker does: maps of student and teacher states, and looks at settings.

    runs/jobs/<job>/teacher_states.safetensors  --\
    runs/<run>/states/<step>.safetensors        ---+--> runs/<run>/maps/<map>.safetensors
                                                          student_xy, teacher_xy    float32 [points, 2]
                                                          utterance                 int32 [points], place in probe.json
                                                          moment                    int32 [points], frame or token; -1
                                                                                    where it is the utterance's mean
                                                          angle                     float32 [points], radians between
                                                                                    the two sides, before the map

UMAP and PyTorch are imported by the request that needs them, so that a check does not wait for UMAP nor a map for
PyTorch.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from core.alignment.measures import geodesic_angles, procrustes
from core.config import RunConfig
from core.errors import JobError, NotFiniteError, StoreError
from core.store.records import CheckRecord, MapRecord, RunRecord
from core.store.store import Store

MOST_POINTS = 5000
"""Of each side. More make the page slow; the record tells how many there were."""


@dataclass(frozen=True)
class PairedStates:
    """Student and teacher states of the same points, in one space and centred.

    Attributes:
        student: [points, width].
        teacher: [points, width].
        utterance: Place of each point's utterance in the probe set.
        moment: Its frame or token; -1 for the mean of an utterance.
    """

    student: Float[np.ndarray, "points width"]
    teacher: Float[np.ndarray, "points width"]
    utterance: Int[np.ndarray, " points"]
    moment: Int[np.ndarray, " points"]


def make_map(record: MapRecord, *, store: Store, runs_folder: Path) -> None:
    """Make the map that a record asks for, write it beside the run, and store what it is worth.

    Args:
        record: What is mapped.
        store: Where the result is noted.
        runs_folder: Where the states are, and the map goes.

    Raises:
        StoreError: If the states are not there or cannot be read.
        ShapeError: If the sides do not pair up, or there are too few points.
        NotFiniteError: If a state is NaN or infinite.
    """
    from core.alignment.maps import joint_map

    began = time.perf_counter()
    run = store.run(record.run_id)
    # On a busy machine NumPy's threads wait for each other; one is faster there.
    with threadpool_limits(limits=1, user_api="blas"):
        states, how = _paired_states(record, run, runs_folder)
        if record.level == "utterances":
            states = utterance_means(states)
        total = len(states.student)
        states = evenly_thinned(states, MOST_POINTS)
        made = joint_map(student=states.student, teacher=states.teacher, seed=run.seed)
    path = Path(run.id) / "maps" / f"{record.id}.safetensors"
    tensors = {
        "student_xy": np.ascontiguousarray(made.student),
        "teacher_xy": np.ascontiguousarray(made.teacher),
        "utterance": states.utterance.astype(np.int32),
        "moment": states.moment.astype(np.int32),
        "angle": geodesic_angles(states.student, states.teacher).astype(np.float32),
    }
    _write(runs_folder / path, tensors)
    store.finish_map(
        record.id,
        path=str(path),
        trustworthiness=made.trustworthiness,
        points=len(states.student),
        points_total=total,
        how=how,
        seconds=time.perf_counter() - began,
    )


def check(record: CheckRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
    """Return what can be said of settings before they are run; see `core.checking.check`.

    What is measured gets a process of its own: this one has held other things, which would count as memory, and it
    should live when memory runs out.

    Raises:
        JobError: If the process died.
    """
    if not record.measure:
        from core.checking import check_fields
        from core.teachers import Finder

        return check_fields(record.config, runs_folder=runs_folder, measured=False, find=Finder(store, runs_folder))
    command = [sys.executable, "-m", "core.checking", "--runs", str(runs_folder), "--database-url", store.url]
    done = subprocess.run(command, input=json.dumps(record.config), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise JobError(
            f"Measuring ended early (status {done.returncode}). A negative status is a signal, and -9 mostly means "
            "that memory ran out: use a smaller batch size or a smaller model."
        )
    return json.loads(done.stdout.splitlines()[-1])


def utterance_means(states: PairedStates) -> PairedStates:
    """Return one point per utterance: the mean of its states on either side."""
    utterances, member, counts = np.unique(states.utterance, return_inverse=True, return_counts=True)
    sums = np.zeros((2, len(utterances), states.student.shape[1]))
    np.add.at(sums[0], member, states.student)
    np.add.at(sums[1], member, states.teacher)
    student, teacher = (sums / counts[:, None]).astype(np.float32)
    return PairedStates(student, teacher, utterances, np.full(len(utterances), -1))


def evenly_thinned(states: PairedStates, most: int) -> PairedStates:
    """Return at most so many points, evenly spread over the probe set, so that every utterance keeps its share."""
    total = len(states.student)
    if total <= most:
        return states
    kept = np.linspace(0, total - 1, most).round().astype(int)
    return PairedStates(states.student[kept], states.teacher[kept], states.utterance[kept], states.moment[kept])


def in_one_space(
    student: Float[np.ndarray, "points student_width"],
    teacher: Float[np.ndarray, "points teacher_width"],
    *,
    mean: Float[np.ndarray, " teacher_width"],
) -> tuple[Float[np.ndarray, "points teacher_width"], Float[np.ndarray, "points teacher_width"], str]:
    """Return both sides of a run without a map of its own in the teacher's space, centred, and how they came there.

    Args:
        student: States of the probe.
        teacher: The same points.
        mean: The teacher's mean state.

    Raises:
        ShapeError: If the sides do not pair up.
    """
    if student.shape[1] == teacher.shape[1]:
        return student - mean, teacher - mean, "same space"
    student, teacher = student - student.mean(axis=0), teacher - teacher.mean(axis=0)
    return (student @ procrustes(student, teacher)).astype(np.float32), teacher, "orthogonal Procrustes"


def _paired_states(record: MapRecord, run: RunRecord, runs_folder: Path) -> tuple[PairedStates, str]:
    """Read the states that a record names and bring them into one space."""
    side, moment_name = record.side, "frame" if record.side == "encoder" else "token"
    of_run = runs_folder / run.id / "states" / f"{record.step:06d}.safetensors"
    of_job = runs_folder / run.probe_folder / "teacher_states.safetensors"
    utterance, moment = _read(of_job, [f"{side}.utterance", f"{side}.{moment_name}"])
    if RunConfig.model_validate(run.config).method.aligns:
        place, how = f"{side}.{record.student_layer}-{record.teacher_layer}", "the run's own mapping"
        student, teacher = _floats(_read(of_run, [f"aligned_student.{place}", f"aligned_teacher.{place}"]))
    else:
        of_teacher = [f"{part}.{side}.{record.teacher_layer}" for part in ("teacher", "mean")]
        (student,) = _floats(_read(of_run, [f"student.{side}.{record.student_layer}"]))
        teacher, mean = _floats(_read(of_job, of_teacher))
        student, teacher, how = in_one_space(student, teacher, mean=mean)
    if not (np.isfinite(student).all() and np.isfinite(teacher).all()):
        raise NotFiniteError(
            f"Some {side} states at step {record.step} are NaN or infinite: the run diverged before. "
            "Lower its learning rate, or choose an earlier step."
        )
    return PairedStates(student, teacher, utterance, moment), how


def _floats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [array.astype(np.float32) for array in arrays]


def _read(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as file:
            missing = sorted(set(names) - set(file.keys()))
            if missing:
                raise StoreError(f"{path} holds no {', '.join(missing)}. Choose a layer that the run's mapping names.")
            return [file.get_tensor(name) for name in names]
    except FileNotFoundError:
        raise StoreError(f"{path} is not there: states are stored when a run gets to that step.") from None
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Run it again to have its states.") from error


def _write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".writing")
    save_file(tensors, written)
    os.replace(written, path)
