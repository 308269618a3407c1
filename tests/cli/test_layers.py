"""`manifold layers`: a table, a proposal in words and as JSON, and what is wrong in one sentence."""

import json
import re
from pathlib import Path

import pytest

from core.sources.manifest import write_manifest
from tests.cli.conftest import Command
from tests.engine import utterances

MODEL = "openai/whisper-tiny.en"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    write_manifest(folder / "speech.jsonl", utterances(folder, train=3))
    return folder / "speech.jsonl"


def test_the_scan_proposes_what_goes_and_what_stays(manifold: Command, places: list[str], manifest: Path) -> None:
    status, out, err = manifold("layers", MODEL, "--data", str(manifest), "--context", "8", "--drop", *places)
    assert status == 0, err
    said = " ".join(out.split())
    assert re.search(
        r"cut layer 1 \(angular distance 0\.1\d, the next one 0\.2\d\): encoder_layers: \[0, 2, 3\]", said
    ), said
    assert "encoder_layers: [0, 2, 3] and freeze_below: 1" in said
    assert "3 clips (24 were asked for)" in said
    assert "arXiv 2403.03853, 2403.17887" in said
    assert "KL per token" in said


def test_programs_read_every_distance_and_every_proposal(manifold: Command, places: list[str], manifest: Path) -> None:
    command = ("layers", MODEL, "--data", str(manifest), "--context", "8", "--clips", "2", "--json", *places)
    status, out, err = manifold(*command)
    assert status == 0, err
    found = json.loads(out)
    assert (found["clips"], found["audio_context"], found["dropped"]) == (2, 8, [])
    assert {(each["side"], each["first"], each["last"]) for each in found["distances"]} == {
        (side, first, last) for side in ("encoder", "decoder") for first in range(4) for last in range(first, 4)
    }
    first = found["proposals"]["encoder"][0]
    assert (first["cut"], first["encoder_layers"], first["freeze_below"]) == ([1], [0, 2, 3], 1)
    assert [len(each["cut"]) for each in found["proposals"]["decoder"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["openai/whisper-nowhere"], "was not found"),
        ([MODEL, "--data", "nowhere.jsonl"], "There is no manifest nowhere.jsonl"),
        ([MODEL, "--data", "{}", "--context", "1"], "Too few clips to measure layers on: 0 of 3"),
        ([MODEL, "--data", "{}", "--context", "8", "--language", "de"], "knows English only"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    manifold: Command, places: list[str], manifest: Path, options: list[str], said: str
) -> None:
    status, out, err = manifold("layers", *(option.format(manifest) for option in options), *places)
    assert (status, out) == (1, "")
    assert said in err
    assert "Traceback" not in err


def test_one_clip_is_too_few_to_ask_for(manifold: Command, places: list[str]) -> None:
    status, _, err = manifold("layers", MODEL, "--clips", "1", *places)
    assert status == 2
    assert "--clips" in err
