"""What the analysis worker does: maps of student and teacher states, how alike they are, and looks at settings.

    runs/jobs/<job>/teacher_states.safetensors  --\
    runs/<run>/states/<step>.safetensors        ---+--> runs/<run>/maps/<map>.safetensors
                                                          student_xy, teacher_xy    float32 [maps, points, 2]
                                                          angle                     float32 [maps, points], radians
                                                                                    between the two sides, before
                                                          student_neighbours,       int32 [maps, points, 10], places of
                                                          teacher_neighbours        the nearest points, before
                                                          places                    int32 [maps, 3]: student layer,
                                                                                    teacher layer, step
                                                          kept, trustworthiness     float32 [maps]
                                                          utterance                 int32 [points], place in probe.json
                                                          moment                    int32 [points], frame or token; -1
                                                                                    where it is the utterance's mean

UMAP and PyTorch are imported by the request that needs them, so that a check does not wait for UMAP nor a map for
PyTorch.
"""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from core.alignment.comparison import MOST_POINTS as MOST_POINTS_COMPARED
from core.alignment.comparison import Measured, cka_grid, compared
from core.alignment.measures import geodesic_angles
from core.alignment.states import PairedStates, StoredStates, thinned, utterance_means
from core.errors import JobError, ShapeError
from core.store.records import AlignmentRecord
from core.store.request_records import CheckRecord, ComparisonRecord, MapRecord
from core.store.store import Store

MOST_POINTS = 20_000
"""Of each side on one map. More make the page slow; the record tells how many there were."""

MOST_ALIGNED = 4000
"""Of each side on all maps that are aligned together, which take a quarter of a minute for so many."""

FEWEST_ALIGNED = 50
"""On each of them, however many maps there are."""

NEIGHBOURS = 10
"""So many of each point are stored, to be shown beside it."""

Place = tuple[int, int, int]
"""Student layer, teacher layer, step."""


def make_map(record: MapRecord, *, store: Store, runs_folder: Path) -> None:
    """Make the map that a record asks for, or its maps, write them beside the run, and store what they are worth.

    Args:
        record: What is mapped.
        store: Where the result is noted.
        runs_folder: Where the states are, and the map goes.

    Raises:
        StoreError: If the states are not there or cannot be read.
        ShapeError: If the sides do not pair up, or there are too few points.
        NotFiniteError: If a state is NaN or infinite.
    """
    from core.alignment.maps import Sides, aligned_maps, joint_map

    began = time.perf_counter()
    run = store.run(record.run_id)
    stored = StoredStates(run, record.side, runs_folder=runs_folder, teacher_number=record.teacher_number)
    places = _places(record, _with_teacher(store, record))
    # On a busy machine NumPy's threads wait for each other; one is faster there.
    with threadpool_limits(limits=1, user_api="blas"):
        most = MOST_POINTS if len(places) == 1 else max(FEWEST_ALIGNED, MOST_ALIGNED // len(places))
        states, total, how, stratified = _shown(stored, places, record, most=most)
        sides = [Sides(each.student, each.teacher) for each in states]
        if len(sides) == 1:
            maps = [joint_map(student=sides[0].student, teacher=sides[0].teacher, seed=run.seed)]
        else:
            maps, made = aligned_maps(sides, seed=run.seed)
            how = f"{how}; {made}"
    path = Path(run.id) / "maps" / f"{record.id}.safetensors"
    near = {
        f"{side}_neighbours": np.stack([getattr(each.neighbours, side)[:, :NEIGHBOURS] for each in maps])
        for side in ("student", "teacher")
    }
    kept, trust = ([getattr(each, name) for each in maps] for name in ("kept", "trustworthiness"))
    tensors = {
        "student_xy": np.stack([each.student for each in maps]),
        "teacher_xy": np.stack([each.teacher for each in maps]),
        "angle": np.stack([geodesic_angles(each.student, each.teacher) for each in states]).astype(np.float32),
        **near,
        "places": np.array(places, dtype=np.int32),
        "kept": np.array(kept, dtype=np.float32),
        "trustworthiness": np.array(trust, dtype=np.float32),
        "utterance": states[0].utterance.astype(np.int32),
        "moment": states[0].moment.astype(np.int32),
    }
    _write(runs_folder / path, {name: np.ascontiguousarray(value) for name, value in tensors.items()})
    store.finish_map(
        record.id,
        path=str(path),
        trustworthiness=float(np.mean(trust)),
        kept=float(np.mean(kept)),
        points=len(states[0].student),
        points_total=total,
        how=how,
        stratified=stratified,
        seconds=time.perf_counter() - began,
    )


def _with_teacher(store: Store, record: MapRecord | ComparisonRecord) -> list[AlignmentRecord]:
    """Return what was measured with the teacher that a record asks for."""
    return [item for item in store.alignments(record.run_id) if item.teacher_number == record.teacher_number]


def _places(record: MapRecord, alignments: list[AlignmentRecord]) -> list[Place]:
    """Return what is mapped: one layer pair at one step; or every pair at every step, forth and back.

    Neighbours in the list are alike: a pair's steps follow each other, and the next pair begins where the last ended.
    """
    if record.student_layer is not None and record.teacher_layer is not None and record.step is not None:
        return [(record.student_layer, record.teacher_layer, record.step)]
    own = [item for item in alignments if item.side == record.side]
    steps = sorted({item.step for item in own})
    pairs = sorted({(item.student_layer, item.teacher_layer) for item in own})
    there = {(item.student_layer, item.teacher_layer, item.step) for item in own}
    places = [
        (*pair, step)
        for number, pair in enumerate(pairs)
        for step in (steps if number % 2 == 0 else steps[::-1])
        if (*pair, step) in there
    ]
    if not places:
        raise ShapeError(f"No {record.side} states of this run are stored yet. They are taken from its first step on.")
    return places


def _shown(
    stored: StoredStates, places: list[Place], record: MapRecord, *, most: int
) -> tuple[list[PairedStates], int, str, str]:
    """Return the points that are shown at every place, how many there are, how they came into one space, and of what
    each keeps its share.
    """
    found: list[PairedStates] = []
    total, how, stratified, kept = 0, "", "", None
    for place in places:
        states, how = stored.paired(*place)
        if record.level == "utterances":
            states = utterance_means(states)
        if kept is None:
            total = len(states.student)
            kept, stratified = thinned(states.utterance, most, speakers=stored.speakers())
        found.append(states.at(kept))
    return found, total, how, stratified


def compare(record: ComparisonRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
    """Return how alike both sides are at a step.

    ``pairs`` has for each layer pair ("2-3") its measures, each with value, low, high, floor and its range, and ceiling
    (see core.alignment.comparison; None cannot be said). ``grid`` has the debiased linear CKA of every student layer
    with every teacher layer that states are stored of: ``student_layers``, ``teacher_layers``, ``cka``. ``points`` of
    ``points_total`` were compared, of so many ``utterances``.

    Raises:
        StoreError: If the states are not there or cannot be read.
        ShapeError: If the sides do not pair up, or there are too few points.
        NotFiniteError: If a state is NaN or infinite.
    """
    run = store.run(record.run_id)
    stored = StoredStates(run, record.side, runs_folder=runs_folder, teacher_number=record.teacher_number)
    measured = _with_teacher(store, record)
    at = [item for item in measured if (item.side, item.step) == (record.side, record.step)]
    if not at:
        raise ShapeError(f"No {record.side} states of step {record.step} are stored. Choose another step.")
    pairs: dict[str, Any] = {}
    total, kept, utterances = 0, np.zeros(0, dtype=int), 0
    for item in at:
        aligned, _ = stored.paired(item.student_layer, item.teacher_layer, record.step)
        total, utterances = len(aligned.student), len(np.unique(aligned.utterance))
        kept, _ = thinned(aligned.utterance, MOST_POINTS_COMPARED, speakers=stored.speakers())
        found = compared(
            student=stored.student(item.student_layer, record.step)[kept],
            teacher=stored.teacher(item.teacher_layer)[kept],
            aligned_student=aligned.student[kept],
            aligned_teacher=aligned.teacher[kept],
            utterance=aligned.utterance[kept],
            seed=run.seed,
        )
        pairs[f"{item.student_layer}-{item.teacher_layer}"] = {name: _stored(each) for name, each in found.items()}
    mine, theirs = stored.layers(record.step)
    students = [stored.student(layer, record.step)[kept] for layer in mine]
    cka = cka_grid(students, [stored.teacher(layer)[kept] for layer in theirs])
    return {
        "pairs": pairs,
        "grid": {"student_layers": mine, "teacher_layers": theirs, "cka": cka},
        "points": len(kept),
        "points_total": total,
        "utterances": utterances,
    }


def _stored(measured: Measured) -> dict[str, float | None]:
    """Return numbers as JSON has them: what cannot be said is nothing."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(measured).items()}


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


def _write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".writing")
    save_file(tensors, written)
    os.replace(written, path)
