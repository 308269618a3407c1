"""The whole work of a job on the real tiny.en, with very little speech."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.ablation import ablation_table
from core.analysis import compare
from core.config import parse_run
from core.errors import ConfigError, ManifoldError, Stopped
from core.job import run_job, set_sizes
from core.sources import prepare
from core.store import Store
from core.watching import evaluation_steps

SMALL = {
    "lora": {"rank": 4, "alpha": 8},
    # The same on every machine: half precision has a test of its own.
    "training": {
        "steps": 2,
        "batch_size": 2,
        "audio_context": 6,
        "evaluations": 1,
        "learning_rate": 0.003,
        "precision": "float32",
    },
    "evaluation": {"audio_context": 8},
    "source": {"kind": "generated", "train": 2, "development": 2, "test": 2},
}
MANIFOLD = {
    "name": "manifold",
    "losses": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}, {"kind": "geodesic", "weight": 8}],
}
MIXTURE = {"rank": 10, "alpha": 20, "mixture": {"experts": 4, "top_k": 1}}
ALONE = {"name": "alone", "losses": [{"kind": "geodesic", "decoder": False}]}


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path, str]:
    """Three runs, one of which cannot learn, on the real model; done once for the tests below."""
    folder = tmp_path_factory.mktemp("job")
    store = Store.open(f"sqlite:///{folder / 'experiments.db'}")
    idle = {"rank": 2, "decoder_targets": ["fc1"]}
    configs = [
        parse_run({**SMALL, "name": "manifold", "method": MANIFOLD}),
        parse_run({**SMALL, "name": "idle adapters", "method": ALONE, "lora": idle}),
        parse_run({**SMALL, "name": "mixture", "method": MANIFOLD, "lora": MIXTURE}),
    ]
    job = store.create_job("three", configs)
    with pytest.raises(ManifoldError, match="idle adapters"):
        run_job(job.id, store=store, runs_folder=folder / "runs", stop=never)
    return store, folder / "runs", job.id


def test_a_run_ends_with_its_student_measured(finished: tuple[Store, Path, str]) -> None:
    store, folder, job_id = finished
    run = next(run for run in store.runs(job_id=job_id) if run.name == "manifold")

    assert (run.state, run.step, run.precision) == ("finished", 2, "float32")
    assert {metric.step for metric in store.metrics(run.id, ["loss/total"])} == {1, 2}
    counts = store.parameters(run.id)
    assert counts is not None
    assert counts.projections == 384 * 384
    assert counts.adapters == 4 * (4 * 768 + 2 * (384 + 1536))
    subjects = {(item.subject, item.test_set) for item in store.evaluations(job_id=job_id)}
    assert subjects == {
        ("teacher", "development"),
        ("teacher", "test"),
        ("student_before", "test"),
        ("student", "development"),
        ("student", "test"),
    }
    result = next(item for item in store.evaluations(run_id=run.id) if item.test_set == "test")
    teacher = next(item for item in store.evaluations(job_id=job_id, test_set="test") if item.subject == "teacher")
    assert result.heldout_kl is not None
    assert result.heldout_kl > 0
    assert result.audio_context == 8
    assert teacher.wer < 0.7 <= result.wer
    assert [item.utterance_id for item in store.utterance_results(result.id)] == ["test-000", "test-001"]
    assert (folder / run.id / "adapters" / "best" / "adapter_model.safetensors").is_file()


def test_a_mixture_stays_beside_the_student_and_tells_the_load_of_its_experts(
    finished: tuple[Store, Path, str],
) -> None:
    store, folder, job_id = finished
    run = next(run for run in store.runs(job_id=job_id) if run.name == "mixture")

    assert (run.state, run.step) == ("finished", 2)
    counts = store.parameters(run.id)
    assert counts is not None
    assert counts.adapters == 10 * (4 * 768 + 2 * (384 + 1536))  # what adapters of rank 10 have
    assert counts.student_active is not None
    assert counts.student - counts.student_active == 3 * 2 * (4 * 768 + 2 * (384 + 1536))  # three experts of rank 2
    names = {path.name for path in (folder / run.id / "adapters" / "best").iterdir()}
    assert names == {"mixture.json", "mixture.safetensors", "projections.safetensors"}
    assert {metric.step for metric in store.metrics(run.id, ["loss/balance"])} == {1, 2}

    table = ablation_table(store, job_id)
    row = table.rows[2]
    assert row.evaluation is not None
    assert len(row.load) == 4
    assert sum(row.load) == pytest.approx(1)
    assert list(row.load) == sorted(row.load, reverse=True)
    assert table.rows[0].load == ()


def test_the_layers_of_what_the_student_is_cut_from_are_measured_on_training_clips(
    finished: tuple[Store, Path, str],
) -> None:
    store, _, job_id = finished
    scan = store.layer_scan(job_id)
    assert scan is not None
    assert (scan.model, scan.clips, scan.audio_context) == ("openai/whisper-tiny.en", 2, 6)
    # The decoder stays whole.
    assert (scan.depth("encoder"), scan.depth("decoder")) == (4, 0)
    alone = [each.distance for each in scan.distances if each.first == each.last]
    assert alone[:3] == pytest.approx([0.313, 0.171, 0.207], abs=0.02)
    assert scan.seconds > 0


def test_the_alignment_is_followed_from_before_to_after(finished: tuple[Store, Path, str]) -> None:
    store, folder, job_id = finished
    run = next(run for run in store.runs(job_id=job_id) if run.name == "manifold")

    records = store.alignments(run.id)
    assert {(item.side, item.student_layer, item.teacher_layer) for item in records} == {
        ("encoder", 2, 3),
        *(("decoder", layer, layer) for layer in range(4)),
    }
    assert {item.stage for item in records} == {"before", "during", "after"}
    probe = json.loads((folder / "jobs" / job_id / "probe.json").read_text())
    teacher = load_file(folder / "jobs" / job_id / "teacher_states.safetensors")
    student = load_file(folder / run.id / "states" / "000002.safetensors")
    assert [item["id"] for item in probe] == ["development-000", "development-001"]
    assert student["student.encoder.2"].shape == teacher["teacher.encoder.3"].shape
    assert set(teacher["decoder.utterance"].tolist()) == {0, 1}
    assert sorted(name for name in teacher if name.startswith(("teacher", "student"))) == [
        *(f"student.encoder.{layer}" for layer in range(2)),
        *(f"teacher.{side}.{layer}" for side in ("decoder", "encoder") for layer in range(4)),
    ]
    assert (store.maps(run.id)[0].side, store.maps(run.id)[0].step) == ("encoder", None)


def test_the_heat_map_has_every_layer_and_frozen_ones_are_the_teachers(finished: tuple[Store, Path, str]) -> None:
    store, folder, job_id = finished
    run = next(run for run in store.runs(job_id=job_id) if run.name == "manifold")
    found = compare(store.request_comparison(run.id, "encoder", 2), store=store, runs_folder=folder)
    assert (found["grid"]["student_layers"], found["grid"]["teacher_layers"]) == ([0, 1, 2], [0, 1, 2, 3])
    # The student's first two layers are the teacher's; states are kept in half precision.
    assert [found["grid"]["cka"][layer][layer] for layer in (0, 1)] == pytest.approx([1, 1], abs=1e-3)
    (measured,) = found["pairs"].values()
    assert set(measured) == {"linear_cka", "mutual_knn", "rsa", "procrustes_residual", "geodesic_angle"}


def test_a_run_that_cannot_learn_fails_alone_with_what_to_do(finished: tuple[Store, Path, str]) -> None:
    store, _, job_id = finished
    run = next(run for run in store.runs(job_id=job_id) if run.name == "idle adapters")
    assert run.state == "failed"
    assert "Remove their targets" in run.message


@pytest.mark.long
def test_a_run_in_half_precision_hears_and_learns_in_it(store: Store, tmp_path: Path) -> None:
    # Trap: features that are made in half precision, too, where the models' precision holds around them.
    halved = {**SMALL, "training": {**SMALL["training"], "precision": "bfloat16"}}
    job = store.create_job("halved", [parse_run({**halved, "method": MANIFOLD})])
    run_job(job.id, store=store, runs_folder=tmp_path, stop=never)
    (run,) = store.runs(job_id=job.id)
    assert (run.state, run.precision) == ("finished", "bfloat16")
    assert len(store.metrics(run.id, ["loss/total"])) == 2


def test_runs_that_adapt_the_decoder_alone_are_trained_side_by_side(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = {
        **SMALL,
        "training": {**SMALL["training"], "length_buckets": 16},
        "source": {**SMALL["source"], "train": 4},
        "lora": {"rank": 4, "alpha": 8, "encoder_targets": [], "decoder_targets": ["q_proj"]},
    }
    reaches_nothing = [{"kind": "cross_entropy"}, {"kind": "geodesic", "decoder": False}]
    configs = [
        parse_run({**decoder, "name": "transcripts", "method": {"losses": [{"kind": "cross_entropy"}]}}),
        parse_run({**decoder, "name": "idle", "method": {"losses": reaches_nothing}, "seed": 1}),
        parse_run({**decoder, "name": "logits", "method": {"losses": [{"kind": "soft_labels"}]}, "seed": 2}),
    ]
    caplog.set_level("INFO", "core")
    job = store.create_job("decoders", configs)
    with pytest.raises(ManifoldError, match="idle: geodesic sends no gradient"):
        run_job(job.id, store=store, runs_folder=tmp_path / "runs", stop=never)
    logged = caplog.messages
    assert logged[0].startswith("On ")
    assert f"torch {torch.__version__}" in logged[0]
    began = ["Loading the models", "Preparing the speech", "Training transcripts, idle, logits"]
    began += [f"Transcribing with {name} (test)" for name in ("transcripts", "logits")]
    assert [stage for stage in logged if stage in began] == began
    assert [line for line in logged if line.startswith("idle failed: geodesic sends no gradient")]
    saved = "step 2 of 2: read the development set, saved its adapters as last and best"
    assert [line for line in logged if "saved" in line] == [f"{name}, {saved}" for name in ("transcripts", "logits")]
    assert all(one != other for one, other in pairwise(logged))
    by_name = {run.name: run for run in store.runs(job_id=job.id)}
    assert by_name["idle"].state == "failed"
    for name in ("transcripts", "logits"):
        run = by_name[name]
        assert (run.state, run.step) == ("finished", 2)
        assert [metric.step for metric in store.metrics(run.id, ["loss/total"])] == [1, 2]
        assert sorted(item.test_set for item in store.evaluations(run_id=run.id)) == ["development", "test"]


def test_a_job_learns_from_the_teachers_transcripts_and_from_audio_that_has_none(store: Store, tmp_path: Path) -> None:
    """The training set: one clip with its text, one with a wrong text, one without any."""
    source = parse_run({**SMALL, "method": MANIFOLD}).source.model_copy(update={"train": 3, "signal_to_noise": 40.0})
    splits = prepare(source, tmp_path / "data", lambda done, total: None)
    right, wrong, silent = splits.train
    texts = {right.id: right.text, wrong.id: "nothing of this was ever said by anybody", silent.id: None}
    manifests = {}
    for name, clips in (("train", splits.train), ("development", splits.development), ("test", splits.test)):
        rows = [
            {"id": clip.id, "audio_filepath": str(clip.audio_path), "text": texts.get(clip.id, clip.text)}
            for clip in clips
        ]
        manifests[name] = tmp_path / f"{name}.jsonl"
        manifests[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = {
        **SMALL,
        "source": {"kind": "manifest", "transcripts": False, **{name: str(path) for name, path in manifests.items()}},
        # With less context the teacher errs too often to tell its errors from a wrong text.
        "training": {**SMALL["training"], "steps": 1, "audio_context": 15, "length_buckets": 5},
        "evaluation": {"audio_context": 15, "test": False},
    }
    token = {"losses": [{"kind": "cross_entropy"}]}
    configs = [
        parse_run({**shared, "name": name, "method": method})
        for name, method in (
            ("references", token),
            ("teacher's", {**token, "transcripts": "teacher", "largest_wer": 0.5}),
            ("audio alone", ALONE),
        )
    ]
    job = store.create_job("pseudo-labels", configs)
    run_job(job.id, store=store, runs_folder=tmp_path / "runs", stop=never)
    learnt = {
        run.name: metric.value
        for run in store.runs(job_id=job.id)
        for metric in store.metrics(run.id, ["data/utterances"])
    }
    # Right and wrong have references; the teacher differs from the wrong one, and has nothing to differ from in the
    # third; without a decoder pass every clip counts.
    assert learnt == {"references": 2, "teacher's": 2, "audio alone": 3}
    ranks = store.metrics(store.runs(job_id=job.id)[0].id, ["effective_rank/encoder.2"])
    assert [metric.step for metric in ranks] == [0, 1]


def test_words_invented_where_nothing_is_said_are_insertions_and_a_silent_set_has_a_rate_by_the_minute(
    store: Store, tmp_path: Path
) -> None:
    splits = prepare(parse_run({**SMALL, "method": MANIFOLD}).source, tmp_path / "data", lambda done, total: None)
    for name, clips in (("train", splits.train), ("development", splits.development), ("test", splits.test)):
        # The second test clip has speech that no transcript tells of: whatever is written of it is too much.
        texts = [clip.text if name != "test" or clip is clips[0] else "" for clip in clips]
        rows = [{"audio_filepath": str(clip.audio_path), "text": text} for clip, text in zip(clips, texts, strict=True)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    silence = [{"audio_filepath": str(clip.audio_path), "text": ""} for clip in splits.test]
    (tmp_path / "silence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in silence))
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "development", "test")}
    fields = {**SMALL, "method": MANIFOLD, "source": {"kind": "manifest", **paths}}
    fields["training"] = {**SMALL["training"], "steps": 1}
    extra = {**SMALL["evaluation"], "extra_tests": [str(tmp_path / "silence.jsonl")]}
    job = store.create_job("silence", [parse_run({**fields, "evaluation": extra})])
    run_job(job.id, store=store, runs_folder=tmp_path / "runs", stop=never)
    table = ablation_table(store, job.id)
    for record in store.evaluations(job_id=job.id, test_set="test"):
        said, silent = store.utterance_results(record.id)
        assert (silent.words, silent.substitutions, silent.deletions) == (0, 0, 0)
        assert record.wer == pytest.approx((said.errors + silent.insertions) / said.words)
    assert table.teacher is not None
    assert table.teacher.insertions > 0
    # Tiny has four layers on each side; the student lacks one of the encoder's.
    (row,) = table.rows
    read = [item for item in (table.teacher, row.evaluation) if item is not None]
    assert [(item.encoder_layers, item.decoder_layers) for item in read] == [(4, 4), (3, 4)]
    minutes = sum(clip.duration for clip in splits.test) / 60
    alone = table.extra["silence"]
    assert alone.teacher is not None
    assert alone.teacher.words == 0
    assert f"the teacher {alone.teacher.insertions / minutes:.1f};" in alone.test


def test_the_bar_counts_the_rows_of_manifests_before_they_are_read(tmp_path: Path) -> None:
    for name, rows in {"train": 7, "development": 3, "test": 2, "extra": 4}.items():
        (tmp_path / f"{name}.jsonl").write_text("{}\n\n" * rows)
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "development", "test")}
    fields = {**SMALL, "method": MANIFOLD, "source": {"kind": "manifest", **paths}}
    extra = {"extra_tests": [str(tmp_path / "extra.jsonl")]}
    assert set_sizes(parse_run({**fields, "evaluation": extra})) == (7, 3, 6)
    assert set_sizes(parse_run({**fields, "evaluation": {**extra, "test": False}})) == (7, 3, 0)
    generated = {"kind": "generated", "train": 9, "development": 8, "test": 7}
    assert set_sizes(parse_run({**fields, "source": generated, "evaluation": extra})) == (9, 8, 11)


def test_a_job_that_is_told_to_stop_stops(store: Store, tmp_path: Path) -> None:
    job = store.create_job("one", [parse_run({**SMALL, "method": MANIFOLD})])
    with pytest.raises(Stopped):
        run_job(job.id, store=store, runs_folder=tmp_path / "runs", stop=lambda: True)


def test_runs_that_share_nothing_are_refused_as_one_job(store: Store, tmp_path: Path) -> None:
    configs = [
        parse_run({**SMALL, "name": "a", "method": MANIFOLD}),
        parse_run({**SMALL, "name": "b", "method": MANIFOLD, "freeze_below": 1}),
    ]
    job = store.create_job("two", configs)
    with pytest.raises(ConfigError, match="freeze_below"):
        run_job(job.id, store=store, runs_folder=tmp_path / "runs", stop=never)


def test_evaluations_are_evenly_spread_and_end_with_the_last_step() -> None:
    assert evaluation_steps(160, 2) == [80, 160]
    assert evaluation_steps(3, 10) == [1, 2, 3]
