"""What the analysis worker makes of a run's files: real files, a real database, a real map."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.alignment.measures import geodesic_angles, linear_cka
from core.analysis import compare, make_map
from core.config import RunConfig
from core.errors import NotFiniteError, ShapeError, StoreError
from core.store import AlignmentRecord, MapRecord, RunRecord, Store

WIDTH = 8
COUNTS = (30, 40, 50)
STEPS = 10
GEODESIC = {"name": "manifold", "losses": [{"kind": "geodesic"}]}


@pytest.fixture
def run(store: Store, make_config: Callable[..., RunConfig]) -> RunRecord:
    config = make_config(method=GEODESIC, training={"steps": STEPS})
    return store.runs(job_id=store.create_job("job", [config]).id)[0]


class Probe:
    """The files of a run's probe: 120 frames of three utterances, and as many tokens."""

    def __init__(self, folder: Path, run: RunRecord, *, width: int = WIDTH) -> None:
        random = np.random.default_rng(0)
        self.folder, self.run = folder, run
        self.mean = random.normal(size=WIDTH).astype(np.float32)
        self.teacher = (self.mean + random.normal(size=(sum(COUNTS), WIDTH))).astype(np.float16)
        self.utterance = np.repeat(np.arange(3), COUNTS).astype(np.int32)
        self.frame = np.concatenate([4 * np.arange(count) for count in COUNTS]).astype(np.int32)
        to_student = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0][:, :width]
        self.student = (self.teacher.astype(np.float32) @ to_student).astype(np.float16)
        self.write_teacher()
        self.write_student(0)

    def write_teacher(self, **changes: np.ndarray) -> None:
        tensors = {
            "teacher.encoder.3": self.teacher,
            "mean.encoder.3": self.mean,
            "encoder.utterance": self.utterance,
            "encoder.frame": self.frame,
            "teacher.decoder.1": self.teacher,
            "mean.decoder.1": self.mean,
            "decoder.utterance": self.utterance,
            "decoder.token": self.frame // 4,
        }
        self._save(self.folder / "jobs" / self.run.job_id / "teacher_states.safetensors", tensors | changes)

    def write_student(
        self, step: int, states: np.ndarray | None = None, aligned: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        """Write states of a step, and both sides where the run's mapping takes them."""
        states = self.student if states is None else states
        tensors = {"student.encoder.2": states, "student.decoder.1": states}
        mine, theirs = aligned or (states, self.teacher)
        for place in ("encoder.2-3", "decoder.1-1"):
            tensors |= {f"aligned_student.{place}": mine, f"aligned_teacher.{place}": theirs}
        self._save(self.folder / self.run.id / "states" / f"{step:06d}.safetensors", tensors)

    def write_further_teacher(self, states: np.ndarray, step: int) -> None:
        """Write the states of a second teacher, and both sides of a step where the run's mapping takes them."""
        points = {"encoder.utterance": self.utterance, "encoder.frame": self.frame}
        of_job = self.folder / "jobs" / self.run.job_id
        self._save(of_job / "teacher_states.of1.safetensors", {"teacher.encoder.3": states, **points})
        place = "encoder.2-3"
        both = {f"aligned_student.{place}": self.student, f"aligned_teacher.{place}": self.teacher}
        of_it = {f"aligned_student.{place}.of1": self.student, f"aligned_teacher.{place}.of1": states}
        self._save(self.folder / self.run.id / "states" / f"{step:06d}.safetensors", both | of_it)

    def _save(self, path: Path, tensors: dict[str, np.ndarray]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


@pytest.fixture
def probe(tmp_path: Path, run: RunRecord) -> Probe:
    return Probe(tmp_path / "runs", run)


def made(
    store: Store,
    probe: Probe,
    *,
    step: int = 0,
    level: Any = "points",
    side: Any = "encoder",
    teacher_number: int = 0,
) -> tuple[MapRecord, dict[str, np.ndarray]]:
    """Ask for a map as the app does, make it, and return its record and its file."""
    layers = (2, 3) if side == "encoder" else (1, 1)
    store.request_map(probe.run.id, side, *layers, step, level, teacher_number=teacher_number)
    claimed = store.claim_map()
    assert claimed is not None
    make_map(claimed, store=store, runs_folder=probe.folder)
    record = store.map(claimed.id)
    return record, load_file(probe.folder / record.path)


def test_a_map_has_both_sides_of_every_point_and_says_which_point_each_is(store: Store, probe: Probe) -> None:
    record, file = made(store, probe)
    assert (record.state, record.points, record.points_total) == ("finished", 120, 120)
    assert record.path == f"{probe.run.id}/maps/{record.id}.safetensors"
    assert record.trustworthiness is not None
    assert 0.5 < record.trustworthiness <= 1
    assert record.seconds is not None
    assert record.seconds > 0
    assert {name: (value.shape, str(value.dtype)) for name, value in file.items()} == {
        "student_xy": ((1, 120, 2), "float32"),
        "teacher_xy": ((1, 120, 2), "float32"),
        "student_neighbours": ((1, 120, 10), "int32"),
        "teacher_neighbours": ((1, 120, 10), "int32"),
        "places": ((1, 3), "int32"),
        "kept": ((1,), "float32"),
        "trustworthiness": ((1,), "float32"),
        "utterance": ((120,), "int32"),
        "moment": ((120,), "int32"),
        "angle": ((1, 120), "float32"),
    }
    assert np.array_equal(file["utterance"], probe.utterance)
    assert np.array_equal(file["moment"], probe.frame)
    assert all(np.isfinite(value).all() for value in file.values())
    assert [path.name for path in (probe.folder / probe.run.id / "maps").iterdir()] == [f"{record.id}.safetensors"]


def measured_at(store: Store, run: RunRecord, *steps: int, layers: tuple[int, int] = (2, 3)) -> None:
    """Say that states of the encoder were stored at some steps, as a run does."""
    store.add_alignments(
        [AlignmentRecord(run.id, step, "during", "encoder", *layers, 120, 0.5, 1.0, 0.3, 10) for step in steps]
    )


def all_steps(store: Store, probe: Probe) -> tuple[MapRecord, dict[str, np.ndarray]]:
    """Ask for aligned maps of frames, make them, and return their record and file."""
    store.request_map(probe.run.id, "encoder", None, None, None, "points")
    claimed = store.claim_map()
    assert claimed is not None
    make_map(claimed, store=store, runs_folder=probe.folder)
    record = store.map(claimed.id)
    return record, load_file(probe.folder / record.path)


def test_maps_of_all_steps_and_layers_have_the_same_points_and_follow_each_other(store: Store, probe: Probe) -> None:
    random = np.random.default_rng(8)
    for step in (0, 5, STEPS):
        probe.write_student(step, (probe.student + step / 20 * random.normal(size=(120, WIDTH))).astype(np.float16))
    measured_at(store, probe.run, 0, 5, STEPS)
    record, file = all_steps(store, probe)
    assert (record.step, record.points, record.points_total) == (None, 120, 120)
    assert record.how == "the learned projection; AlignedUMAP"
    assert file["places"].tolist() == [[2, 3, 0], [2, 3, 5], [2, 3, STEPS]]
    assert file["student_xy"].shape == file["teacher_xy"].shape == (3, 120, 2)
    assert file["student_neighbours"].shape == (3, 120, 10)
    assert record.kept == pytest.approx(file["kept"].mean())
    assert all(np.isfinite(value).all() for value in file.values())


def test_neighbours_of_a_point_are_those_of_its_own_side_before_the_map(store: Store, probe: Probe) -> None:
    random = np.random.default_rng(6)
    mine, theirs = random.normal(size=(2, 120, 5)).astype(np.float16)
    probe.write_student(STEPS, aligned=(mine, theirs))
    _, file = made(store, probe, step=STEPS)
    for name, side in (("student", mine), ("teacher", theirs)):
        rows = np.float32(side) / np.linalg.norm(np.float32(side), axis=1, keepdims=True)
        similarity = rows @ rows.T
        np.fill_diagonal(similarity, -2)
        nearest = np.sort(np.take_along_axis(similarity, file[f"{name}_neighbours"][0], axis=1))
        assert nearest == pytest.approx(np.sort(similarity)[:, -10:], abs=1e-5)


def test_a_map_with_a_further_teacher_is_of_its_states(store: Store, probe: Probe) -> None:
    theirs = np.random.default_rng(9).normal(size=(120, WIDTH)).astype(np.float16)
    probe.write_further_teacher(theirs, STEPS)
    record, file = made(store, probe, step=STEPS, teacher_number=1)
    assert record.teacher_number == 1
    assert file["angle"][0] == pytest.approx(
        geodesic_angles(probe.student.astype(float), theirs.astype(float)), abs=1e-3
    )


def test_a_further_teacher_whose_states_are_not_stored_is_refused_in_a_sentence(store: Store, probe: Probe) -> None:
    with pytest.raises(StoreError, match=r"teacher_states\.of1\.safetensors is not there"):
        made(store, probe, teacher_number=1)


def test_maps_of_all_steps_before_any_is_stored_are_refused_in_a_sentence(store: Store, probe: Probe) -> None:
    with pytest.raises(ShapeError, match="stored yet"):
        all_steps(store, probe)


def test_a_comparison_has_every_pair_with_its_interval_and_every_layer_that_is_stored(
    store: Store, probe: Probe
) -> None:
    probe.write_teacher(**{"teacher.encoder.1": probe.teacher[::-1], "student.encoder.0": probe.student})
    measured_at(store, probe.run, 0)
    found = compare(store.request_comparison(probe.run.id, "encoder", 0), store=store, runs_folder=probe.folder)
    assert list(found["pairs"]) == ["2-3"]
    cka = found["pairs"]["2-3"]["linear_cka"]
    assert cka["low"] < cka["value"] < cka["high"] <= 1
    assert cka["value"] == pytest.approx(linear_cka(probe.student.astype(float), probe.teacher.astype(float)), abs=1e-4)
    assert (found["grid"]["student_layers"], found["grid"]["teacher_layers"]) == ([0, 2], [1, 3])
    assert found["grid"]["cka"][1][1] == pytest.approx(cka["value"], abs=1e-4)
    assert abs(found["grid"]["cka"][1][0]) < 0.2
    assert (found["points"], found["points_total"], found["utterances"]) == (120, 120, 3)


def test_a_comparison_of_a_step_without_states_is_refused_in_a_sentence(store: Store, probe: Probe) -> None:
    asked = store.request_comparison(probe.run.id, "encoder", 7)
    with pytest.raises(ShapeError, match="step 7"):
        compare(asked, store=store, runs_folder=probe.folder)


def test_tokens_are_mapped_as_frames_are(store: Store, probe: Probe) -> None:
    _, file = made(store, probe, side="decoder")
    assert np.array_equal(file["moment"], probe.frame // 4)


def test_a_map_of_utterances_has_one_point_for_each(store: Store, probe: Probe) -> None:
    counts = np.full(6, 20)
    probe.write_teacher(**{"encoder.utterance": np.repeat(np.arange(6), counts).astype(np.int32)})
    record, file = made(store, probe, level="utterances")
    assert (record.points, record.points_total) == (6, 6)
    assert file["utterance"].tolist() == [0, 1, 2, 3, 4, 5]
    assert file["moment"].tolist() == [-1] * 6


def test_too_few_utterances_make_no_map_but_a_sentence(store: Store, probe: Probe) -> None:
    with pytest.raises(ShapeError, match="at least 4 points"):
        made(store, probe, level="utterances")


def test_a_run_that_aligns_is_seen_where_its_losses_compare(store: Store, probe: Probe) -> None:
    random = np.random.default_rng(4)
    mine, theirs = random.normal(size=(2, 120, 5)).astype(np.float16)
    probe.write_student(STEPS, aligned=(mine, theirs))
    record, file = made(store, probe, step=STEPS)
    u, v = np.float64(mine), np.float64(theirs)
    cosine = (u * v).sum(axis=1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    assert record.how == "the learned projection"
    assert file["angle"][0] == pytest.approx(np.arccos(cosine), abs=1e-3)


def test_a_run_that_aligns_nothing_is_seen_as_its_states_are(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    job = store.create_job("job", [make_config(training={"steps": STEPS})])
    probe = Probe(tmp_path / "runs", store.runs(job_id=job.id)[0])
    probe.write_student(STEPS, probe.teacher)
    record, file = made(store, probe, step=STEPS)
    assert record.how == "same space"
    assert file["angle"].max() < 1e-6


def test_a_narrower_student_that_aligns_nothing_is_turned_into_the_teachers_space(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    job = store.create_job("job", [make_config(training={"steps": STEPS})])
    record, file = made(store, Probe(tmp_path / "runs", store.runs(job_id=job.id)[0], width=5))
    assert record.how == "orthogonal Procrustes"
    assert np.isfinite(file["student_xy"]).all()


@pytest.mark.parametrize(("step", "why"), [(0, "before any training.*float32"), (STEPS, "diverged.*learning rate")])
def test_states_that_are_no_numbers_make_no_map_but_a_sentence(store: Store, probe: Probe, step: int, why: str) -> None:
    states = probe.student.copy()
    states[3, 3] = np.nan
    probe.write_student(step, states)
    with pytest.raises(NotFiniteError, match=why):
        made(store, probe, step=step)


def test_a_step_without_states_is_refused_by_name(store: Store, probe: Probe) -> None:
    with pytest.raises(StoreError, match=r"000007\.safetensors is not there"):
        made(store, probe, step=7)


def test_a_layer_that_was_not_stored_is_refused_by_name(store: Store, probe: Probe) -> None:
    store.request_map(probe.run.id, "encoder", 1, 3, 0, "points")
    claimed = store.claim_map()
    assert claimed is not None
    with pytest.raises(StoreError, match=r"holds no aligned_student\.encoder\.1-3"):
        make_map(claimed, store=store, runs_folder=probe.folder)


def test_a_damaged_file_is_refused(store: Store, probe: Probe) -> None:
    path = probe.folder / probe.run.id / "states" / "000000.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match="cannot be read"):
        made(store, probe)
