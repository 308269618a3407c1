"""Recorded speech that can be had without a data hub: test clips of pocketsphinx, as an extra test set.

Twelve utterances, 40 s: five from a LibriVox reading of Jane Austen, five of playing cards, two commands. They come
with Debian's pocketsphinx-testdata, or with pocketsphinx's source archive on PyPI (BSD; the reading is in the public
domain). Too few for a claim about error rates: they are reported on their own, as a look outside generated speech.
"""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile

from core.audio import SAMPLE_RATE, write_flac
from core.errors import DataError
from core.paths import is_file
from core.sources.manifest import make_audio_folder, write_manifest
from core.sources.utterance import Utterance

DEBIAN_FOLDER = Path("/usr/share/pocketsphinx/test/data")
ARCHIVE = "pocketsphinx-5.1.1.tar.gz"
ARCHIVE_SHA256 = "675778b309a22dfc9b7d37f7621976bba491d2a5f8c59696bd77fd6d07271355"
ARCHIVE_FOLDER = "pocketsphinx-5.1.1/test/data"
RELEASE = "pocketsphinx==5.1.1"
DOWNLOAD_SECONDS = 300.0
LARGEST_BYTES = 1_000_000

TRANSCRIPTIONS = ("librivox/transcription", "cards/cards.transcription")
COMMANDS = {"goforward.raw": "go forward ten meters", "something.raw": "go somewhere and do something"}
"""Clips whose words stand in pocketsphinx's own tests, not in a file beside them."""


def real_speech(folder: Path, *, debian_folder: Path = DEBIAN_FOLDER) -> Path | None:
    """Return a manifest of recorded speech, written below `folder` on the first call, or None when there is none.

    Args:
        folder: Where the source archive was downloaded, if it was, and where the clips are written.
        debian_folder: Where the package pocketsphinx-testdata puts its files.

    Raises:
        DataError: If the archive is not the pinned one.
        StoreError: If the disk refuses.
    """
    manifest = folder / "real" / "real.jsonl"
    if is_file(manifest):
        return manifest
    files = _installed(debian_folder) or _archived(folder / ARCHIVE)
    if files is None:
        return None
    make_audio_folder(manifest)
    write_manifest(manifest, [_utterance(name, text, files[name], manifest.parent) for name, text in _texts(files)])
    return manifest


def download_clips(folder: Path) -> None:
    """Fetch the source archive into a folder with pip, for `real_speech`.

    Raises:
        DataError: If it cannot be had, with what can be done.
    """
    options = ["--disable-pip-version-check", "--retries", "1", "--no-deps", "--no-binary", "pocketsphinx"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "-qq", *options, "-d", str(folder), RELEASE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_SECONDS,
        )
        said = None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    except subprocess.TimeoutExpired:
        said = f"no answer within {DOWNLOAD_SECONDS:.0f} s"
    if said is not None:
        raise DataError(
            f"pip could not fetch {RELEASE} ({said.removeprefix('ERROR: ').rstrip('.')}). Ask again where a package "
            f"index can be reached, put {ARCHIVE} into {folder}, or install pocketsphinx-testdata (apt-get)."
        )


def _installed(folder: Path) -> dict[str, bytes] | None:
    try:
        names = [*TRANSCRIPTIONS, *COMMANDS]
        names += [
            path.relative_to(folder).as_posix()
            for part in ("librivox", "cards")
            for path in (folder / part).glob("*.wav")
        ]
        return {name: (folder / name).read_bytes() for name in names}
    except OSError:
        return None  # not installed, or not all of it


def _archived(archive: Path) -> dict[str, bytes] | None:
    """Read the clips out of the source archive, member by member; nothing is extracted."""
    if not is_file(archive):
        return None
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != ARCHIVE_SHA256:
            raise DataError(
                f"{archive} is not the archive that is expected (its sha256 differs). Delete it and download it again."
            )
    files: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            name = member.name.removeprefix(f"{ARCHIVE_FOLDER}/")
            if name in (*TRANSCRIPTIONS, *COMMANDS) or re.fullmatch(r"(librivox|cards)/[\w-]+\.wav", name):
                content = members.extractfile(member) if member.isfile() and member.size <= LARGEST_BYTES else None
                if content is not None:
                    files[name] = content.read()
    return files


def _texts(files: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return the names of the clips and what is said in them."""
    texts = []
    for name in TRANSCRIPTIONS:
        for line in files[name].decode().splitlines():
            match = re.fullmatch(r"<s> (.+?) *</s> \(([\w-]+)\)", line.strip())
            if match:
                texts.append((str(PurePosixPath(name).with_name(f"{match[2]}.wav")), match[1]))
    return [*texts, *COMMANDS.items()]


def _utterance(name: str, text: str, content: bytes, folder: Path) -> Utterance:
    if name.endswith(".raw"):
        samples = np.frombuffer(content, "<i2").astype(np.float32) / 32768
    else:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        if rate != SAMPLE_RATE:
            raise DataError(
                f"{name} of pocketsphinx has {rate} samples a second, not {SAMPLE_RATE}. Install the usual package."
            )
    stem = PurePosixPath(name).with_suffix("")
    path = folder / "audio" / f"{'-'.join(stem.parts)}.flac"
    write_flac(path, samples)
    speaker = "librivox" if "librivox" in stem.parts else "cards" if "cards" in stem.parts else "commands"
    return Utterance(path.stem, path, text, speaker, len(samples) / SAMPLE_RATE)
