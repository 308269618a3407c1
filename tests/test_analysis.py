"""What the analysis worker makes of a run's files: real files, a real database, a real map."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.analysis import PairedStates, evenly_thinned, in_one_space, make_map, utterance_means
from core.config import RunConfig
from core.errors import NotFiniteError, ShapeError, StoreError
from core.store import MapRecord, RunRecord, Store

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

    def _save(self, path: Path, tensors: dict[str, np.ndarray]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


@pytest.fixture
def probe(tmp_path: Path, run: RunRecord) -> Probe:
    return Probe(tmp_path / "runs", run)


def made(
    store: Store, probe: Probe, *, step: int = 0, level: Any = "points", side: Any = "encoder"
) -> tuple[MapRecord, dict[str, np.ndarray]]:
    """Ask for a map as the app does, make it, and return its record and its file."""
    layers = (2, 3) if side == "encoder" else (1, 1)
    store.request_map(probe.run.id, side, *layers, step, level)
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
        "student_xy": ((120, 2), "float32"),
        "teacher_xy": ((120, 2), "float32"),
        "utterance": ((120,), "int32"),
        "moment": ((120,), "int32"),
        "angle": ((120,), "float32"),
    }
    assert np.array_equal(file["utterance"], probe.utterance)
    assert np.array_equal(file["moment"], probe.frame)
    assert all(np.isfinite(value).all() for value in file.values())
    assert [path.name for path in (probe.folder / probe.run.id / "maps").iterdir()] == [f"{record.id}.safetensors"]


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
    assert record.how == "the run's own mapping"
    assert file["angle"] == pytest.approx(np.arccos(cosine), abs=1e-3)


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


def test_states_of_a_run_that_diverged_make_no_map_but_a_sentence(store: Store, probe: Probe) -> None:
    states = probe.student.copy()
    states[3, 3] = np.nan
    probe.write_student(0, states)
    with pytest.raises(NotFiniteError, match="diverged"):
        made(store, probe)


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


def paired(counts: tuple[int, ...]) -> PairedStates:
    random = np.random.default_rng(1)
    total = sum(counts)
    sides = [random.normal(size=(total, 3)).astype(np.float32) for _ in range(2)]
    utterance = np.repeat(np.arange(len(counts)), counts)
    return PairedStates(sides[0], sides[1], utterance, np.concatenate([np.arange(count) for count in counts]))


def test_the_mean_of_an_utterance_is_that_of_its_own_points() -> None:
    states = paired((2, 5, 1))
    means = utterance_means(states)
    for number, (first, last) in enumerate([(0, 2), (2, 7), (7, 8)]):
        assert means.student[number] == pytest.approx(states.student[first:last].mean(axis=0), abs=1e-6)
        assert means.teacher[number] == pytest.approx(states.teacher[first:last].mean(axis=0), abs=1e-6)


def test_thinning_keeps_every_utterances_share_and_pairs_together() -> None:
    states = paired((400, 200, 100))
    thinned = evenly_thinned(states, 70)
    assert np.bincount(thinned.utterance) == pytest.approx([40, 20, 10], abs=1)
    places = [np.flatnonzero((states.student == row).all(axis=1))[0] for row in thinned.student]
    assert len(set(places)) == 70
    assert np.array_equal(thinned.teacher, states.teacher[places])
    assert np.array_equal(thinned.moment, states.moment[places])
    assert evenly_thinned(states, 700) is states


def test_states_of_one_width_are_seen_from_the_teachers_mean() -> None:
    random = np.random.default_rng(2)
    student, teacher, mean = random.normal(size=(5, 3)), random.normal(size=(5, 3)), random.normal(size=3)
    mine, theirs, how = in_one_space(student, teacher, mean=mean)
    assert how == "same space"
    assert mine[2] == pytest.approx(student[2] - mean)
    assert theirs[2] == pytest.approx(teacher[2] - mean)


def test_a_turn_into_another_width_keeps_distances_within_the_student() -> None:
    random = np.random.default_rng(3)
    student, teacher = random.normal(size=(9, 3)), random.normal(size=(9, 5))
    mine, theirs, how = in_one_space(student, teacher, mean=np.zeros(5))
    assert how == "orthogonal Procrustes"
    assert mine.shape == theirs.shape == (9, 5)
    assert np.linalg.norm(mine[0] - mine[4]) == pytest.approx(np.linalg.norm(student[0] - student[4]), rel=1e-5)
