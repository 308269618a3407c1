"""Shapes: the numbers of parameters that are published, and models that nobody knows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import RunConfig
from core.errors import ConfigError
from core.scaling.shapes import RELEASED, Shape, shape_of, shapes_of


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("openai/whisper-tiny", 37_760_640),
        ("openai/whisper-tiny.en", 37_760_256),
        ("openai/whisper-base", 72_593_920),
        ("openai/whisper-small", 241_734_912),
        ("openai/whisper-medium", 763_857_920),
        ("openai/whisper-large-v2", 1_543_304_960),
        ("openai/whisper-large-v3", 1_543_490_560),
    ],
)
def test_a_released_model_has_as_many_parameters_as_its_weights(model: str, parameters: int) -> None:
    assert shape_of(model).parameters == parameters


def test_a_folder_says_its_own_shape(tmp_path: Path) -> None:
    sizes = {"d_model": 96, "encoder_layers": 3, "decoder_layers": 2, "num_mel_bins": 80, "vocab_size": 51864}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    assert shape_of(str(tmp_path)) == Shape(96, 3, 2, vocabulary=51864)


def test_a_student_is_its_teacher_with_fewer_layers_and_a_row_may_teach(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(teachers=[{"model": "row:expert"}], student={"kind": "pruned", "encoder_layers": [0, 1, 3]})
    base = RELEASED["openai/whisper-base"]
    (teacher,), student = shapes_of(config, {"expert": base})
    assert teacher == base
    assert (student.width, student.encoder_layers, student.decoder_layers) == (512, 3, 6)


def test_all_that_is_not_known_is_told_at_once(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(
        teachers=[{"model": "openai/whisper-tiny"}, {"model": "nobody/knows"}, {"model": "run:abc"}],
        student={"kind": "pruned", "encoder_layers": [0, 7]},
    )
    with pytest.raises(ConfigError) as refused:
        shapes_of(config)
    assert [problem.where for problem in refused.value.problems] == [
        "nobody/knows",
        "run:abc",
        "student.encoder_layers",
    ]
