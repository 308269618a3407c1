"""Which utterances a method learns from: the filter by the teacher's errors, and audio without a transcript."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config import Method
from core.errors import ConfigError
from core.pseudo_labels import PseudoLabelled, training_set
from core.sources import Utterance
from core.teacher_outputs import Heard, Prepared

CE = {"kind": "cross_entropy"}
FRAMES = {"kind": "geodesic", "decoder": False}


def prepared(name: str, text: str) -> Prepared:
    return Prepared(Utterance(name, Path(f"{name}.flac"), text, None, 1.0), [], torch.zeros(1, 1), (Heard({}),))


PREPARED = [prepared("a", "one"), prepared("b", "two"), prepared("c", "")]
PSEUDO = [
    PseudoLabelled(prepared("a", "one"), 0.0),
    PseudoLabelled(prepared("b", "too"), 1.0),
    PseudoLabelled(prepared("c", "three"), None),
]


def learnt(*losses: Any, **fields: Any) -> list[tuple[str, str]]:
    chosen = training_set(Method.model_validate({"losses": losses, **fields}), PREPARED, PSEUDO)
    return [(item.utterance.id, item.utterance.text) for item in chosen]


def test_references_are_learnt_where_there_are_some() -> None:
    assert learnt(CE) == [("a", "one"), ("b", "two")]


def test_all_audio_counts_where_no_decoder_runs() -> None:
    assert [name for name, _ in learnt(FRAMES)] == ["a", "b", "c"]


def test_transcripts_of_the_teachers_with_too_many_errors_are_left_out_and_those_without_a_reference_stay() -> None:
    assert learnt(CE, transcripts="teacher") == [("a", "one"), ("c", "three")]
    assert [name for name, _ in learnt(CE, transcripts="teacher", largest_wer=1.0)] == ["a", "b", "c"]


def test_nothing_to_learn_from_is_refused_with_what_to_do() -> None:
    method = Method.model_validate({"losses": [CE]})
    with pytest.raises(ConfigError, match=r"set method\.transcripts to 'teacher'"):
        training_set(method, PREPARED[2:], [])
    strict = Method.model_validate({"losses": [CE], "transcripts": "teacher", "largest_wer": 0.2})
    with pytest.raises(ConfigError, match=r"WER of at most 0\.2: raise method\.largest_wer"):
        training_set(strict, PREPARED, [dataclasses.replace(PSEUDO[1], wer=0.3)])
