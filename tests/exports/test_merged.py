import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ctranslate2.converters import TransformersConverter
from faster_whisper import WhisperModel
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.utils import logging as transformers_logging

from core.audio import read_audio
from core.checkpoints import save_adapters
from core.config import GeneratedSpeech, RunConfig
from core.errors import ConfigError, ModelError, NotFoundError, StoreError
from core.exports.merged import export_merged, require_same
from core.lora import add_adapters
from core.normalisers import normaliser_of
from core.preflight import load_models, point_map_of
from core.sources import Utterance
from core.sources.generated import generated_splits
from core.store import Store
from core.store.records import RunRecord, UtteranceResult
from core.weights.load import load_whisper
from core.wer import normalise

# PEFT still asks transformers by a name that transformers deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

LORA = {"rank": 4, "alpha": 8, "decoder_targets": ["q_proj"]}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Utterance, ...]:
    source = GeneratedSpeech.model_validate({"train": 1, "development": 1, "test": 1, "signal_to_noise": 40})
    return generated_splits(source, tmp_path_factory.mktemp("data"), lambda done, total: None).test


def trained(store: Store, runs_folder: Path, config: RunConfig) -> RunRecord:
    """Return a run with adapters that change the student a little, as training would."""
    job = store.create_job("test", [config])
    (run,) = store.runs(job_id=job.id)
    teachers, student = load_models(config)
    adapted = add_adapters(student.model, config.lora, freeze_below=config.freeze_below, seed=0)  # pyright: ignore
    draw = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=draw) * 1e-3
    point_map = point_map_of(config, student=student, teachers=teachers)
    save_adapters(runs_folder / run.id / "adapters", model=adapted, point_map=point_map, step=3, names=("best", "last"))
    return run


def heard(store: Store, run: RunRecord, clips: tuple[Utterance, ...], *, subject: Any = "student") -> None:
    """Store an evaluation of the run, or of its teacher, so that the export knows which clips to listen to."""
    results = [
        UtteranceResult(clip.id, number, "", "", 0, 0, 0, 1, None, clip.duration, str(clip.audio_path))
        for number, clip in enumerate(clips)
    ]
    store.add_evaluation(
        job_id=run.job_id,
        run_id=run.id if subject == "student" else None,
        subject=subject,
        test_set="test",
        test_set_hash="",
        step=3,
        audio_context=30,
        normaliser=normaliser_of().name,
        decoding="greedy",
        wer=0,
        cer=0,
        substitutions=0,
        deletions=0,
        insertions=0,
        words=1,
        heldout_kl=None,
        real_time_factor=1,
        seconds=1,
        results=results,
    )


def test_an_export_says_the_same_to_any_program_that_reads_whisper(
    store: Store, make_config: Callable[..., RunConfig], clips: tuple[Utterance, ...], tmp_path: Path
):
    run = trained(store, tmp_path / "runs", make_config(student={"kind": "pruned"}, lora=LORA))
    heard(store, run, clips)
    export = export_merged(run, store=store, runs_folder=tmp_path / "runs", to=tmp_path / "out" / "model")
    assert export.folder == tmp_path / "out" / "model"
    assert set(export.heard) == {clip.audio_path for clip in clips}
    names = {path.name for path in export.folder.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= names
    assert {path.suffix for path in export.folder.iterdir()} == {".safetensors", ".json", ".txt"}
    assert export.summary == (
        f"{export.folder}: loaded again, every weight is the same, and it said the same on {len(clips)} clip"
        f"{'' if len(clips) == 1 else 's'}."
    )
    assert [path.name for path in export.folder.parent.iterdir()] == ["model"]

    model: Any = WhisperForConditionalGeneration.from_pretrained(export.folder)
    processor: Any = WhisperProcessor.from_pretrained(export.folder)
    for clip in clips:
        audio = read_audio(clip.audio_path)
        features = processor(audio, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.inference_mode():
            (text,) = processor.batch_decode(model.generate(features, max_new_tokens=60), skip_special_tokens=True)
        assert text.strip() == export.heard[clip.audio_path]
        assert normalise(text) == normalise(clip.text)


def test_the_adapters_are_in_the_weights_and_only_the_kept_layers_are_left(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    student = {"kind": "pruned", "encoder_layers": [0, 1, 3], "decoder_layers": [0, 3]}
    method = {"losses": [{"kind": "geodesic"}]}
    run = trained(store, tmp_path, config := make_config(student=student, method=method, lora=LORA))
    assert (tmp_path / run.id / "adapters" / "best" / "projections.safetensors").exists()
    folder = export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "out").folder
    sizes = json.loads((folder / "config.json").read_text())
    assert (sizes["encoder_layers"], sizes["decoder_layers"]) == (3, 2)
    written: Any = WhisperForConditionalGeneration.from_pretrained(folder)
    (teacher,), _ = load_models(config)
    layers = written.model.encoder.layers
    original = teacher.encoder.get_submodule("layers.3").state_dict()
    untouched = teacher.encoder.get_submodule("layers.1").state_dict()
    assert torch.equal(layers[1].fc1.weight, untouched["fc1.weight"])
    difference = (layers[2].fc1.weight - original["fc1.weight"]).norm() / original["fc1.weight"].norm()
    assert 1e-5 < difference < 1e-1
    assert not any("lora" in name or "projection" in name for name in written.state_dict())


def test_an_export_prints_and_warns_nothing_and_leaves_the_bars_as_they_were(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    student = {"kind": "pruned", "encoder_layers": [0], "decoder_layers": [0]}
    run = trained(store, tmp_path, make_config(student=student, lora=LORA, freeze_below=0))
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", FutureWarning)
        export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert warned == []
    assert transformers_logging.is_progress_bar_enabled()


def test_a_folder_that_holds_something_is_not_overwritten(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    (run,) = store.runs(job_id=store.create_job("test", [make_config()]).id)
    (tmp_path / "notes.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ConfigError, match="is not an empty folder"):
            export_merged(run, store=store, runs_folder=tmp_path, to=target)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_without_adapters_cannot_be_exported(store: Store, make_config: Callable[..., RunConfig], tmp_path: Path):
    (run,) = store.runs(job_id=store.create_job("test", [make_config()]).id)
    with pytest.raises(NotFoundError, match="has no adapters"):
        export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_a_store_error(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    run = trained(store, tmp_path, make_config(lora=LORA))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "file" / "out")


def test_a_folder_that_appears_meanwhile_is_a_store_error_and_nothing_is_left(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    run = trained(store, tmp_path, make_config(lora=LORA))
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "out").symlink_to(tmp_path / "nowhere")  # a folder cannot take its place
    with pytest.raises(StoreError, match="cannot be written"):
        export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "exports" / "out")
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["out"]


def test_one_changed_weight_or_word_is_noticed(make_config: Callable[..., RunConfig]):
    config = make_config(lora=LORA)
    (_, student), (_, again) = load_models(config), load_models(config)
    clip = Path("a.flac")
    require_same(student, again, expected={clip: "word"}, heard={clip: "word"})
    with pytest.raises(ModelError, match=r"'world' in a\.flac, the trained one 'word'"):
        require_same(student, again, expected={clip: "word"}, heard={clip: "world"})
    again.encoder.get_submodule("layers.2").state_dict()["fc1.bias"][3] += 1e-6
    with pytest.raises(ModelError, match=r"differs from the trained one in model\.encoder\.layers\.2\.fc1\.bias"):
        require_same(student, again, expected={}, heard={})


def test_a_base_model_that_is_gone_is_said_and_leaves_nothing(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    run = trained(store, tmp_path, make_config(lora=LORA))
    config = {**run.config, "teachers": [{"model": "./gone"}]}
    (other,) = store.runs(job_id=store.create_job("test", [RunConfig.model_validate(config)]).id)
    (tmp_path / run.id).rename(tmp_path / other.id)
    with pytest.raises(ModelError, match="There is no folder"):
        export_merged(other, store=store, runs_folder=tmp_path, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mixture_is_refused_because_nothing_can_be_merged(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    config = make_config(lora={"rank": 8, "mixture": {"experts": 2}})
    (run,) = store.runs(job_id=store.create_job("test", [config]).id)
    with pytest.raises(ConfigError, match=r"is a mixture of experts\. .* cannot be merged into the weights"):
        export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_interrupted_is_heard_on_what_its_teacher_was_tested_on(
    store: Store, make_config: Callable[..., RunConfig], clips: tuple[Utterance, ...], tmp_path: Path
):
    run = trained(store, tmp_path / "runs", make_config(student={"kind": "pruned"}, lora=LORA))
    heard(store, run, clips, subject="teacher")
    store.run_state(run.id, "interrupted")
    export = export_merged(run, store=store, runs_folder=tmp_path / "runs", to=tmp_path / "out")
    assert set(export.heard) == {clip.audio_path for clip in clips}


def test_an_export_that_could_not_be_heard_does_not_say_that_it_was(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    student = {"kind": "pruned", "encoder_layers": [0], "decoder_layers": [0]}
    run = trained(store, tmp_path, make_config(student=student, lora=LORA, freeze_below=0))
    export = export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "out")
    assert "it was not tried on speech, because no clip" in export.summary
    assert "0 clips" not in export.summary


def folder_of_tiny(folder: Path, **settings: Any) -> None:
    """Write tiny.en as a transformers folder, and change how it is to generate."""
    loaded = load_whisper("openai/whisper-tiny.en")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_settings_that_cannot_be_saved_are_left_out_of_an_export_and_said(
    store: Store, make_config: Callable[..., RunConfig], tmp_path: Path
):
    folder_of_tiny(tmp_path / "base", temperature=0.7, num_beams=1, early_stopping=True, repetition_penalty=1.1)
    student = {"kind": "pruned", "encoder_layers": [0], "decoder_layers": [0]}
    teachers = [{"model": str(tmp_path / "base")}]
    run = trained(store, tmp_path, make_config(teachers=teachers, student=student, lora=LORA, freeze_below=0))
    export = export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "out")
    assert export.left_out == {"temperature": 0.7, "early_stopping": True}
    assert "Left out of generation_config.json" in export.summary
    assert "early_stopping = True, temperature = 0.7" in export.summary
    written = json.loads((export.folder / "generation_config.json").read_text())
    assert written["repetition_penalty"] == 1.1
    assert not {"temperature", "early_stopping"} & written.keys()


def test_a_head_of_its_own_stays_so_in_an_export(store: Store, make_config: Callable[..., RunConfig], tmp_path: Path):
    folder_of_tiny(tmp_path / "base")
    path = tmp_path / "base" / "model.safetensors"
    state = load_file(path)
    save_file({**state, "proj_out.weight": state["model.decoder.embed_tokens.weight"] * 1.5}, path)
    student = {"kind": "pruned", "encoder_layers": [0], "decoder_layers": [0]}
    teachers = [{"model": str(tmp_path / "base")}]
    run = trained(store, tmp_path, make_config(teachers=teachers, student=student, lora=LORA, freeze_below=0))
    folder = export_merged(run, store=store, runs_folder=tmp_path, to=tmp_path / "out").folder
    # Version 4 of transformers believes the configuration, not the file.
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    model: Any = WhisperForConditionalGeneration.from_pretrained(folder)
    assert torch.equal(model.proj_out.weight, model.model.decoder.embed_tokens.weight * 1.5)


def test_faster_whispers_documented_conversion_reads_an_export_and_hears_what_we_hear(
    store: Store, make_config: Callable[..., RunConfig], clips: tuple[Utterance, ...], tmp_path: Path
):
    run = trained(store, tmp_path / "runs", make_config(student={"kind": "pruned"}, lora=LORA))
    heard(store, run, clips)
    export = export_merged(run, store=store, runs_folder=tmp_path / "runs", to=tmp_path / "out")
    copied = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(export.folder), copy_files=copied).convert(str(tmp_path / "ct2"), quantization="float16")
    theirs = WhisperModel(str(tmp_path / "ct2"), device="cpu", compute_type="float32")
    for clip, text in export.heard.items():
        segments, _ = theirs.transcribe(str(clip), beam_size=1, temperature=0.0, without_timestamps=True, language="en")
        assert normalise("".join(segment.text for segment in segments)) == normalise(text)
