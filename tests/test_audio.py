import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.audio import SAMPLE_RATE, audio_seconds, read_audio, write_flac
from core.errors import DataError, ManifoldError, StoreError


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_what_was_written_reads_back(tmp_path: Path):
    write_flac(tmp_path / "a.flac", tone(0.5))
    samples = read_audio(tmp_path / "a.flac")
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(0.5), atol=1 / 32768)
    assert [path.name for path in tmp_path.iterdir()] == ["a.flac"]


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path):
    write_flac(tmp_path / "a.flac", 3 * tone(0.1))
    assert np.abs(read_audio(tmp_path / "a.flac")).max() == pytest.approx(1, abs=1e-3)


def test_other_rates_are_resampled_and_channels_averaged(tmp_path: Path):
    left = tone(1, 44_100)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros_like(left)], axis=1), 44_100, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav")
    assert len(samples) == SAMPLE_RATE
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples[800:-800], tone(1)[800:-800] / 2, atol=2e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros(0, np.float32), "is empty"),
        (np.full(1600, 5e-5, np.float32), "is silent"),
        (np.array([0.5, np.nan, 0.1], np.float32), "not numbers"),
        (np.array([0.5, np.inf, 0.1], np.float32), "not numbers"),
        (b"RIFF, but no audio", "cannot be read as audio"),
    ],
)
def test_a_clip_that_holds_no_speech_is_refused_with_its_path(content: np.ndarray | bytes, words: str, tmp_path: Path):
    path = tmp_path / "clip.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=words) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path):
    for path in (tmp_path / "missing.flac", tmp_path, tmp_path / "nul\0", Path("/dev/null")):
        with pytest.raises(DataError, match="There is no audio file"):
            read_audio(path)


def test_a_sampling_rate_that_cannot_be_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", tone(0.1), 100)
    with pytest.raises(DataError, match="100 samples a second"):
        read_audio(tmp_path / "a.wav")


def test_a_long_clip_is_refused_by_its_header(tmp_path: Path):
    write_flac(tmp_path / "a.flac", tone(2))
    assert len(read_audio(tmp_path / "a.flac", longest_seconds=2)) == 2 * SAMPLE_RATE
    with pytest.raises(DataError, match=r"lasts 2\.0 s; the longest allowed is 1\.9 s"):
        read_audio(tmp_path / "a.flac", longest_seconds=1.9)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "folder.flac").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        write_flac(tmp_path / "folder.flac", tone(0.1))
    with pytest.raises(StoreError, match="cannot be written"):
        write_flac(tmp_path / "missing" / "a.flac", tone(0.1))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.flac"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_audio_is_read_or_refused_and_nothing_else(data: st.DataObject, tmp_path: Path):
    path = tmp_path / "clip"
    soundfile.write(path, tone(0.05), SAMPLE_RATE, format=data.draw(st.sampled_from(["FLAC", "WAV", "OGG"])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert np.isfinite(read_audio(path, longest_seconds=30)).all()
    except ManifoldError as error:
        assert str(path) in str(error)  # noqa: PT017 - it may also be read


def chirp(seconds: float = 1.0, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return what has no period, so that a part of it cannot pass for another."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * time) * time)).astype(np.float32)


WAYS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("NIST", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


@pytest.mark.parametrize(("container", "subtype"), WAYS)
def test_a_whole_file_is_read_and_one_that_was_cut_off_is_refused(container: str, subtype: str, tmp_path: Path):
    path = tmp_path / "clip"
    soundfile.write(path, chirp(), SAMPLE_RATE, format=container, subtype=subtype)
    whole = path.read_bytes()
    assert len(read_audio(path)) == pytest.approx(SAMPLE_RATE, abs=1016)  # ADPCM fills its last block
    for share in (0.3, 0.6, 0.97):
        path.write_bytes(whole[: round(share * len(whole))])
        with pytest.raises(DataError, match=r"is cut off|cannot be read as audio") as caught:
            read_audio(path)
        assert str(path) in str(caught.value)
        if container != "FLAC":  # whose header does not tell how many bytes there should be
            with pytest.raises(DataError, match=r"is cut off|cannot be read as audio"):
                audio_seconds(path)


def first_mp3_frame(content: bytes) -> int:
    """Return the length of the frame that LAME's header fills: at 24 kHz and below 72 bytes for each kbit/s and kHz."""
    rates = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    return 72 * 1000 * rates[(content[2] >> 4) - 1] // SAMPLE_RATE + (content[2] >> 1 & 1)


def test_an_mp3_without_a_header_is_read_to_its_end_and_its_guessed_length_is_not_believed(tmp_path: Path):
    path = tmp_path / "a.mp3"
    draw = np.random.default_rng(0)
    loud_late = np.concatenate([np.zeros(SAMPLE_RATE * 3), 0.4 * draw.uniform(-1, 1, SAMPLE_RATE)]).astype(np.float32)
    soundfile.write(path, loud_late, SAMPLE_RATE, bitrate_mode="VARIABLE", compression_level=0.2)
    content = path.read_bytes()
    bare = content[first_mp3_frame(content) :]
    path.write_bytes(bare)
    with soundfile.SoundFile(path) as file:
        guessed = file.frames / file.samplerate
    assert not 3.5 < guessed < 4.5
    assert len(read_audio(path, longest_seconds=5)) / SAMPLE_RATE == pytest.approx(4, abs=0.15)
    assert audio_seconds(path, longest_seconds=5) == pytest.approx(4, abs=0.15)
    path.write_bytes(bare[:-20])
    with pytest.raises(DataError, match="is cut off: its last frame is not whole"):
        read_audio(path)


def test_tags_around_an_mp3_are_no_audio_and_two_files_in_one_are_refused(tmp_path: Path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, chirp(), SAMPLE_RATE, format="MP3")
    content = path.read_bytes()
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 44]) + bytes(300)
    path.write_bytes(tag + content + b"TAG" + bytes(125))
    assert len(read_audio(path)) == SAMPLE_RATE
    path.write_bytes(content + content)
    with pytest.raises(DataError, match=r"is several files in one: its header says 1\.1 s of 2\.2 s"):
        read_audio(path)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_F000, 0x8000_0000, 0x7FFF_FFFF - 36])
def test_a_wav_that_was_written_to_a_pipe_is_read_whole(size: int, order: Literal["little", "big"], tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, chirp(), SAMPLE_RATE, format="WAV", endian=order.upper())
    content = bytearray(path.read_bytes())
    content[4:8] = min(size + 36, 0xFFFF_FFFF).to_bytes(4, order)
    content[40:44] = size.to_bytes(4, order)
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path), chirp(), atol=1 / 32767)
    assert audio_seconds(path) == 1


def test_a_wav_without_samples_is_empty_also_where_other_things_follow(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, chirp(0), SAMPLE_RATE, format="WAV")
    content = bytearray(path.read_bytes()) + b"LIST\x04\x00\x00\x00INFO"
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match="is empty"):
        read_audio(path)


def test_a_flac_that_was_written_to_a_pipe_is_read_whole_and_a_long_one_is_refused(tmp_path: Path):
    path = tmp_path / "a.flac"
    write_flac(path, chirp(2))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the total of samples: 36 bits
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path), chirp(2), atol=1 / 32767)
    assert audio_seconds(path) == 2
    for read in (read_audio, audio_seconds):
        with pytest.raises(DataError, match="the longest allowed is 1 s"):
            read(path, longest_seconds=1)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (2**15, "16-bit values written as floating point do. Divide them by 32,768"),
        (2**23, "24-bit values"),
        (2**31, "32-bit values"),
        (300.0, "has samples up to 120"),
        (1e30, "where 1 is full scale. Convert it again"),
    ],
)
def test_samples_on_another_scale_are_refused(scale: float, words: str, subtype: str, tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, chirp() * scale, SAMPLE_RATE, subtype=subtype)
    with pytest.raises(DataError) as caught:
        read_audio(path)
    assert words in str(caught.value)


def test_whole_numbers_beyond_full_scale_are_on_another_scale_however_quiet(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.round(chirp() * 20).astype(np.float32), SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"has samples up to 8, where 1 is full scale"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("peak", [1.0, 1.2, 4.0])
def test_floating_point_may_go_somewhat_beyond_full_scale(peak: float, tmp_path: Path):
    loud = chirp() / np.abs(chirp()).max() * peak
    soundfile.write(tmp_path / "a.wav", loud, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), loud)


@pytest.mark.parametrize(
    ("samples", "rate"), [(1, 44_100), (1, 96_000), (1, SAMPLE_RATE), (399, SAMPLE_RATE), (1100, 44_100), (190, 8_000)]
)
def test_a_clip_too_short_for_one_window_is_refused_with_the_least(samples: int, rate: int, tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.resize([0.5, -0.5], samples), rate)
    with pytest.raises(DataError, match=r"is too short: it lasts \d+\.\d ms, and 25 are the least"):
        read_audio(tmp_path / "a.wav")


def test_the_shortest_clip_is_read(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", chirp(0.025), SAMPLE_RATE)
    assert len(read_audio(tmp_path / "a.wav")) == 400


@pytest.mark.parametrize("turned", [-1.0, -0.9, -0.75])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_channels_that_cancel_are_told_and_not_called_silent(turned: float, offset: float, tmp_path: Path):
    both = np.stack([chirp() + offset, turned * chirp() - offset], axis=1)
    soundfile.write(tmp_path / "a.wav", both, SAMPLE_RATE)
    with pytest.raises(DataError, match="channels that cancel out"):
        read_audio(tmp_path / "a.wav")


def test_channels_that_differ_without_cancelling_are_averaged(tmp_path: Path):
    draw = np.random.default_rng(0)
    voice, silence = chirp(), np.zeros(SAMPLE_RATE, np.float32)
    noise = 0.2 * draw.uniform(-1, 1, (SAMPLE_RATE, 7)).astype(np.float32)
    late = np.roll(voice, 40)
    for number, channels in enumerate(
        (
            [voice, silence],
            [voice, *[silence] * 7],
            [voice, *noise.T],
            [voice, late, np.roll(late, 40), np.roll(late, 80)],
            [voice, -0.5 * voice],
        )
    ):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.stack(channels, axis=1), SAMPLE_RATE, subtype="FLOAT")
        np.testing.assert_allclose(read_audio(path), np.mean(channels, axis=0), atol=1e-6)


@pytest.mark.parametrize(("level", "offset"), [(1.0, 0.5), (0.1, -0.1)])
def test_a_recording_off_centre_is_refused(level: float, offset: float, tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", level * chirp() + offset, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=rf"is off centre: its samples swing around {offset:.2f} of full scale"):
        read_audio(tmp_path / "a.wav")


def test_a_small_offset_stays_and_an_offset_alone_is_silence(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, chirp() + 0.05, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), chirp() + 0.05, atol=1e-6)
    soundfile.write(path, np.full(SAMPLE_RATE, 0.5), SAMPLE_RATE)
    with pytest.raises(DataError, match="is silent"):
        read_audio(path)


def test_a_pipe_or_a_path_that_nothing_can_have_is_refused_at_once_with_the_reason(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name, why in {
        "pipe.wav": "it is a pipe, a socket or a device",
        "loop.wav": "it is a link that leads to itself",
        "n" * 5_000 + ".wav": "the name is too long",
        ".": "it is a folder",
        "zero\0.wav": "no file can have this name",
        "half\ud800.wav": "no file can have this name",
        "missing.wav": "Check the path",
    }.items():
        for read in (read_audio, audio_seconds):
            with pytest.raises(DataError, match="There is no audio file") as caught:
                read(tmp_path / name)
            assert why in str(caught.value)
            assert len(str(caught.value)) < 600
