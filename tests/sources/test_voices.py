"""The speech of 28 voices that comes with the project, and what is heard of it."""

import hashlib
import importlib.util
import io
import json
import shutil
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audio import SAMPLE_RATE, read_audio
from core.config import Manifest, VoiceSpeech, parse_run
from core.config.sources import VOICE_CLIPS
from core.errors import ConfigError, DataError, StoreError
from core.first_look import speech_problems
from core.job import set_sizes
from core.job_power import test_power as power_of
from core.sources import Splits, is_ready, prepare
from core.sources.generated import read_sentences
from core.sources.made import SETS
from core.sources.voices import ARCHIVE, chosen_clips, is_made, read_voices, voices_splits

ASSETS = ARCHIVE.parent
ALL = ("room", "telephone", "noise", "speed")


def settings(**changes: Any) -> VoiceSpeech:
    return VoiceSpeech.model_validate({"train": 4, "development": 2, "test": 1, **changes})


def quietly(done: int, total: int) -> None:
    pass


def notes(splits: Splits, name: str) -> list[dict[str, Any]]:
    manifest = splits.train[0].audio_path.parents[1] / f"{name}.jsonl"
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def contents(splits: Splits, name: str) -> list[bytes]:
    return [item.audio_path.read_bytes() for item in getattr(splits, name)]


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """Return the program that made the archive; what renders speech is not needed to load it."""
    spec = importlib.util.spec_from_file_location("make_voices", ASSETS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return voices_splits(settings(), tmp_path_factory.mktemp("clean"), quietly)


def test_the_archive_is_small_and_has_the_checksums_beside_it() -> None:
    assert ARCHIVE.stat().st_size < 8_000_000
    sums = dict(line.split("  ")[::-1] for line in (ASSETS / "SHA256SUMS").read_text().splitlines())
    assert sums.pop("voices.zip") == hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()
    files = read_voices().files
    assert sums == {
        name: hashlib.sha256(files.read(name)).hexdigest() for name in files.namelist() if name != "manifest.jsonl"
    }


def test_where_it_comes_from_and_its_licences_are_told() -> None:
    told = (ASSETS / "README.md").read_text(encoding="utf-8")
    for part in ("Kokoro-82M", "hexgrad", "Apache-2.0", "thewh1teagle", "MIT", "espeak-ng", "GPL-3.0", "make voices"):
        assert part in told


def test_the_archive_depends_on_nothing_but_the_clips(recipe: ModuleType, tmp_path: Path) -> None:
    """Packing its own content again, at another time, gives the same file."""
    voices = read_voices()
    for row in voices.rows:
        (tmp_path / f"{row['id']}.json").write_text(json.dumps(dict(reversed(row.items()))))
        (tmp_path / f"{row['id']}.opus").write_bytes(voices.files.read(row["audio_filepath"]))
    chosen = [{key: row[key] for key in ("id", "set", "text", "speaker")} for row in voices.rows]
    (tmp_path / "new").mkdir()
    recipe.pack(tmp_path, tmp_path / "new", chosen)
    for name in ("voices.zip", "SHA256SUMS"):
        assert (tmp_path / "new" / name).read_bytes() == (ASSETS / name).read_bytes()


def test_a_clip_that_is_written_again_is_the_same_file(recipe: ModuleType) -> None:
    """libsndfile gives every Ogg stream a random number; without it the sums of the pages are others."""
    tone = 0.5 * np.sin(np.arange(3 * SAMPLE_RATE) / 5)
    streams = []
    for _ in range(3):
        file = io.BytesIO()
        soundfile.write(file, tone, SAMPLE_RATE, format="OGG", subtype="OPUS")
        streams.append(file.getvalue())
    (same,) = {recipe.without_serial(stream) for stream in streams}
    assert same[14:18] == bytes(4)
    heard = [soundfile.read(io.BytesIO(stream))[0] for stream in (streams[0], same)]
    assert len(heard[0]) == len(tone)
    assert np.array_equal(heard[0], heard[1])


def test_the_sum_of_an_ogg_page_is_the_one_that_libogg_writes(recipe: ModuleType) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(SAMPLE_RATE), SAMPLE_RATE, format="OGG", subtype="OPUS")
    first = bytearray(file.getvalue()[: file.getvalue().index(b"OggS", 1)])
    written, first[22:26] = int.from_bytes(first[22:26], "little"), bytes(4)
    assert recipe.ogg_checksum(first) == written


def test_a_clip_that_is_missing_or_says_something_else_is_not_packed(recipe: ModuleType, tmp_path: Path) -> None:
    clip = {"id": "train-000", "set": "train", "text": "One.", "speaker": "af_alloy"}
    (tmp_path / "train-000.json").write_text(json.dumps({**clip, "duration": 1.0, "speed": 1.0}))
    assert recipe.kept(tmp_path, clip)
    assert recipe.kept(tmp_path, {**clip, "text": "Two."}) is None
    (tmp_path / "train-000.json").write_text('{"id": "trai')
    assert recipe.kept(tmp_path, clip) is None
    with pytest.raises(SystemExit, match="train-000 was not rendered"):
        recipe.pack(tmp_path, tmp_path, [clip])
    assert not (tmp_path / "voices.zip").exists()


def test_the_sets_share_no_speaker_and_no_sentence() -> None:
    voices = read_voices()
    everything = VoiceSpeech()
    clips = chosen_clips(everything, voices)
    assert {name: len(items) for name, items in clips.items()} == VOICE_CLIPS
    assert len(voices.rows) == sum(VOICE_CLIPS.values())
    speakers = [{clip.speaker for clip in clips[name]} for name in SETS]
    assert list(map(len, speakers)) == [20, 4, 4]
    assert len(set.union(*speakers)) == 28
    texts = [clip.text for items in clips.values() for clip in items]
    assert len(set(texts)) == len(texts)


def test_every_set_has_both_sexes_and_both_accents() -> None:
    """Kokoro's names begin with the accent, American or British, and the sex."""
    for items in chosen_clips(VoiceSpeech(), read_voices()).values():
        assert {clip.speaker[:2] for clip in items} == {"af", "am", "bf", "bm"}


def test_the_clips_say_the_project_s_sentences_and_are_as_long_as_the_manifest_says(recipe: ModuleType) -> None:
    voices = read_voices()
    wanted = {clip["id"]: clip for clip in recipe.clips()}
    assert recipe.SPOKEN == VOICE_CLIPS
    assert wanted.keys() == {row["id"] for row in voices.rows}
    for row in voices.rows:
        assert {key: row[key] for key in wanted[row["id"]]} == wanted[row["id"]]
        info = soundfile.info(io.BytesIO(voices.files.read(row["audio_filepath"])))
        assert (info.samplerate, info.channels) == (SAMPLE_RATE, 1)
        assert info.duration == pytest.approx(row["duration"], abs=0.001)
        assert 0.4 < row["duration"] < 15


def test_clips_are_16_khz_speech_with_their_sentences_and_speakers(clean: Splits) -> None:
    for name in SETS:
        for number, item in enumerate(getattr(clean, name)):
            assert (item.id, item.text) == (f"{name}-{number:03d}", read_sentences(name)[number])
            samples = read_audio(item.audio_path)
            assert item.duration == len(samples) / SAMPLE_RATE
            assert 0.02 < np.sqrt(np.mean(samples**2)) < 0.13
    assert len({item.speaker for item in clean.train}) == 4


def test_the_manifests_say_that_the_speech_is_generated_and_read_as_any_other(clean: Splits) -> None:
    home = clean.train[0].audio_path.parents[1]
    note = notes(clean, "train")[0]
    assert note["generated"] is True
    assert note["conditions"] == {}
    paths = {name: str(home / f"{name}.jsonl") for name in SETS}
    assert prepare(Manifest.model_validate(paths), home.parent, quietly) == clean


def test_speech_is_written_once_and_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    source = settings(train=2)
    assert not is_ready(source, tmp_path)
    first = prepare(source, tmp_path, lambda done, total: told.append((done, total)))
    assert told == [*((done, 5) for done in range(1, 6)), (5, 5)]
    assert is_ready(source, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert prepare(source, tmp_path, quietly) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written


def test_the_same_settings_give_the_same_files_anywhere_and_at_any_time(tmp_path: Path) -> None:
    one, two = (voices_splits(settings(conditions=ALL), tmp_path / name, quietly) for name in ("a", "b"))
    for name in SETS:
        assert contents(one, name) == contents(two, name)
        assert notes(one, name) == notes(two, name)
    assert one.train[0].audio_path.relative_to(tmp_path / "a") == two.train[0].audio_path.relative_to(tmp_path / "b")


def test_more_clips_and_more_kinds_leave_what_was_drawn(tmp_path: Path) -> None:
    few = voices_splits(settings(train=3, conditions=["noise"]), tmp_path, quietly)
    many = voices_splits(settings(train=6, conditions=["noise"]), tmp_path, quietly)
    assert contents(many, "train")[:3] == contents(few, "train")
    every = voices_splits(settings(train=6, conditions=ALL), tmp_path, quietly)
    noises = [[note["conditions"].get("noise") for note in notes(splits, "train")] for splits in (many, every)]
    assert noises[0] == noises[1]
    assert any(noises[0])
    assert not all(noises[0])


def test_another_seed_draws_other_conditions(tmp_path: Path) -> None:
    one, other = (voices_splits(settings(conditions=ALL, share=1, seed=seed), tmp_path, quietly) for seed in (0, 1))
    assert all(a != b for a, b in zip(contents(one, "train"), contents(other, "train"), strict=True))


def test_development_and_test_clips_are_the_same_whatever_training_hears(clean: Splits, tmp_path: Path) -> None:
    changed = settings(conditions=ALL, share=1, seed=9, lowest_signal_to_noise=-5, highest_signal_to_noise=0)
    other = voices_splits(changed, tmp_path, quietly)
    for name in ("development", "test"):
        assert contents(other, name) == contents(clean, name)
    assert contents(other, "train") != contents(clean, "train")


def test_every_second_development_clip_is_heard_in_conditions_and_no_test_clip(tmp_path: Path) -> None:
    splits = voices_splits(settings(train=1, development=20, test=5), tmp_path, quietly)
    drawn = [note["conditions"] for note in notes(splits, "development")]
    assert not any(drawn[::2])
    assert sum(map(bool, drawn[1::2])) >= 8
    assert {kind for conditions in drawn for kind in conditions} == set(ALL)
    assert not any(note["conditions"] for note in notes(splits, "test"))


def test_ratios_of_noise_are_those_of_the_settings(tmp_path: Path) -> None:
    ratios = {"lowest_signal_to_noise": 7, "highest_signal_to_noise": 8}
    splits = voices_splits(settings(train=8, conditions=["noise"], share=1, **ratios), tmp_path, quietly)
    drawn = [note["conditions"]["noise"]["signal_to_noise"] for note in notes(splits, "train")]
    assert len(drawn) == 8
    assert 7 <= min(drawn) < max(drawn) <= 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": VOICE_CLIPS["train"] + 1}, f"from 1 to {VOICE_CLIPS['train']}"),
        ({"development": 0}, f"from 1 to {VOICE_CLIPS['development']}"),
        ({"test": VOICE_CLIPS["test"] + 1}, f"from 1 to {VOICE_CLIPS['test']}"),
        ({"conditions": ["cave"]}, "room"),
        ({"share": 1.5}, "from 0 to 1"),
        ({"lowest_signal_to_noise": 30}, "swap them"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_can(changes: dict[str, Any], said: str) -> None:
    run = {"source": {"kind": "voices", **changes}, "method": {"name": "ce", "losses": [{"kind": "cross_entropy"}]}}
    with pytest.raises(ConfigError, match="source") as refused:
        parse_run(run)
    assert said in str(refused.value)


def test_an_archive_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no archive of voices .*git checkout assets/voices.*make voices"):
        voices_splits(settings(), tmp_path / "data", quietly, archive=tmp_path / "voices.zip")
    shutil.copy(ARCHIVE, tmp_path / "voices.zip")
    with pytest.raises(DataError, match="There is no list of checksums"):
        is_made(settings(), tmp_path, archive=tmp_path / "voices.zip")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("change", ["a byte", "an end", "a name"])
def test_another_archive_is_refused(change: str, tmp_path: Path) -> None:
    content = bytearray(ARCHIVE.read_bytes())
    sums = (ASSETS / "SHA256SUMS").read_text()
    if change == "a byte":
        content[5_000] ^= 1
    elif change == "an end":
        del content[-1:]
    else:
        sums = sums.replace("voices.zip", "other.zip")
    (tmp_path / "voices.zip").write_bytes(content)
    (tmp_path / "SHA256SUMS").write_text(sums)
    with pytest.raises(DataError, match="sha256 is not the one in SHA256SUMS"):
        read_voices(tmp_path / "voices.zip")


def test_an_archive_of_fewer_clips_says_which_are_lacking(tmp_path: Path) -> None:
    voices = read_voices()
    with zipfile.ZipFile(tmp_path / "voices.zip", "w") as archive:
        archive.writestr("manifest.jsonl", "".join(json.dumps(row) + "\n" for row in voices.rows[:3]))
    digest = hashlib.sha256((tmp_path / "voices.zip").read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  voices.zip\n")
    with pytest.raises(DataError) as refused:
        voices_splits(settings(), tmp_path, quietly, archive=tmp_path / "voices.zip")
    assert [problem.where for problem in refused.value.problems] == [
        "source.train",
        "source.development",
        "source.test",
    ]


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        voices_splits(settings(), tmp_path / "file", quietly)


def test_before_a_job_its_sizes_speech_and_power_are_known() -> None:
    fields = {
        "source": {"kind": "voices", "train": 9, "development": 8},
        "method": {"name": "ce", "losses": [{"kind": "cross_entropy"}]},
    }
    config = parse_run(fields)
    assert set_sizes(config) == (9, 8, VOICE_CLIPS["test"])
    assert speech_problems(config.source, (), runs_folder=Path("runs")) == []
    assert "4 speakers" in power_of([config, config])
