"""Heads, padding, names and numbers: that a teacher is itself, asleep, awake and in transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ctranslate2.converters import TransformersConverter
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from core.errors import ModelError
from core.families.whisper import Whisper
from core.preflight import same_tokens
from core.weights.load import describe_whisper, load_whisper
from core.weights.transformers_model import plain_name

HEAD, TABLE = "proj_out.weight", "model.decoder.embed_tokens.weight"
NORM = "model.encoder.layer_norm.weight"

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_folder, tmp_path / "copy"))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors], **config: Any) -> None:
    """Change the weights and the configuration of a folder."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **config}))


def other(table: torch.Tensor) -> torch.Tensor:
    return table + torch.randn(table.shape, generator=torch.Generator().manual_seed(0))


def own_head(state: Tensors) -> Tensors:
    return {**state, HEAD: other(state[TABLE])}


def same_head(state: Tensors) -> Tensors:
    return {**state, HEAD: state[TABLE].clone()}


def head_alone(state: Tensors) -> Tensors:
    return {HEAD if name == TABLE else name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("change", [dict, own_head, same_head, head_alone])
def test_the_head_is_the_same_asleep_awake_and_in_transformers(change: Callable[[Tensors], Tensors], folder: Path):
    rewrite(folder, change)
    theirs: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    described = describe_whisper(str(folder))
    asleep = Whisper(described, language="en").vocabulary
    awake = Whisper(described, language="en").wake()
    assert torch.equal(asleep, theirs.proj_out.weight)
    assert torch.equal(awake.vocabulary, theirs.proj_out.weight)
    assert torch.equal(awake.decoder.embed_tokens.weight, theirs.model.decoder.embed_tokens.weight)
    one = awake.vocabulary is awake.decoder.embed_tokens.weight
    assert one == (theirs.proj_out.weight is theirs.model.decoder.embed_tokens.weight) == (change is not own_head)


@pytest.mark.parametrize("change", [own_head, same_head])
def test_a_head_that_is_said_to_be_its_own_stays_so(change: Callable[[Tensors], Tensors], folder: Path):
    rewrite(folder, change, tie_word_embeddings=False)
    model = load_whisper(str(folder)).model
    assert model.proj_out.weight is not model.model.decoder.embed_tokens.weight
    assert torch.equal(model.proj_out.weight, load_file(folder / "model.safetensors")[HEAD])


def test_a_head_that_is_said_to_be_its_own_and_is_not_there_is_not_made_up(folder: Path):
    rewrite(folder, dict, tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"tie_word_embeddings is false.* holds no proj_out\.weight"):
        describe_whisper(str(folder))


def test_a_head_of_its_own_is_read_from_ctranslate2_as_well(folder: Path, tmp_path: Path):
    rewrite(folder, own_head)
    TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(tmp_path / "ct2"))
    ours = load_whisper(str(tmp_path / "ct2"))
    assert torch.equal(ours.model.proj_out.weight, load_whisper(str(folder)).model.proj_out.weight)
    assert torch.equal(ours.read_head(), ours.model.proj_out.weight)
    assert not torch.equal(ours.model.proj_out.weight, ours.model.model.decoder.embed_tokens.weight)


@pytest.mark.parametrize("with_head", [False, True])
def test_rows_of_padding_are_cut_off_so_that_nothing_is_written_with_them(with_head: bool, folder: Path):
    plain = Whisper(load_whisper(str(folder)), language="en")

    def padded(state: Tensors) -> Tensors:
        table = torch.cat([state[TABLE], torch.full((8, 16), 9.0)])
        return {**state, TABLE: table, **({HEAD: table.clone()} if with_head else {})}

    rewrite(folder, padded, vocab_size=51872)
    whisper = Whisper(load_whisper(str(folder)), language="en")
    assert whisper.vocabulary.shape == (51864, 16)
    assert torch.equal(whisper.vocabulary, plain.vocabulary)
    assert whisper.model.config.vocab_size == 51864
    assert torch.equal(Whisper(describe_whisper(str(folder)), language="en").vocabulary, plain.vocabulary)
    # So it teaches a student without padding, token by token: the mass of tokens that there are is all there is.
    assert same_tokens(plain, whisper)


def test_padding_that_is_no_number_harms_nobody(folder: Path):
    rewrite(folder, lambda state: {**state, TABLE: torch.cat([state[TABLE], torch.full((8, 16), torch.nan)])})
    rewrite(folder, dict, vocab_size=51872)
    assert load_whisper(str(folder)).model.proj_out.weight.isfinite().all()


def test_an_english_tokenizer_in_the_folder_of_a_multilingual_model_is_no_padding(
    small_folder: Path, small_multilingual_folder: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(small_multilingual_folder, tmp_path / "copy"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(small_folder / name, folder / name)
    with pytest.raises(ModelError, match="are of two models"):
        describe_whisper(str(folder))


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (NORM, NORM),
        (f"_orig_mod.{NORM}", NORM),
        (f"module.{NORM}", NORM),
        (f"module._orig_mod.{NORM}", NORM),
        (f"_orig_mod.module.{NORM}", NORM),
        ("model._orig_mod.encoder.layer_norm.weight", NORM),
        (
            "model.encoder.layers.0._orig_mod.fc1._checkpoint_wrapped_module.weight",
            "model.encoder.layers.0.fc1.weight",
        ),
        (f"_fsdp_wrapped_module.{NORM}", NORM),
        ("encoder.layer_norm.weight", NORM),
        ("_orig_mod.encoder.layer_norm.weight", NORM),
        (f"model.{NORM}", NORM),
        ("model.proj_out.weight", HEAD),
        ("surprise", "surprise"),
    ],
)
def test_names_that_wrappers_and_headless_models_give_are_understood(stored: str, plain: str):
    assert plain_name(stored) == plain


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "headless"])
def test_a_wrapped_or_headless_model_is_the_model(prefix: str, folder: Path):
    expected = load_whisper(str(folder)).model.state_dict()

    def renamed(state: Tensors) -> Tensors:
        return {n.removeprefix("model.") if prefix == "headless" else prefix + n: t for n, t in state.items()}

    rewrite(folder, renamed, architectures=["WhisperModel"])
    found = load_whisper(str(folder)).model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_weight_that_two_names_stand_for_is_refused(folder: Path):
    rewrite(folder, lambda state: {**state, f"module.{NORM}": state[NORM].clone()})
    with pytest.raises(ModelError, match=f"holds {NORM} twice"):
        describe_whisper(str(folder))


def test_adapters_that_were_not_merged_are_told_as_such(folder: Path):
    rewrite(folder, lambda state: {**state, "model.encoder.layers.0.fc1.lora_A.default.weight": torch.zeros(2, 2)})
    with pytest.raises(ModelError, match=r"holds adapters beside the weights.*merge_and_unload"):
        describe_whisper(str(folder))


def test_everything_that_is_missing_unknown_or_of_another_shape_is_told_before_a_weight_is_read(folder: Path):
    def damaged(state: Tensors) -> Tensors:
        state.pop("model.decoder.layer_norm.bias")
        return {**state, "x" * 5000: torch.zeros(1), NORM: torch.zeros(17)}

    rewrite(folder, damaged)
    with pytest.raises(ModelError) as caught:
        describe_whisper(str(folder))
    message = str(caught.value)
    for words in ("missing: model.decoder.layer_norm.bias", "unknown: xxx", f"{NORM} is [17], not [16]"):
        assert words in message
    assert len(message) < 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_that_are_no_numbers_are_found_when_read_and_named(value: float, dtype: torch.dtype, folder: Path):
    def broken(state: Tensors) -> Tensors:
        state = {name: tensor.to(dtype) for name, tensor in state.items()}
        state[NORM][3] = value
        state["model.decoder.layers.1.fc2.weight"][2, 5:7] = value
        return state

    rewrite(folder, broken)
    described = describe_whisper(str(folder))
    with pytest.raises(ModelError, match="not finite numbers") as caught:
        described.read()
    kind = ("1 NaN, 0 infinite", "2 NaN, 0 infinite") if value != value else ("0 NaN, 1 infinite", "0 NaN, 2 infinite")
    assert f"{NORM} of model.safetensors ({kind[0]})" in str(caught.value)
    assert f"model.decoder.layers.1.fc2.weight of model.safetensors ({kind[1]})" in str(caught.value)


def test_a_head_that_is_no_number_is_found_when_it_is_read_alone(folder: Path):
    rewrite(folder, lambda state: {**state, TABLE: torch.full_like(state[TABLE], torch.inf)})
    with pytest.raises(ModelError, match="embed_tokens"):
        describe_whisper(str(folder)).read_head()


def test_shards_are_named_by_their_files(folder: Path):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    state[NORM][0] = torch.nan
    halves = {f"model-0000{n}-of-00002.safetensors": dict(list(state.items())[n - 1 :: 2]) for n in (1, 2)}
    for name, tensors in halves.items():
        save_file(tensors, folder / name)
    index = {"weight_map": {name: file for file, tensors in halves.items() for name in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=rf"{NORM} of {index['weight_map'][NORM]}"):
        load_whisper(str(folder))


@pytest.mark.parametrize("quantization", ["int8", "int16", "int8_float16", "int8_float32"])
def test_a_quantised_ctranslate2_folder_is_told_as_such(quantization: str, small_folder: Path, tmp_path: Path):
    converter = TransformersConverter(str(small_folder), copy_files=["tokenizer.json"])
    converter.convert(str(tmp_path / "ct2"), quantization=quantization)
    with pytest.raises(ModelError, match=r"is quantised \(int.*Give the float16, bfloat16 or float32 folder"):
        describe_whisper(str(tmp_path / "ct2"))


def test_a_ctranslate2_folder_in_bfloat16_is_the_model_in_bfloat16(small_folder: Path, tmp_path: Path):
    converter = TransformersConverter(str(small_folder), copy_files=["tokenizer.json"])
    converter.convert(str(tmp_path / "ct2"), quantization="bfloat16")
    found = load_whisper(str(tmp_path / "ct2")).model.state_dict()
    for name, tensor in load_whisper(str(small_folder)).model.state_dict().items():
        assert torch.equal(found[name], tensor.bfloat16().float()), name
