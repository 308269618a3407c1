from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.audio import SAMPLE_RATE, read_audio, write_flac
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
