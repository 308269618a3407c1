"""A stranger's config.json: all that cannot be is told at once, and only what is known is read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelError
from core.weights.load import describe_whisper


def edited(source: Path, target: Path, **fields: Any) -> str:
    folder = Path(shutil.copytree(source, target))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **fields}))
    return str(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 0),
        ("d_model", -384),
        ("d_model", 10**12),
        ("d_model", 384.5),
        ("d_model", True),
        ("encoder_layers", "three"),
        ("decoder_layers", None),
        ("decoder_attention_heads", 3),
        ("encoder_attention_heads", 0),
        ("vocab_size", 0),
        ("max_target_positions", 10**9),
        ("activation_function", "no-such-function"),
        ("activation_function", "x" * 5000),
        ("activation_function", ["gelu"]),
        ("dropout", "much"),
        ("attention_dropout", 1.0),
        ("activation_dropout", float("nan")),
        ("scale_embedding", "no"),
        ("tie_word_embeddings", 1),
        ("eos_token_id", 51864),
        ("eos_token_id", -1),
        ("eos_token_id", [50256, 10**9]),
        ("pad_token_id", -100),
        ("decoder_start_token_id", "50257"),
        ("bos_token_id", 1.5),
        ("suppress_tokens", [10**9]),
        ("begin_suppress_tokens", "none"),
        ("median_filter_width", 0),
    ],
)
def test_a_value_that_cannot_be_is_a_model_error_that_names_it(
    field: str, value: Any, small_folder: Path, tmp_path: Path
):
    with pytest.raises(ModelError) as caught:
        describe_whisper(edited(small_folder, tmp_path / "copy", **{field: value}))
    message = str(caught.value)
    assert f"config.json cannot be used:\n  - {field}" in message
    assert len(message) < 400


def test_all_mistakes_are_told_at_once(small_folder: Path, tmp_path: Path):
    wrong = {"d_model": 0, "encoder_layers": -1, "activation_function": "y" * 5000, "dropout": 7, "eos_token_id": -9}
    with pytest.raises(ModelError) as caught:
        describe_whisper(edited(small_folder, tmp_path / "copy", **wrong))
    assert [line.split()[1] for line in str(caught.value).splitlines()[1:]] == [
        "d_model",
        "encoder_layers",
        "dropout",
        "activation_function",
        "eos_token_id",
    ]


def test_keys_that_are_not_known_say_nothing(small_folder: Path, tmp_path: Path):
    strange = {
        "architectures": ["z" * 5000],
        "_name_or_path": "n" * 5000,
        "torch_dtype": "no-such-type",
        "dtype": {"a": [1]},
        "id2label": "none",
        "problem_type": 5,
        "encoder_layerdrop": 0.9,
        "decoder_layerdrop": 0.9,
        "use_cache": "sometimes",
        "n" * 5000: {"deep": [[[]]]},
    }
    config = describe_whisper(edited(small_folder, tmp_path / "copy", **strange)).model.config
    assert not [name for name, value in strange.items() if config.to_dict().get(name) == value]
    # A layer that is skipped in training would leave no state to align.
    assert (config.encoder_layerdrop, config.decoder_layerdrop) == (0.0, 0.0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_activation_functions_that_transformers_knows_are_read(activation: str, small_folder: Path, tmp_path: Path):
    folder = edited(small_folder, tmp_path / "copy", activation_function=activation)
    assert describe_whisper(folder).model.config.activation_function == activation


def test_a_model_of_another_type_is_named_briefly(small_folder: Path, tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        describe_whisper(edited(small_folder, tmp_path / "copy", model_type="t" * 5000))
    assert len(str(caught.value)) < 300
