"""What a job's test set can show, as New run and `manifold check` say it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.config import RunConfig, read_preset
from core.job_power import test_power as power_of
from core.power import detectable_difference


def said_of(rows: Sequence[Mapping[str, Any]], folder: Path, make_config: Callable[..., RunConfig]) -> str:
    path = folder / "test.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    source = {"kind": "manifest", "train": str(path), "development": str(path), "test": str(path)}
    return power_of([make_config(source=source)])


def test_one_voice_shows_what_its_hundred_sentences_can() -> None:
    _, configs = read_preset("one-voice")
    # 1,158 words of one voice, three comparisons.
    found = detectable_difference(utterances=100, words=1158, comparisons=3)
    assert found is not None
    assert power_of(configs) == (
        f"100 test utterances show a difference of {100 * found:.1f} points or more, at a WER of 10%, in four of five "
        "cases."
    )


def test_a_manifest_is_read_for_its_words_and_speakers(tmp_path: Path, make_config: Callable[..., RunConfig]) -> None:
    rows = [
        {"audio_filepath": "a.flac", "text": "five words are said here", "speaker": f"s{n % 9}"} for n in range(300)
    ]
    found = detectable_difference(utterances=300, words=1500, speakers=9)
    assert found is not None
    said = said_of(rows, tmp_path, make_config)
    assert said.startswith(f"300 test utterances of 9 speakers show a difference of {100 * found:.1f} points")
    unknown = [{**row, "speaker": None} for row in rows]
    assert said_of(unknown, tmp_path, make_config).startswith("300 test utterances show a difference of")
    few = said_of(rows[:12], tmp_path, make_config)
    assert few == "12 test utterances of 9 speakers are too few to tell two runs apart at a WER of 10%."


def test_of_a_large_manifest_it_says_how_much_was_read(
    tmp_path: Path, make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"audio_filepath": "a.flac", "text": "five words are said here"}] * 300
    monkeypatch.setattr("core.job_power.MOST_ROWS", 200)
    assert said_of(rows, tmp_path, make_config).startswith("The first 200 test utterances show a difference of")
    assert said_of(rows[:200], tmp_path, make_config).startswith("200 test utterances show a difference of")
    assert said_of(rows[:1], tmp_path, make_config).startswith("1 test utterance is too few")


@pytest.mark.parametrize("row", [{"text": "no audio"}, [], {"audio_filepath": "a.flac"}])
def test_what_cannot_be_read_is_left_to_the_check(
    tmp_path: Path, make_config: Callable[..., RunConfig], row: Any
) -> None:
    assert said_of([row], tmp_path, make_config) == ""
    assert power_of([]) == ""
