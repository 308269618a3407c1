import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.errors import DataError, StoreError
from core.sources import real
from core.sources.manifest import read_manifest
from core.sources.real import COMMANDS, real_speech

NOWHERE = Path("/nonexistent")
CLIPS = {"librivox": ["s-1", "s-2"], "cards": ["001"]}


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, 4000)


def wave(seed: int, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(seed), rate, format="WAV")
    return file.getvalue()


@pytest.fixture
def files() -> dict[str, bytes]:
    """Return files laid out as pocketsphinx lays out its test data."""
    return {
        "librivox/transcription": b"<s> he was not an ill disposed young man </s> (s-1)\n<s> he might </s> (s-2)\n",
        "cards/cards.transcription": b"<s> ten of clubs  </s> (001)\n",
        **{f"{part}/{name}.wav": wave(len(name)) for part, names in CLIPS.items() for name in names},
        **{name: (noise(1) * 32767).astype("<i2").tobytes() for name in COMMANDS},
    }


def installed(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def archived(folder: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the archive, and make it the pinned one."""
    with tarfile.open(folder / real.ARCHIVE, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{real.ARCHIVE_FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"{real.ARCHIVE_FOLDER}/cards/link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    digest = hashlib.sha256((folder / real.ARCHIVE).read_bytes()).hexdigest()
    monkeypatch.setattr(real, "ARCHIVE_SHA256", digest)
    return folder


def test_without_recordings_there_is_no_manifest(tmp_path: Path):
    assert real_speech(tmp_path, debian_folder=NOWHERE) is None
    assert not list(tmp_path.iterdir())


def test_debian_and_the_archive_give_the_same_utterances(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a").mkdir()
    one = real_speech(archived(tmp_path / "a", files, monkeypatch), debian_folder=NOWHERE)
    two = real_speech(tmp_path / "b", debian_folder=installed(tmp_path / "debian", files))
    assert one is not None
    assert two is not None
    assert one.read_text() == two.read_text()
    utterances = read_manifest(one)
    assert {(item.text, item.speaker) for item in utterances} == {
        ("he was not an ill disposed young man", "librivox"),
        ("he might", "librivox"),
        ("ten of clubs", "cards"),
        *((text, "commands") for text in COMMANDS.values()),
    }
    assert len({item.id for item in utterances}) == len(utterances)


def test_the_manifest_is_written_once(files: dict[str, bytes], tmp_path: Path):
    debian = installed(tmp_path / "debian", files)
    manifest = real_speech(tmp_path, debian_folder=debian)
    shutil.rmtree(debian)
    assert real_speech(tmp_path, debian_folder=debian) == manifest


def test_another_archive_is_refused(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archived(tmp_path, files, monkeypatch)
    monkeypatch.setattr(real, "ARCHIVE_SHA256", "0" * 64)
    with pytest.raises(DataError, match="its sha256 differs"):
        real_speech(tmp_path, debian_folder=NOWHERE)


def test_a_package_of_another_kind_is_refused(files: dict[str, bytes], tmp_path: Path):
    files["cards/001.wav"] = wave(3, 8_000)
    with pytest.raises(DataError, match="8000 samples a second"):
        real_speech(tmp_path, debian_folder=installed(tmp_path / "debian", files))


def test_a_folder_that_cannot_be_written_is_a_store_error(files: dict[str, bytes], tmp_path: Path):
    (tmp_path / "real").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be made"):
        real_speech(tmp_path, debian_folder=installed(tmp_path / "debian", files))
