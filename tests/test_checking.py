"""Looks at runs on the real tiny.en."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.audio import write_flac
from core.checking import check, check_fields, lacks, main
from core.config import RunConfig, parse_run
from core.normalisers import normaliser_of
from core.store import JobEstimate
from tests.engine import run_config

ALONE = {"name": "alone", "losses": [{"kind": "geodesic", "decoder": False}]}


def looked(*configs: RunConfig, folder: Path) -> list[dict[str, Any]]:
    return check(configs, runs_folder=folder, measured=False)


def named(config: RunConfig, name: str) -> RunConfig:
    return config.model_copy(update={"name": name})


def test_sound_runs_are_counted_and_their_gradients_shown(tmp_path: Path) -> None:
    (result,) = looked(run_config(lora={"rank": 32}), folder=tmp_path)

    assert result["problems"] == []
    assert result["tokens"] == {"student": 51_864, "teacher": 51_864, "shared": 51_864}
    counts = result["parameters"]
    assert (counts["adapters"], counts["projections"], counts["teacher"]) == (221_184, 147_456, 37_760_256)
    assert counts["share_of_teacher"] == counts["shares"]["trainable"][0] < 0.01
    assert result["adapted"][0] == "model.encoder.layers.2.self_attn.k_proj"
    assert result["rank"] == 32
    assert result["gradients"] == {"terms": ["cross_entropy", "soft_labels", "geodesic"], "adapters": 6}
    assert "estimate" not in result
    json.dumps(result, allow_nan=False)


def test_the_mistakes_of_every_run_come_at_once(tmp_path: Path) -> None:
    sound = run_config(method=ALONE)
    wrong = run_config(lora={"encoder_targets": ["qq_proj"]}, freeze_below=1)
    idle = run_config(method=ALONE, lora={"rank": 2, "decoder_targets": ["fc1"]})
    results = looked(named(sound, "sound"), named(wrong, "wrong"), named(idle, "idle"), folder=tmp_path)

    places = [[problem["where"] for problem in result["problems"]] for result in results]
    assert "wrong: freeze_below" in places[0]
    assert "lora.encoder_targets" in places[1]
    assert "wrong: freeze_below" in places[2]


def test_an_adapter_without_gradient_is_found_before_the_start(tmp_path: Path) -> None:
    sound = named(run_config(method=ALONE), "sound")
    idle = named(run_config(method=ALONE, lora={"rank": 2, "decoder_targets": ["fc1"]}), "idle")
    first, second = looked(sound, idle, folder=tmp_path)
    assert first["problems"] == []
    assert "get no gradient" in second["problems"][0]["message"]
    assert "gradients" not in second


def test_what_cannot_be_a_run_is_told_and_nothing_raised(tmp_path: Path) -> None:
    def first(fields: dict[str, Any]) -> dict[str, str]:
        return check_fields(fields, runs_folder=tmp_path, measured=False)["problems"][0]

    assert first({"training": {"steps": 0}})["where"] in ("method", "training.steps")
    assert "no folder" in first(run_config(teachers=[{"model": "./no-such-folder"}]).model_dump(mode="json"))["message"]
    no_layer = run_config(student={"kind": "pruned", "encoder_layers": [0, 1, 7]}).model_dump(mode="json")
    assert first(no_layer)["where"] == "student.encoder_layers"


def test_the_quick_look_reads_the_speech_too_and_tells_it_with_other_mistakes(tmp_path: Path) -> None:
    clip = tmp_path / "clip.flac"
    write_flac(clip, np.sin(np.arange(16_000) / 20).astype(np.float32) / 4)
    for name, text in (("train", ""), ("dev", "[laughter]"), ("test", "fine")):
        row = {"audio_filepath": "clip.flac", "text": text}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    source = {"kind": "manifest", "train": "train.jsonl", "development": "dev.jsonl", "test": "test.jsonl"}
    paths = {name: value if name == "kind" else str(tmp_path / value) for name, value in source.items()}
    wrong = run_config(source=paths, lora={"encoder_targets": ["qq_proj"]})
    (result,) = looked(wrong, folder=tmp_path)
    places = [problem["where"] for problem in result["problems"]]
    assert "lora.encoder_targets" in places
    assert f"{tmp_path / 'train.jsonl'}:1" in places
    missing = run_config(evaluation={"extra_tests": [str(tmp_path / "nowhere.jsonl")]})
    (other,) = looked(missing, folder=tmp_path)
    (told,) = other["problems"]
    assert told["where"] == "evaluation.extra_tests"
    assert "nowhere.jsonl. Leave the field empty" in told["message"]
    assert "parameters" in other


def test_a_check_says_what_makes_the_words_that_are_counted_and_what_is_to_be_known_of_it(tmp_path: Path) -> None:
    english = check_fields(run_config().model_dump(mode="json"), runs_folder=tmp_path, measured=False)
    assert english["normaliser"] == normaliser_of().name
    assert english["notes"] == []
    fields = run_config(teachers=[{"model": "./no-such-folder"}], language="hi").model_dump(mode="json")
    hindi = check_fields(fields, runs_folder=tmp_path, measured=False)
    assert hindi["normaliser"] == normaliser_of("auto", "hi").name
    assert "numbers" in hindi["notes"][0]


def test_the_quick_look_counts_the_references_that_decoding_would_cut(tmp_path: Path) -> None:
    for name, seconds in (("train", 1), ("dev", 2), ("test", 3)):
        write_flac(tmp_path / f"{name}.flac", np.sin(np.arange(seconds * 16_000) / 20).astype(np.float32) / 4)
        rows = [{"audio_filepath": f"{name}.flac", "text": "one two three four five six seven eight " * 2}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "manifest", "train": "train.jsonl", "development": "dev.jsonl", "test": "test.jsonl"}
    paths = {name: value if name == "kind" else str(tmp_path / value) for name, value in source.items()}
    many = {"source": paths, "evaluation": {"tokens_per_second": 0.1}}
    (cut,) = looked(run_config(**many), folder=tmp_path)
    (fine,) = looked(run_config(source=paths), folder=tmp_path)
    assert fine["problems"] == []
    assert [problem["where"] for problem in cut["problems"]] == ["evaluation.tokens_per_second"] * 2
    assert ["cuts 1 of 1 references" in problem["message"] for problem in cut["problems"]] == [True] * 2


def test_what_the_machine_lacks_is_a_mistake(tmp_path: Path) -> None:
    enough = JobEstimate(seconds=1, memory=10, memory_free=10, disk=10, disk_free=10)
    assert lacks(enough, runs_folder=tmp_path) == []
    short = JobEstimate(seconds=1, memory=3 * 2**30, memory_free=2**30, disk=11, disk_free=10)
    assert [problem.where for problem in lacks(short, runs_folder=tmp_path)] == ["memory", "disk"]
    assert "needs 3.0 GiB, and 1.0 GiB are free" in lacks(short, runs_folder=tmp_path)[0].message


def test_the_real_model_is_measured_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_run(
        {
            "method": ALONE,
            "training": {"steps": 100, "batch_size": 2, "audio_context": 6},
            "evaluation": {"audio_context": 8, "batch_size": 2},
            "source": {"kind": "generated", "train": 2, "development": 2, "test": 2},
        }
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(config.model_dump(mode="json"))))
    assert main(["--runs", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)

    assert result["problems"] == []
    assert result["gradients"] == {"terms": ["geodesic"], "adapters": 6}
    estimate = result["estimate"]
    assert estimate["training_seconds"] == pytest.approx(100 * estimate["step_seconds"])
    assert estimate["peak_memory"] > 4 * 37_760_256  # at least the teacher's weights
    assert estimate["audio_bytes"] > 0
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "slots"])
