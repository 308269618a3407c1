import contextlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ModelError
from core.weights.files import file_sha256, read_folder

WHISPER = {"model_type": "whisper"}


def folder_with(tmp_path: Path, config: object, *names: str) -> Path:
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name in names:
        (tmp_path / name).write_bytes(b"weights")
    return tmp_path


def test_the_two_layouts_are_told_apart(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = read_folder(folder_with(tmp_path / "a", WHISPER, "model.safetensors"), origin="here")
    theirs = read_folder(folder_with(tmp_path / "b", {"suppress_ids": []}, "model.bin"), origin="there")
    assert (ours.layout, [path.name for path in ours.weights], ours.origin) == (
        "transformers",
        ["model.safetensors"],
        "here",
    )
    assert (theirs.layout, [path.name for path in theirs.weights]) == ("ctranslate2", ["model.bin"])


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path):
    folder = folder_with(tmp_path, WHISPER, "model-2.safetensors", "model-1.safetensors")
    index = {"weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors", "c": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [path.name for path in read_folder(folder, origin="").weights] == [
        "model-1.safetensors",
        "model-2.safetensors",
    ]


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "../outside.safetensors"}, "of its own folder"),
        ({"a": "model.bin"}, "of its own folder"),
        ({"a": 3}, "of its own folder"),
        ({}, "of its own folder"),
        (None, "of its own folder"),
        ({"a": "model-1.safetensors"}, "lacks model-1.safetensors"),
    ],
)
def test_an_index_that_names_other_files_is_refused(weight_map: object, words: str, tmp_path: Path):
    folder = folder_with(tmp_path, WHISPER)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=words):
        read_folder(folder, origin="")


@pytest.mark.parametrize(
    ("config", "names", "words"),
    [
        (WHISPER, ["pytorch_model.bin"], "pickle only"),
        (WHISPER, ["model.pt"], "pickle only"),
        (WHISPER, [], "holds no weights"),
        ({}, [], "holds no weights"),
        ({"model_type": "bert"}, ["model.safetensors"], "type 'bert'"),
        ({"architectures": ["X"]}, ["model.bin"], "type None"),
        ("[1]", ["model.safetensors"], "no JSON object"),
        ("{", ["model.safetensors"], "cannot be read as JSON"),
        ("[" * 100_000, ["model.safetensors"], "cannot be read as JSON"),
        ({**WHISPER, "auto_map": {"AutoModel": "evil.Model"}}, ["model.safetensors"], "auto_map"),
        ({**WHISPER, "nested": [{"trust_remote_code": True}]}, ["model.safetensors"], "trust_remote_code"),
        ({**WHISPER, "_attn_implementation": "someone/kernel"}, ["model.safetensors"], "_attn_implementation"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_its_reason(
    config: object, names: list[str], words: str, tmp_path: Path
):
    with pytest.raises(ModelError, match=words):
        read_folder(folder_with(tmp_path, config, *names), origin="")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_folder(tmp_path, origin="")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["model_type", "a", "auto_map"]), inner),
    )
)
def test_any_configuration_is_a_model_or_a_model_error(config: object, tmp_path: Path):
    folder = folder_with(tmp_path, config, "model.bin")
    with contextlib.suppress(ModelError):
        read_folder(folder, origin="")
        assert '"auto_map":' not in json.dumps(config)


def test_equal_models_have_equal_hashes_and_different_ones_do_not(tmp_path: Path):
    (tmp_path / "a").mkdir()
    first = folder_with(tmp_path / "a", WHISPER, "model.safetensors")
    second = Path(shutil.copytree(first, tmp_path / "b"))
    before = read_folder(first, origin="x").content_hash()
    assert read_folder(second, origin="y").content_hash() == before
    (second / "model.safetensors").write_bytes(b"Weights")
    assert read_folder(second, origin="y").content_hash() != before


def test_a_file_that_cannot_be_read_is_a_model_error(tmp_path: Path):
    with pytest.raises(ModelError, match="cannot be read"):
        file_sha256(tmp_path)


ADAPTERS = {"peft_type": "LORA", "base_model_name_or_path": "openai/whisper-tiny.en", "r": 8}


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("openai/whisper-tiny.en", "holds adapters of openai/whisper-tiny.en"),
        ("x" * 5000, "holds adapters of the model that they were trained on"),
        (None, "holds adapters of a model that it does not name"),
        (["a"], "holds adapters of a model that it does not name"),
    ],
)
@pytest.mark.parametrize("with_config", [False, True])
def test_adapters_are_no_model_and_are_told_how_to_become_one(
    base: object, words: str, with_config: bool, tmp_path: Path
):
    (tmp_path / "adapter_config.json").write_text(json.dumps({**ADAPTERS, "base_model_name_or_path": base}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"adapters")
    if with_config:
        folder_with(tmp_path, WHISPER)
    with pytest.raises(ModelError, match=words) as caught:
        read_folder(tmp_path, origin="")
    assert "merge_and_unload()" in str(caught.value)
    assert len(str(caught.value)) < 1200


def test_the_folder_above_checkpoints_names_one_of_them(tmp_path: Path):
    for name in ("checkpoint-100", "checkpoint-200"):
        (tmp_path / name).mkdir()
        folder_with(tmp_path / name, WHISPER, "model.safetensors")
    with pytest.raises(ModelError, match="its folder checkpoint-200 does"):
        read_folder(tmp_path, origin="")


def test_a_configuration_of_any_depth_is_looked_through(tmp_path: Path):
    deep: object = {"auto_map": {}}
    for _ in range(400):
        deep = [{"a": deep}]
    with pytest.raises(ModelError, match="auto_map"):
        read_folder(folder_with(tmp_path, {**WHISPER, "deep": deep}, "model.safetensors"), origin="")
