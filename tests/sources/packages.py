"""Small packages as Debian builds them, and speech in G.722 as Asterisk has it."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np

TEXTS = """; Core Asterisk Sounds in English

vm-goodbye: Goodbye
vm-toolong: This one is far too long for a test
dictate/full: The disk of dictations is full
conf-full: That conference is full.
conf-full-again: That conference is full
beep: [this is a simple beep tone]
keys: Please press * and then press #
intro: Please speak after this (simple tone sound plays)
queue-busy: All of our represenatives are busy
vm-short: It is too short
vm-gone: This clip is not there
"""
SECONDS = {"vm-goodbye": 1.0, "vm-toolong": 15.5, "vm-short": 0.25}


def sound(seed: int, seconds: float) -> np.ndarray:
    """Return smooth noise, which G.722 keeps nearly as it is."""
    noise = np.random.default_rng(seed).normal(size=round(seconds * 16_000) // 2 * 2)
    return np.convolve(noise, np.hanning(24) / 12, mode="same") * 0.2


def g722(samples: np.ndarray) -> bytes:
    codec = av.CodecContext.create("g722", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = 16_000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray((samples * 32767).astype("<i2")[None], format="s16", layout="mono")
    frame.sample_rate = 16_000
    return b"".join(bytes(packet) for frames in (frame, None) for packet in codec.encode(frames))


def asterisk_files() -> dict[str, bytes]:
    """Return the files of both packages by their paths, a few clips of each kind."""
    keys = [line.split(":")[0] for line in TEXTS.splitlines()[2:]]
    clips = {
        f"/usr/share/asterisk/sounds/en_US_f_Allison/{key}.g722": g722(sound(place, SECONDS.get(key, 0.5)))
        for place, key in enumerate(keys)
        if key != "vm-gone"
    }
    return {"/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz": gzip.compress(TEXTS.encode()), **clips}


def content_of(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 by which the content is pinned: of a line for each text with its path and its sound's."""
    lines = []
    for line in TEXTS.splitlines()[2:]:
        key, text = line.split(": ", 1)
        path = f"/usr/share/asterisk/sounds/en_US_f_Allison/{key}.g722"
        lines.append(f"{path}\t{text}\t{hashlib.sha256(files.get(path, b'')).hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def write_package(path: Path, files: Mapping[str, bytes], *, compression: str = "xz") -> None:
    """Write an ar archive with the three members that a package has."""

    def tar(content: Mapping[str, bytes]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=f"w:{compression}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
            for name, each in content.items():
                member = tarfile.TarInfo(f".{name}")
                member.size = len(each)
                archive.addfile(member, io.BytesIO(each))
            link = tarfile.TarInfo("./usr/share/asterisk/sounds/en_US_f_Allison/link.g722")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return file.getvalue()

    control = b"Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n"
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar.{compression}": tar({"/control": control}),
        f"data.tar.{compression}": tar(files),
    }
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content)
            file.write(b"\n" * (len(content) % 2))


def write_packages(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write texts and audio as the two packages that Asterisk's prompts are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, end in (("asterisk-core-sounds-en", ".gz"), ("asterisk-core-sounds-en-g722", ".g722")):
        chosen = {path: content for path, content in files.items() if path.endswith(end)}
        write_package(folder / f"{name}_1.6.1-1_all.deb", chosen)


def install(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return root
