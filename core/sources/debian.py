"""Files of Debian packages that are not installed: fetched by apt-get as any user, and read without unpacking.

A package is an ar archive with a tar archive in it (man 5 deb).
"""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from core.errors import DataError, StoreError

AR = b"!<arch>\n"
MEMBER_HEADER = 60
"""Bytes before each member of an ar archive: its name in the first 16, its size in 10 from byte 48."""

DOWNLOAD_SECONDS = 180.0
APT_OPTIONS = ("-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Sandbox::User=root")


def download_packages(names: Sequence[str], folder: Path) -> None:
    """Fetch packages into a folder with apt-get, of the version that this system would install.

    Neither root nor an installation is needed. Where the system has no lists of packages, as in many containers, lists
    are fetched for this once and thrown away.

    Raises:
        DataError: If there is no apt-get, or it does not reach its servers or does not know the packages.
        StoreError: If the folder cannot be written.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        raise DataError("This system has no apt-get.")
    try:
        with TemporaryDirectory(prefix=".packages-", dir=folder) as temporary:
            place = Path(temporary)
            said = _run([apt, *APT_OPTIONS, "download", *names], place)
            if said is not None:
                (place / "lists" / "partial").mkdir(parents=True)
                own = ["-o", f"Dir::State::Lists={place}/lists", "-o", f"Dir::Cache={place}/cache"]
                said = _run([apt, *APT_OPTIONS, *own, "update"], place) or _run(
                    [apt, *APT_OPTIONS, *own, "download", *names], place
                )
            if said is not None:
                raise DataError(f"apt-get could not fetch {' and '.join(names)} ({said}).")
            for file in place.glob("*.deb"):
                os.replace(file, folder / file.name)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error}). Check the free space and the permissions.") from error


def _run(command: Sequence[str], folder: Path) -> str | None:
    """Run apt-get, and return the first error that it names, or None where all is well."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {DOWNLOAD_SECONDS:.0f} s"
    errors = [line[2:].strip() for line in done.stderr.splitlines() if line.startswith(("E:", "W: Failed"))]
    if done.returncode == 0 and not errors:
        return None
    return errors[0].rstrip(".") if errors else f"exit status {done.returncode}"


def package_file(name: str, folder: Path) -> Path | None:
    """Return the file of a package in a folder, the last by name where there are several, or None."""
    return max(folder.glob(f"{name}_*.deb"), default=None)


def read_package(path: Path, wanted: Callable[[str], bool], *, largest_bytes: int) -> dict[str, bytes]:
    """Return the content of regular files of a package by their absolute paths; nothing is written.

    Args:
        path: The package.
        wanted: Says of a path whether it is read.
        largest_bytes: Larger files are left out.

    Raises:
        DataError: If it is damaged, or compressed in a way that needs dpkg-deb, which is not there.
    """
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_archive(path)), mode="r:*") as members:
            for member in members:
                name = f"/{member.name.removeprefix('./')}"
                if member.isfile() and member.size <= largest_bytes and wanted(name):
                    content = members.extractfile(member)
                    files[name] = b"" if content is None else content.read()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Delete it and fetch it again.") from error
    return files


def _archive(path: Path) -> bytes:
    """Return the tar archive of a package, by dpkg-deb where it is there: Ubuntu's are compressed with zstd."""
    tool = shutil.which("dpkg-deb")
    if tool is not None:
        done = subprocess.run([tool, "--fsys-tarfile", str(path)], capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise ValueError(done.stderr.decode(errors="replace").strip() or f"dpkg-deb: {done.returncode}")
        return done.stdout
    content = path.read_bytes()
    if not content.startswith(AR):
        raise ValueError("it is no Debian package")
    place = len(AR)
    while place + MEMBER_HEADER <= len(content):
        name = content[place : place + 16].decode("latin-1").strip(" /")
        size = int(content[place + 48 : place + 58])
        begin = place + MEMBER_HEADER
        if name.startswith("data.tar"):
            return content[begin : begin + size]
        place = begin + size + size % 2
    raise ValueError("it holds no files")
