import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audio import SAMPLE_RATE, read_audio
from core.config import GeneratedSpeech, Manifest
from core.errors import DataError, StoreError
from core.sources import Splits, prepare
from core.sources.generated import chosen_sentences, generated_splits, read_sentences, speak
from core.sources.made import SETS
from core.sources.noise import coloured_noise, noise_of


def settings(**changes: Any) -> GeneratedSpeech:
    return GeneratedSpeech.model_validate({"train": 2, "development": 1, "test": 1, **changes})


def quietly(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def splits(folder: Path) -> Splits:
    return generated_splits(settings(), folder, quietly)


def test_the_sentences_are_many_disjoint_and_of_speakable_length():
    sets = [read_sentences(name) for name in SETS]
    assert [len(sentences) for sentences in sets] == [720, 60, 100]
    everything = [sentence for sentences in sets for sentence in sentences]
    for sentence in everything:
        assert 3 <= len(sentence.split()) <= 18
        assert re.fullmatch(r"[A-Z][A-Za-z,' ]+[.?]", sentence), sentence
    words = [frozenset(re.findall(r"\w+", sentence.lower())) for sentence in everything]
    assert all(
        len(one & other) / min(len(one), len(other)) < 0.8
        for number, one in enumerate(words)
        for other in words[number + 1 :]
    )


def test_clips_are_speech_at_16_khz_with_their_sentences(splits: Splits):
    assert [len(part) for part in (splits.train, splits.development, splits.test)] == [2, 1, 1]
    for name in SETS:
        for number, item in enumerate(getattr(splits, name)):
            assert item.id == f"{name}-{number:03d}"
            assert item.text == read_sentences(name)[number]
            assert soundfile.info(item.audio_path).samplerate == SAMPLE_RATE
            assert item.duration == len(read_audio(item.audio_path)) / SAMPLE_RATE
            assert 2 <= item.duration <= 12


def test_the_manifests_say_that_the_speech_is_generated_and_read_as_any_other(splits: Splits, folder: Path):
    home = splits.train[0].audio_path.parent.parent
    assert home.parent == folder
    note = json.loads((home / "train.jsonl").read_text().splitlines()[0])
    assert note["generated"] is True
    assert {"rate", "pitch", "seed", "speaker"} <= note.keys()
    assert settings().slowest <= note["rate"] <= settings().fastest
    paths = {name: str(home / f"{name}.jsonl") for name in SETS}
    assert prepare(Manifest.model_validate(paths), folder, quietly) == splits


def test_speech_is_made_once_and_progress_is_told(tmp_path: Path):
    told: list[tuple[int, int]] = []
    first = prepare(settings(train=1), tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3), (3, 3)]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert prepare(settings(train=1), tmp_path, quietly) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == made


def test_a_larger_set_leaves_the_clips_as_they_are_and_another_seed_does_not(splits: Splits, tmp_path: Path):
    smaller = generated_splits(settings(train=1), tmp_path, quietly)
    other = generated_splits(settings(train=1, seed=1), tmp_path, quietly)
    assert smaller.train[0].audio_path.read_bytes() == splits.train[0].audio_path.read_bytes()
    assert smaller.test[0].audio_path.read_bytes() == splits.test[0].audio_path.read_bytes()
    assert other.train[0].audio_path.read_bytes() != splits.train[0].audio_path.read_bytes()


def test_a_clip_is_as_noisy_as_it_was_asked_to_be(tmp_path: Path):
    from hibari import Hibari

    tts = Hibari()
    text = read_sentences("train")[0]
    clean, note = speak(tts, text, "a", settings(signal_to_noise=60))
    for ratio in (0.0, 10.0):
        noisy, same = speak(tts, text, "a", settings(signal_to_noise=ratio))
        assert same == note
        noise = noisy - clean * (np.vdot(noisy, clean) / np.vdot(clean, clean))
        measured = 10 * np.log10(np.mean((noisy - noise) ** 2) / np.mean(noise**2))
        assert measured == pytest.approx(ratio, abs=0.3)


def test_noise_is_coloured_without_rumble():
    draw = np.random.default_rng(0)
    for _ in range(5):
        noise = coloured_noise(SAMPLE_RATE * 4, draw)
        assert np.sqrt(np.mean(noise**2)) == pytest.approx(1)
        power = np.abs(np.fft.rfft(noise)) ** 2
        hertz = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
        bands = [power[(hertz > low) & (hertz < 2 * low)].mean() for low in (100, 400, 1600)]
        for louder, softer in pairwise(bands):
            assert 2 < louder / softer < 32  # two octaves: 4 times for pink noise, 16 times for brown
        assert power[hertz < 59].max() < 1e-6 * power.max()


@pytest.mark.parametrize("kind", ["coloured", "white", "babble"])
def test_every_kind_of_noise_is_as_loud_as_speech_of_level_one_and_differs_from_the_others(kind: str):
    speech, _ = clean_speech()
    noise = noise_of(kind, speech, np.random.default_rng(0))
    assert len(noise) == len(speech)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    low, high = (power[(hertz > edge) & (hertz < 4 * edge)].mean() for edge in (100, 1600))
    flat, steep = low / high < 1.2, low / high > 10
    assert flat if kind == "white" else steep
    # Voices swell and fade as speech does; steady noise does not.
    frames = np.sqrt(np.mean(noise[: len(noise) // 400 * 400].reshape(-1, 400) ** 2, axis=1))
    assert (frames.std() / frames.mean() > 0.3) == (kind == "babble")


def clean_speech() -> tuple[np.ndarray, dict[str, Any]]:
    from hibari import Hibari

    return speak(Hibari(), read_sentences("train")[0], "a", settings(signal_to_noise=60))


def test_each_clip_has_one_of_the_kinds_of_noise(tmp_path: Path):
    generated_splits(settings(train=6, noises=["white", "babble"]), tmp_path, quietly)
    (manifest,) = tmp_path.glob("*/train.jsonl")
    kinds = [json.loads(line)["noise"] for line in manifest.read_text().splitlines()]
    assert set(kinds) == {"white", "babble"}


def test_a_domain_has_sentences_of_its_own_whose_clips_keep_their_names():
    every = {name: {f"{name}-{n:03d}": text for n, text in enumerate(read_sentences(name))} for name in SETS}
    parts = [
        chosen_sentences(settings(train=80, development=12, test=30, domain=domain))
        for domain in ("outdoors", "indoors")
    ]
    for name in SETS:
        outdoors, indoors = (part[name] for part in parts)
        assert not outdoors.keys() & indoors.keys()
        assert (outdoors | indoors).items() <= every[name].items()
    assert parts[0]["test"]["test-014"] == "The lake froze early this winter, and skaters came from miles around."
    with pytest.raises(DataError, match=r"source\.train: asks for 240 sentences, but \d+ are outdoors"):
        chosen_sentences(settings(train=240, domain="outdoors"))


def test_a_folder_that_cannot_be_written_is_a_store_error_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        generated_splits(settings(), tmp_path / "file", quietly)


def test_what_stops_halfway_leaves_nothing_half_made(tmp_path: Path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generated_splits(settings(), tmp_path, stop)
    assert not list(tmp_path.iterdir())


def test_two_programs_that_make_the_same_speech_do_not_hinder_each_other(splits: Splits, tmp_path: Path):
    """The second one's progress finishes the first one's work, so that both have made it."""

    def meanwhile(done: int, total: int) -> None:
        if done == 1:
            generated_splits(settings(), tmp_path, quietly)

    late = generated_splits(settings(), tmp_path, meanwhile)
    assert late.train[0].audio_path.read_bytes() == splits.train[0].audio_path.read_bytes()
    assert len(list(tmp_path.iterdir())) == 1
