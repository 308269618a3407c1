"""What is known to be wrong with runs before any model is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import core.first_look as looking
import core.sources.bad_rows as bad_rows
from core.audio import write_flac
from core.config import RunConfig
from core.errors import Problem
from core.first_look import first_look, layer_problems

MakeConfig = Callable[..., RunConfig]


def clip(path: Path, *, seconds: float = 1.0) -> str:
    write_flac(path, np.sin(np.arange(round(16_000 * seconds)) / 20).astype(np.float32) / 4)
    return path.name


def manifest(path: Path, *rows: object) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def source(train: str, other: str, **fields: object) -> dict[str, object]:
    return {"kind": "manifest", "train": train, "development": other, "test": other, **fields}


def test_layers_that_the_teacher_lacks_are_told_beside_their_fields(make_config: MakeConfig, tmp_path: Path) -> None:
    wrong = make_config(
        student={"kind": "pruned", "encoder_layers": [0, 1, 4, 99], "decoder_layers": [3, 7]},
        method={"losses": [{"kind": "cross_entropy"}], "mapping": {"encoder_list": [2, 8]}},
    )
    name = wrong.teachers[0].model
    assert first_look([wrong, wrong], runs_folder=tmp_path) == [
        Problem("student.encoder_layers", f"'{name}' has encoder layers 0 to 3; remove 4, 99"),
        Problem("student.decoder_layers", f"'{name}' has decoder layers 0 to 3; remove 7"),
        Problem("method.mapping.encoder_list", f"'{name}' has encoder layers 0 to 3; remove 8"),
    ]


@pytest.mark.parametrize("model", ["openai/whisper-small", "./no-such-folder", "run:raaaaaaa"])
def test_layers_of_a_deeper_or_an_unknown_teacher_are_let_be(
    make_config: MakeConfig, tmp_path: Path, model: str
) -> None:
    student = {"kind": "pruned", "encoder_layers": [0, 1, 11]}
    assert first_look([make_config(teachers=[{"model": model}], student=student)], runs_folder=tmp_path) == []


def test_layers_are_counted_in_settings_that_are_wrong_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "num_mel_bins": 80, "vocab_size": 51_865})
    )
    teachers = [{"model": str(tmp_path)}]
    found = layer_problems({"teachers": teachers, "student": {"kind": "pruned", "encoder_layers": [0, 99, "banana"]}})
    assert [(problem.where, "remove 99" in problem.message) for problem in found] == [("student.encoder_layers", True)]
    for fields in ({}, {"teachers": 5, "student": []}, {"teachers": [5], "student": {"kind": "pruned"}, "method": 1}):
        assert layer_problems(fields) == []


def test_all_rows_that_cannot_be_used_are_told_at_once(make_config: MakeConfig, tmp_path: Path) -> None:
    good = {"audio_filepath": clip(tmp_path / "good.flac"), "text": "fine"}
    (tmp_path / "none.flac").write_bytes(b"no audio")
    long = {"audio_filepath": clip(tmp_path / "long.flac", seconds=3), "text": "long"}
    missing, other = {"audio_filepath": "nowhere.flac", "text": "gone"}, {"audio_filepath": "none.flac", "text": "x"}
    train = manifest(tmp_path / "train.jsonl", good, missing, {"audio_filepath": "good.flac"}, "{", other, long, good)
    test = manifest(tmp_path / "test.jsonl", {**good, "duration": 9})
    extra = str(tmp_path / "extra.jsonl")
    config = make_config(source=source(train, test, longest_seconds=2), evaluation={"extra_tests": [extra]})
    found = {problem.where: problem.message for problem in first_look([config], runs_folder=tmp_path)}
    assert list(found) == [*(f"{train}:{row}" for row in (2, 3, 4, 5, 6, 7)), f"{test}:1", "evaluation.extra_tests"]
    for row, said in enumerate(
        ("no audio file", "transcript is missing", "not JSON", "read as audio", "lasts 3.0 s"), 2
    ):
        assert said in found[f"{train}:{row}"]
    assert "a second row has the id" in found[f"{train}:7"]
    assert "duration says 9 s" in found[f"{test}:1"]
    assert found["evaluation.extra_tests"].startswith(f"there is no manifest {extra}. Leave the field empty")


def test_training_without_transcripts_and_tests_that_stay_unread_are_not_asked_for(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    train = manifest(tmp_path / "train.jsonl", {"audio_filepath": clip(tmp_path / "a.flac")})
    test = manifest(tmp_path / "test.jsonl", {"audio_filepath": clip(tmp_path / "b.flac"), "text": "fine"})
    unread = {"test": False, "extra_tests": ["/nowhere.jsonl"]}
    config = make_config(source=source(train, test, transcripts=False), evaluation=unread)
    assert first_look([config], runs_folder=tmp_path) == []


def test_of_a_large_manifest_a_sample_is_opened_and_that_is_said(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "MOST_HEADERS", 3)
    monkeypatch.setattr(bad_rows, "MOST_ROWS", 2)
    rows = []
    for number in range(9):
        (tmp_path / f"{number}.flac").write_bytes(b"no audio")
        rows.append({"audio_filepath": f"{number}.flac", "text": "a word"})
    (tmp_path / "7.flac").unlink()
    train = manifest(tmp_path / "train.jsonl", *rows)
    good = manifest(tmp_path / "test.jsonl", {"audio_filepath": clip(tmp_path / "good.flac"), "text": "fine"})
    found = first_look([make_config(source=source(train, good))], runs_folder=tmp_path / "runs")
    assert [(problem.where, problem.message.split(".")[0].split(";")[0].split(" (")[0]) for problem in found[2:]] == [
        (train, "and 2 more rows of this manifest cannot be used"),
        ("source.train", "of 9 audio files 3 were opened so far, evenly spread"),
    ]
    assert [problem.where for problem in found[:2]] == [f"{train}:1", f"{train}:5"]


@pytest.mark.parametrize(
    ("name", "called"), [("real/real.jsonl", "recorded"), ("asterisk-en/asterisk.jsonl", "asterisk-en")]
)
def test_the_quick_starts_own_speech_is_told_with_how_to_get_it(
    make_config: MakeConfig, tmp_path: Path, name: str, called: str
) -> None:
    own = str(tmp_path / "data" / name)
    (problem,) = first_look([make_config(evaluation={"extra_tests": [own]})], runs_folder=tmp_path)
    assert problem.where == "evaluation.extra_tests"
    assert f"there is no manifest {own}. Leave the field empty, or fetch that speech" in problem.message
    assert f"manifold data get {called}" in problem.message
