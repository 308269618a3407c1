"""Whether an audio file holds as much as its header says, for files whose libraries read what is there without a word.

Formats: RIFF and RF64 (Microsoft 1991, EBU Tech 3306), AIFF and CAF (Apple 1989, 2005), AU, NIST SPHERE, Wave64, Ogg
(RFC 3533), and MPEG audio frames (ISO 11172-3, 13818-3) with the Xing, Info or VBRI header of the encoder. FLAC needs
no look: its decoder fails where frames are missing.
"""

import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

UNKNOWN_FROM = 0x7FFF_0000
"""Sizes of 32 bits from here on stand for a length that the writer could not know, as one that wrote to a pipe."""

TOLERANCE_BYTES = 64
"""So much less is a writer that counted its header, and not heard."""

BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Thousand bits a second by (1 for MPEG 1 or 2 for 2 and 2.5, layer), for indices 1 to 14."""

SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Samples a second by the version bits of an MPEG frame."""


def not_as_said(path: Path) -> str | None:
    """Return what a file holds less or more than its header says, as half a sentence; None where it holds that.

    Raises:
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
        if start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE":
            return _of_wave(file, size)
        if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
            return _of_sizes(_chunks(file, size, ">"), b"SSND", size)
        if start[:4] == b".snd":
            begin, length = struct.unpack(">II", start[4:12].ljust(8, b"\0"))
            return None if length >= UNKNOWN_FROM else _bytes(length, size - begin)
        if start[:4] == b"caff":
            return _of_core_audio(file, size)
        if start[:4] == b"riff":
            file.seek(16)
            length = int.from_bytes(file.read(8), "little", signed=True)
            return _bytes(length, size)
        if start[:7] == b"NIST_1A":
            return _of_sphere(file, size)
        if start[:4] == b"OggS":
            return _of_ogg(file, size)
        if start[:3] == b"ID3" or _frame(start[:4]) is not None:
            return _of_mpeg(file, size)
    return None


def mpeg_says_its_length(path: Path) -> bool:
    """Return whether an MPEG file's encoder wrote how long it is; where it did not, libraries guess it."""
    with path.open("rb") as file:
        first = next(_frames(file, path.stat().st_size), None)
        return first is not None and _frames_said(file, first[0]) is not None


def with_its_length(path: Path) -> BinaryIO | None:
    """Return a WAV whose header gives its audio a size of 0, as writers to a pipe do, with its size in place.

    None for every other file, also for a WAV that is really empty.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] not in (b"RIFF", b"RIFX") or start[8:] != b"WAVE":
            return None
        order = "<" if start[:4] == b"RIFF" else ">"
        said = struct.unpack(f"{order}I", start[4:8])[0] + 8
        begin = next((begin for name, length, begin in _chunks(file, size, order) if (name, length) == (b"data", 0)), 0)
        if not begin or begin == size or said in (size, size + 1):
            return None
        file.seek(0)
        content = bytearray(file.read())
    content[4:8] = struct.pack(f"{order}I", size - 8)
    content[begin - 4 : begin] = struct.pack(f"{order}I", size - begin)
    return io.BytesIO(content)


def _bytes(said: int, there: int) -> str | None:
    if said <= there + TOLERANCE_BYTES:
        return None
    return f"is cut off: its header says {said:,} bytes of audio, and {max(0, there):,} are there"


def _chunks(file: BinaryIO, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, length and begin of the chunks of a RIFF or AIFF file; they are padded to even lengths."""
    place = 12
    while place + 8 <= size:
        file.seek(place)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        yield name, length, place + 8
        place += 8 + length + length % 2


def _of_sizes(chunks: Iterator[tuple[bytes, int, int]], wanted: bytes, size: int) -> str | None:
    for name, length, begin in chunks:
        if name == wanted:
            return None if length >= UNKNOWN_FROM else _bytes(length, size - begin)
    return "is cut off: no audio is there"


def _of_wave(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    kind = file.read(4)
    if kind != b"RF64":
        return _of_sizes(_chunks(file, size, ">" if kind == b"RIFX" else "<"), b"data", size)
    length = None
    for name, _, begin in _chunks(file, size, "<"):
        if name == b"ds64":
            file.seek(begin + 8)
            length = int.from_bytes(file.read(8), "little")
        if name == b"data":
            return None if length is None or length >= 2**62 else _bytes(length, size - begin)
    return "is cut off: no audio is there"


def _of_core_audio(file: BinaryIO, size: int) -> str | None:
    place = 8
    while place + 12 <= size:
        file.seek(place)
        name, length = struct.unpack(">4sq", file.read(12))
        if name == b"data" or length < 0:
            return _bytes(length, size - place - 12)
        place += 12 + length
    return "is cut off: no audio is there"


def _of_sphere(file: BinaryIO, size: int) -> str | None:
    """A text of fields stands before the samples; compressed ones have no size that could be told from it."""
    file.seek(0)
    text = file.read(16_384).split(b"end_head")[0].decode("latin-1")
    fields = dict(re.findall(r"^(\w+) -\w+ (\S+)", text, re.MULTILINE))
    header = re.match(r"NIST_1A\n\s*(\d+)", text)
    try:
        samples = [int(fields[name]) for name in ("sample_count", "channel_count", "sample_n_bytes")]
    except (KeyError, ValueError):
        return None
    if header is None or "," in fields.get("sample_coding", ""):
        return None
    return _bytes(samples[0] * samples[1] * samples[2], size - int(header[1]))


def _of_ogg(file: BinaryIO, size: int) -> str | None:
    """The last page must be whole, and say that it is the last."""
    place, flags = 0, 0
    while place < size:
        file.seek(place)
        head = file.read(27)
        if head[:4] != b"OggS":
            break  # something else stands behind the last page
        table = file.read(head[26]) if len(head) == 27 else b""
        place += 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or place > size:
            return "is cut off: its last page is not whole"
        flags = head[5]
    return None if flags & 4 else "is cut off: its last page does not say that it is the last"


def _of_mpeg(file: BinaryIO, size: int) -> str | None:
    count, said, first, seconds, end = 0, None, None, 0.0, 0
    for place, length, frame_seconds in _frames(file, size):
        if first is None:
            first, seconds = place, frame_seconds
            said = _frames_said(file, place)
        end = place + length
        count += end <= size
    if first is None:
        return None
    if said is not None:
        count -= 1  # the header is a frame of its own
        if count + 1 < said:
            return f"is cut off: its header says {said * seconds:.1f} s, and {count * seconds:.1f} s are there"
        if count > said + 1:
            return f"is several files in one: its header says {said * seconds:.1f} s of {count * seconds:.1f} s"
    return "is cut off: its last frame is not whole" if end > size else None


def _frames(file: BinaryIO, size: int) -> Iterator[tuple[int, int, float]]:
    """Yield place and length in bytes, and seconds, of each MPEG frame, until something else stands there."""
    file.seek(0)
    place, tag = 0, file.read(10)
    while tag[:3] == b"ID3" and len(tag) == 10:
        place += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        file.seek(place)
        tag = file.read(10)
    while place < size:
        file.seek(place)
        frame = _frame(file.read(4))
        if frame is None:
            return
        yield place, *frame
        place += frame[0]


def _frame(head: bytes) -> tuple[int, float] | None:
    """Return length in bytes, and seconds, of the MPEG frame that four bytes begin; None if they begin none."""
    bits = int.from_bytes(head, "big") if len(head) == 4 else 0
    version, layer = bits >> 19 & 3, 4 - (bits >> 17 & 3)
    bitrate, rate = bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    old = 1 if version == 3 else 2
    hertz, padding = SAMPLE_RATES[version][rate], bits >> 9 & 1
    samples = 384 if layer == 1 else 576 if (old, layer) == (2, 3) else 1152
    slot = 4 if layer == 1 else 1
    length = samples // 8 * 1000 * BITRATES[old, layer][bitrate - 1] // (hertz * slot) + padding
    return length * slot, samples / hertz


def _frames_said(file: BinaryIO, place: int) -> int | None:
    """Return how many frames the header of an encoder, in the first frame, says that follow; None without one."""
    file.seek(place)
    frame = file.read(200)
    for name in (b"Xing", b"Info"):
        at = frame.find(name)
        if at > 0 and len(frame) >= at + 12:
            flags, count = struct.unpack(">II", frame[at + 4 : at + 12])
            return count if flags & 1 else None
    at = frame.find(b"VBRI")
    return struct.unpack(">I", frame[at + 14 : at + 18])[0] if at > 0 and len(frame) >= at + 18 else None
