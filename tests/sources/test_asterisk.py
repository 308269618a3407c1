import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.audio import read_audio
from core.errors import DataError, StoreError
from core.sources.asterisk import (
    DRAW,
    ENGLISH,
    Prompts,
    asterisk_speech,
    decode_g722,
    drawn,
    quick_start_manifest,
)
from core.sources.data_sets import DATA_SETS
from core.sources.manifest import read_manifest
from core.sources.utterance import Utterance
from tests.sources.packages import asterisk_files, content_of, g722, install, sound, write_packages

NOWHERE = Path("/nonexistent")
WHOLE, DRAWN = "asterisk-en/asterisk-en.jsonl", "asterisk-en/asterisk.jsonl"
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return asterisk_files()


@pytest.fixture(scope="module")
def prompts(files: dict[str, bytes]) -> Prompts:
    """Return English prompts whose content is that of the small packages."""
    return replace(ENGLISH, content=content_of(files))


def test_without_the_packages_there_is_no_manifest_and_nothing_is_written(tmp_path: Path) -> None:
    assert asterisk_speech(tmp_path, root=NOWHERE) is None
    assert not list(tmp_path.iterdir())


def test_installed_and_fetched_packages_give_the_same_files(
    files: dict[str, bytes], prompts: Prompts, tmp_path: Path
) -> None:
    write_packages(tmp_path / "a", files)
    one = asterisk_speech(tmp_path / "a", prompts, root=NOWHERE)
    two = asterisk_speech(tmp_path / "b", prompts, root=install(tmp_path / "root", files))
    assert one == tmp_path / "a" / WHOLE
    assert two == tmp_path / "b" / WHOLE
    for name in (WHOLE, DRAWN, "asterisk-en/audio/conf-full.flac"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_clips_are_those_of_four_words_and_more_without_signs_and_notes_and_of_fit_length(
    files: dict[str, bytes], prompts: Prompts, tmp_path: Path
) -> None:
    manifest = asterisk_speech(tmp_path, prompts, root=install(tmp_path / "root", files))
    assert manifest is not None
    assert [(item.id, item.text, item.speaker) for item in read_manifest(manifest)] == [
        ("conf-full", "That conference is full.", "en_US_f_Allison"),
        ("conf-full-again", "That conference is full", "en_US_f_Allison"),
        ("dictate-full", "The disk of dictations is full", "en_US_f_Allison"),
        ("queue-busy", "All of our representatives are busy", "en_US_f_Allison"),
    ]
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["audio_filepath"] for row in rows] == [f"audio/{row['id']}.flac" for row in rows]
    assert {(row["licence"], row["source"], row["language"]) for row in rows} == {
        ("CC-BY-SA-3.0", "asterisk-core-sounds-en 1.6.1", "en")
    }


def test_the_quick_start_hears_each_text_once(files: dict[str, bytes], prompts: Prompts, tmp_path: Path) -> None:
    manifest = asterisk_speech(tmp_path, prompts, root=install(tmp_path / "root", files))
    assert manifest is not None
    chosen = read_manifest(quick_start_manifest(manifest))
    assert [item.id for item in chosen] == ["conf-full", "dictate-full", "queue-busy"]


def test_the_draw_rests_on_names_and_lengths_alone() -> None:
    clips = [
        Utterance(f"clip-{n:03}", Path("x"), f"text {n}", "a", 10.5 if n % 10 == 0 else 1 + n % 9) for n in range(300)
    ]
    short = [clip for clip in clips if clip.duration <= 10]
    by_hash = sorted(short, key=lambda clip: hashlib.sha256(clip.id.encode()).hexdigest())
    assert drawn(clips) == sorted(by_hash[:DRAW], key=lambda clip: clip.id)
    assert {item.id for item in drawn(list(reversed(clips)))} == {item.id for item in drawn(clips)}


def test_decoded_sound_is_the_sound_and_is_not_late() -> None:
    said = sound(7, 0.5)
    heard = decode_g722(g722(said))
    lags = range(-40, 41)
    middle = said[1000:7000]
    likeness = [np.corrcoef(middle, heard[1000 + lag : 7000 + lag])[0, 1] for lag in lags]
    assert lags[int(np.argmax(likeness))] == 0
    assert max(likeness) > 0.98
    assert np.std(heard) == pytest.approx(np.std(said), rel=0.05)


def test_what_is_written_is_what_was_decoded(files: dict[str, bytes], prompts: Prompts, tmp_path: Path) -> None:
    asterisk_speech(tmp_path, prompts, root=install(tmp_path / "root", files))
    clip = read_audio(tmp_path / "asterisk-en" / "audio" / "conf-full.flac")
    decoded = decode_g722(files["/usr/share/asterisk/sounds/en_US_f_Allison/conf-full.g722"])
    np.testing.assert_array_equal(clip, decoded)


def test_manifests_are_written_once(files: dict[str, bytes], prompts: Prompts, tmp_path: Path) -> None:
    root = install(tmp_path / "root", files)
    manifest = asterisk_speech(tmp_path, prompts, root=root)
    shutil.rmtree(root)
    assert asterisk_speech(tmp_path, prompts, root=root) == manifest


def test_packages_of_another_version_are_refused(files: dict[str, bytes], prompts: Prompts, tmp_path: Path) -> None:
    changed = dict(files)
    changed["/usr/share/asterisk/sounds/en_US_f_Allison/vm-goodbye.g722"] += b"1"
    write_packages(tmp_path, changed)
    with pytest.raises(DataError, match=r"not version 1\.6\.1 of the Asterisk prompts"):
        asterisk_speech(tmp_path, prompts, root=NOWHERE)


def test_packages_of_another_version_that_are_installed_are_passed_over(
    files: dict[str, bytes], prompts: Prompts, tmp_path: Path
) -> None:
    changed = dict(files)
    changed["/usr/share/asterisk/sounds/en_US_f_Allison/vm-goodbye.g722"] += b"1"
    root = install(tmp_path / "root", changed)
    assert asterisk_speech(tmp_path, prompts, root=root) is None
    write_packages(tmp_path, files)
    assert asterisk_speech(tmp_path, prompts, root=root) == tmp_path / WHOLE


@pytest.mark.parametrize("gone", [".gz", ".g722"])
def test_a_package_without_the_other_is_none(
    files: dict[str, bytes], prompts: Prompts, tmp_path: Path, gone: str
) -> None:
    left = {path: content for path, content in files.items() if not path.endswith(gone)}
    assert asterisk_speech(tmp_path, prompts, root=install(tmp_path / "root", left)) is None
    write_packages(tmp_path, files)
    next(tmp_path.glob("*-g722_*" if gone == ".g722" else "*-en_*")).unlink()
    assert asterisk_speech(tmp_path, prompts, root=NOWHERE) is None


def test_a_folder_that_cannot_be_written_is_a_store_error(
    files: dict[str, bytes], prompts: Prompts, tmp_path: Path
) -> None:
    (tmp_path / "asterisk-en").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be made"):
        asterisk_speech(tmp_path, prompts, root=install(tmp_path / "root", files))


def test_the_real_packages_give_the_manifests_that_results_were_measured_on(tmp_path: Path) -> None:
    data = CHECKOUT / "runs" / "data"
    for package in data.glob("asterisk-core-sounds-en*.deb"):
        (tmp_path / package.name).symlink_to(package)
    manifest = asterisk_speech(tmp_path)
    if manifest is None:
        pytest.skip("The Asterisk prompts are not on this machine: make recorded")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (manifest, quick_start_manifest(manifest))]
    assert digests == [
        "af7db5252f3a96d13893031b88292ddd14d3df2ea2727b2b9e9bf8cc9ef1c75a",
        "71637ea035c60b76ec095cad604e6f354a5a8e30a27ccc2a0f749050dc4470e9",
    ]
    (known,) = [each for each in DATA_SETS if each.name == "asterisk-en"]
    utterances = read_manifest(manifest)
    assert known.utterances == len(utterances)
    assert known.words == sum(len(utterance.text.split()) for utterance in utterances)
    assert known.seconds == pytest.approx(sum(utterance.duration for utterance in utterances), abs=0.1)
    samples = hashlib.sha256()
    for utterance in utterances:
        samples.update((read_audio(utterance.audio_path) * 32768).astype("<i2").tobytes())
    assert samples.hexdigest() == "29a1db793a5885107c1976b74ab9141ed65af77a0bc7ab03a02ee7ddafc3b839"
