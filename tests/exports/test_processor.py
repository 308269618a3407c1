"""Files beside the weights, as transformers 4.49 to 5, converters and whisper.cpp look for them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import WhisperProcessor, WhisperTokenizer

from core.exports.processor import write_processor
from core.weights.load import LoadedWhisper, describe_whisper


@pytest.fixture(scope="module")
def tiny() -> LoadedWhisper:
    return describe_whisper("openai/whisper-tiny.en")


@pytest.fixture(scope="module")
def folder(tiny: LoadedWhisper, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_processor(tiny, folder)
    return folder


def content(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_every_file_that_some_program_looks_for_is_there(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "added_tokens.json",
        "merges.txt",
        "normalizer.json",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }


def test_special_tokens_have_the_name_that_all_versions_read(folder: Path, tiny: LoadedWhisper) -> None:
    settings = content(folder, "tokenizer_config.json")
    # 4.57 takes it for a dictionary of names: 'list' object has no attribute 'keys'.
    assert "extra_special_tokens" not in settings
    assert (
        settings["additional_special_tokens"] == content(folder, "special_tokens_map.json")["additional_special_tokens"]
    )
    assert "<|startoftranscript|>" in settings["additional_special_tokens"]
    assert settings["tokenizer_class"] == "WhisperTokenizer"
    assert settings["processor_class"] == "WhisperProcessor"
    added = settings["added_tokens_decoder"]
    assert {number: token["content"] for number, token in added.items()} == {
        str(number): token for token, number in content(folder, "added_tokens.json").items()
    }
    assert (added["50257"]["special"], added["50363"]["special"]) == (True, False)


def test_the_tables_of_the_tokenizer_in_python_make_up_the_whole(folder: Path, tiny: LoadedWhisper) -> None:
    byte_pairs, added = content(folder, "vocab.json"), content(folder, "added_tokens.json")
    assert {**byte_pairs, **added} == tiny.vocabulary
    merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert len(merges) == 1 + 50_000
    assert all(len(pair.split(" ")) == 2 for pair in merges[1:])


def test_features_stand_where_converters_copy_them_from(folder: Path) -> None:
    settings = content(folder, "preprocessor_config.json")
    assert (settings["feature_size"], settings["sampling_rate"], settings["n_samples"]) == (80, 16_000, 480_000)


def test_a_tokenizer_that_is_read_again_normalises_and_says_the_same(folder: Path, tiny: LoadedWhisper) -> None:
    processor: Any = WhisperProcessor.from_pretrained(folder)
    again: WhisperTokenizer = processor.tokenizer
    assert again.get_vocab() == tiny.vocabulary
    assert again.normalize("Mr. Smith's colour") == "mister smith is color"
    text = " The café isn't open; naïve résumé: 100 %!"
    assert again(text).input_ids == tiny.tokenizer(text).input_ids
    assert again.decode([50257, 50362, 50363, 2425, 50864], skip_special_tokens=True) == "75"
    assert again.all_special_ids == tiny.tokenizer.all_special_ids
    assert processor.feature_extractor.to_dict() == tiny.feature_extractor.to_dict()


def test_the_spellings_of_a_base_model_are_kept(tiny: LoadedWhisper, tmp_path: Path) -> None:
    write_processor(tiny, tmp_path)
    again = WhisperTokenizer.from_pretrained(str(tmp_path))
    again.english_spelling_normalizer = {"colour": "colr"}
    write_processor(dataclasses.replace(tiny, tokenizer=again), tmp_path)
    assert content(tmp_path, "normalizer.json") == {"colour": "colr"}
