"""Reading a zip that a stranger may have made: nothing of it is believed before it is checked."""

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from core.bundles.manifest import MANIFEST, MOST_BYTES, MOST_FILES, MOST_JSON_BYTES, BundledFile, Manifest
from core.errors import BundleError, StoreError

CHUNK = 2**20
MOST_TIMES_SMALLER = 400
"""What is packed more tightly than this is made to fill a disk: text shrinks to a tenth, a table of zeros to a
thousandth."""

END = struct.Struct("<4s4H2LH")
"""The last 22 bytes of a zip without a comment: signature, disks, entries, size and place of the directory."""

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What Python's zipfile raises on damaged files; UnicodeDecodeError is a ValueError, NotImplementedError and
RecursionError are RuntimeErrors."""


def unpack(file: Path, staging: Path) -> Manifest:
    """Check a bundle's archive and write its files into an empty folder, each only as far as it was promised.

    Args:
        file: The bundle.
        staging: Nothing is written outside it.

    Returns:
        The manifest; all that it lists is there, with its size and hash, and nothing else.

    Raises:
        BundleError: If anything is wrong with the archive, the manifest or a file.
        StoreError: If the bundle cannot be read or the folder cannot be written.
    """
    with _explained(file):
        _require_plain_zip(file)
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, file.stat().st_size)
            if MANIFEST not in members:
                raise BundleError(f"{file.name} is no bundle: it has no {MANIFEST}.")
            manifest = _manifest(_read(archive, members[MANIFEST], MOST_JSON_BYTES), file.name)
            _require_the_same(manifest, members)
            _require_space(staging, sum(item.size for item in manifest.files))
            for item in manifest.files:
                _write(archive, members[item.path], item, staging / item.path)
            return manifest


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise BundleError(f"{file.name} is damaged or no bundle. Nothing was kept; get it again.") from error
    except OSError as error:
        raise StoreError(f"{file} cannot be taken in ({error.strerror or error}). Nothing was kept.") from error


def _require_plain_zip(file: Path) -> None:
    """Refuse what could make the reader itself take too much memory, before it reads."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise BundleError(f"{file} is no file.")
    size = file.stat().st_size
    with open(file, "rb") as opened:
        opened.seek(max(0, size - END.size - 20))
        tail = opened.read()
    if len(tail) < END.size or tail[-END.size :][:4] != b"PK\x05\x06":
        raise BundleError(f"{file.name} is no bundle, or its end is missing. Get it again.")
    _, disk, first_disk, on_disk, entries, directory, place, comment = END.unpack(tail[-END.size :])
    larger_kind = tail[: -END.size].startswith(b"PK\x06\x07")
    elsewhere = place + directory + END.size != size  # something stands before its beginning
    if disk or first_disk or comment or on_disk != entries or larger_kind or elsewhere:
        raise BundleError(f"{file.name} is a zip of another kind than a bundle. Make it again.")
    if entries > MOST_FILES + 1 or directory > 512 * (MOST_FILES + 1) or size > MOST_BYTES:
        raise BundleError(f"{file.name} holds more than a bundle may.")


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's entries by name; refuse all but plain files that can be what they say."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name, mode = info.filename, info.external_attr >> 16
        if info.filename != info.orig_filename or name in members:
            raise BundleError(f"The entry {name[:80]!r} is there twice, or has two names.")
        if info.flag_bits & ~0x0806 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"The entry {name[:80]!r} is encrypted, or packed in a way that a bundle never is.")
        if name.endswith("/") or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
            raise BundleError(f"The entry {name[:80]!r} is no plain file.")
        if info.file_size > CHUNK and info.file_size > MOST_TIMES_SMALLER * max(1, info.compress_size):
            raise BundleError(f"The entry {name[:80]!r} is packed more tightly than a file of a run can be.")
        members[name] = info
    if sum(info.compress_size for info in members.values()) > size:
        raise BundleError("Entries of the bundle lie over one another.")
    return members


def _manifest(content: bytes, name: str) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        if where in ("version", "format"):
            raise BundleError(f"{name} is of another version. Install the version that made it.") from None
        what = f"its manifest is wrong at '{where[:80]}'" if where else f"its {MANIFEST} cannot be read"
        raise BundleError(f"{name} is no bundle of this program: {what}. Nothing was kept; get it again.") from None
    wrong = manifest.mistakes()
    if wrong:
        raise BundleError(f"The manifest of {name} is wrong: {'; '.join(wrong[:3])}.")
    return manifest


def _require_the_same(manifest: Manifest, members: dict[str, zipfile.ZipInfo]) -> None:
    listed = {item.path: item.size for item in manifest.files}
    inside = {name: info.file_size for name, info in members.items() if name != MANIFEST}
    for name in sorted(listed.keys() | inside.keys()):
        if name not in inside:
            raise BundleError(f"The bundle lacks {name!r}, which its manifest lists.")
        if name not in listed:
            raise BundleError(f"The bundle holds {name[:80]!r}, which its manifest does not list.")
        if listed[name] != inside[name]:
            raise BundleError(f"{name!r} has another size than the manifest says.")


def _require_space(folder: Path, needed: int) -> None:
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    if needed > free:
        raise StoreError(f"The bundle needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free. Make room.")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.file_size > most:
        raise BundleError(f"{info.filename} is larger than it can be.")
    parts: list[bytes] = []
    _pump(archive, info, most, parts.append)
    return b"".join(parts)


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, promised: BundledFile, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            file.write(chunk)

        _pump(archive, info, promised.size, take)
    if digest.hexdigest() != promised.sha256:
        raise BundleError(f"{promised.path!r} is not the file that was packed: its hash differs. Get the bundle again.")


def _pump(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int, take: Callable[[bytes], object]) -> None:
    """Hand an entry on in pieces; stop as soon as it is longer than it said."""
    read = 0
    with archive.open(info) as source:
        while chunk := source.read(CHUNK):
            read += len(chunk)
            if read > size:
                raise BundleError(f"{info.filename!r} is longer than it says.")
            take(chunk)
    if read < min(size, info.file_size):
        raise BundleError(f"{info.filename!r} is shorter than it says.")
