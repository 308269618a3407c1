"""A run's stored states as they are compared: read, paired, thinned, and brought into one space.

runs/jobs/<job>/teacher_states.safetensors   of further teachers teacher_states.of1.safetensors, ...
runs/<run>/states/<step>.safetensors         (both written by core.probes)
runs/jobs/<job>/probe.json
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open

from core.alignment.measures import procrustes
from core.config import RunConfig
from core.errors import NotFiniteError, StoreError
from core.store.records import RunRecord, Side, teacher_states


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

    def at(self, places: Int[np.ndarray, " kept"]) -> "PairedStates":
        """Return some of the points."""
        return PairedStates(self.student[places], self.teacher[places], self.utterance[places], self.moment[places])


class StoredStates:
    """The files of a run's states, and of one teacher's, at one side of the models."""

    def __init__(self, run: RunRecord, side: Side, *, runs_folder: Path, teacher_number: int = 0) -> None:
        """Name the files; nothing is read yet.

        Args:
            run: Whose states.
            side: Encoder frames or decoder tokens.
            runs_folder: Where they are.
            teacher_number: Which teacher's, from 0.
        """
        self._run, self._side, self._number = run, side, teacher_number
        self._states = runs_folder / run.id / "states"
        self._of_job = runs_folder / run.probe_folder
        self._method = RunConfig.model_validate(run.config).method

    def paired(self, student_layer: int, teacher_layer: int, step: int) -> tuple["PairedStates", str]:
        """Return both sides of a layer pair at a step in one space, and how they came there.

        Raises:
            StoreError: If the states are not there or cannot be read.
            ShapeError: If the sides do not pair up.
            NotFiniteError: If a state is NaN or infinite.
        """
        moment_name = "frame" if self._side == "encoder" else "token"
        utterance, moment = _read(self._teacher_file, [f"{self._side}.utterance", f"{self._side}.{moment_name}"])
        if self._method.aligns:
            place = f"{self._side}.{student_layer}-{teacher_layer}{f'.of{self._number}' if self._number else ''}"
            projection = self._method.mapping.projection
            how = "the run's mapping, without a projection" if projection == "none" else "the learned projection"
            names = [f"aligned_student.{place}", f"aligned_teacher.{place}"]
            student, teacher = _floats(_read(self._student_file(step), names))
        else:
            student, teacher = self.student(student_layer, step), self.teacher(teacher_layer)
            (mean,) = _floats(_read(self._teacher_file, [f"mean.{self._side}.{teacher_layer}"]))
            student, teacher, how = in_one_space(student, teacher, mean=mean)
        for states in (student, teacher):
            self._require_finite(states, step)
        return PairedStates(student, teacher, utterance, moment), how

    def student(self, layer: int, step: int) -> Float[np.ndarray, "points width"]:
        """Return the student's states of a layer at a step as they are; raises as `paired` does."""
        name = f"student.{self._side}.{layer}"
        # Layers that are never trained are stored once for all runs of a job.
        frozen = layer in _layers(self._first_teacher_file, f"student.{self._side}.")
        (states,) = _floats(_read(self._first_teacher_file if frozen else self._student_file(step), [name]))
        self._require_finite(states, step)
        return states

    def teacher(self, layer: int) -> Float[np.ndarray, "points width"]:
        """Return the teacher's states of a layer; raises as `paired` does."""
        return _floats(_read(self._teacher_file, [f"teacher.{self._side}.{layer}"]))[0]

    def layers(self, step: int) -> tuple[list[int], list[int]]:
        """Return of which layers of student and teacher there are states."""
        files = self._student_file(step), self._first_teacher_file
        student, frozen = (_layers(file, f"student.{self._side}.") for file in files)
        return sorted({*student, *frozen}), _layers(self._teacher_file, f"teacher.{self._side}.")

    def speakers(self) -> list[str | None]:
        """Return the speaker of each utterance of the probe; nobody where the list cannot be read."""
        try:
            described = json.loads((self._of_job / "probe.json").read_text(encoding="utf-8"))
            return [item["speaker"] for item in described]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    @property
    def _teacher_file(self) -> Path:
        return self._of_job / teacher_states(self._number)

    @property
    def _first_teacher_file(self) -> Path:
        return self._of_job / teacher_states(0)

    def _student_file(self, step: int) -> Path:
        return self._states / f"{step:06d}.safetensors"

    def _require_finite(self, states: np.ndarray, step: int) -> None:
        if not np.isfinite(states).all():
            why = (
                "the run diverged before. Lower its learning rate, or choose an earlier step."
                if step
                else "before any training. Set training.precision to float32 if it is not, or take another model."
            )
            raise NotFiniteError(f"Some {self._side} states at step {step} are NaN or infinite: {why}")


def utterance_means(states: PairedStates) -> PairedStates:
    """Return one point per utterance: the mean of its states on either side."""
    utterances, member, counts = np.unique(states.utterance, return_inverse=True, return_counts=True)
    sums = np.zeros((2, len(utterances), states.student.shape[1]))
    np.add.at(sums[0], member, states.student)
    np.add.at(sums[1], member, states.teacher)
    student, teacher = (sums / counts[:, None]).astype(np.float32)
    return PairedStates(student, teacher, utterances, np.full(len(utterances), -1))


def thinned(
    utterance: Int[np.ndarray, " points"], most: int, *, speakers: Sequence[str | None] = ()
) -> tuple[Int[np.ndarray, " kept"], str]:
    """Return the places of at most so many points, and by what they were stratified.

    Points are taken evenly, ordered by speaker where all speakers are known, so that every speaker keeps its share to
    one point, and every utterance, too.

    Args:
        utterance: Place of each point's utterance in the probe set.
        most: How many are kept.
        speakers: Of the probe set's utterances.
    """
    known = len(speakers) > max(utterance, default=-1) and None not in speakers
    if known:
        _, member = np.unique([str(name) for name in speakers], return_inverse=True)
        order = np.lexsort((utterance, member[utterance]))
    else:
        order = np.argsort(utterance, kind="stable")
    places = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    return np.sort(order[places]), "speaker" if known else "utterance"


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


def _floats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [array.astype(np.float32) for array in arrays]


def _layers(path: Path, prefix: str) -> list[int]:
    return sorted(int(name.removeprefix(prefix)) for name in _names(path) if name.startswith(prefix))


def _names(path: Path) -> list[str]:
    with _explained(path), safe_open(path, framework="numpy") as file:
        return list(file.keys())


def _read(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    missing = sorted(set(names) - set(_names(path)))
    if missing:
        raise StoreError(f"{path} holds no {', '.join(missing)}. Choose a layer that the run's mapping names.")
    with _explained(path), safe_open(path, framework="numpy") as file:
        return [file.get_tensor(name) for name in names]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StoreError(
            f"{path} is not there. A run stores states when it gets to that step; one that came in a bundle without "
            "adapters and states has none, and shows the maps that were drawn before."
        ) from None
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Run it again to have its states.") from error
