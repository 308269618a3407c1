import os
import stat
from pathlib import Path

import pytest

from core.errors import DataError, StoreError
from core.sources.debian import download_packages, package_file, read_package
from tests.sources.packages import write_package

FILES = {"/usr/share/a.txt": b"one", "/usr/share/doc/b": b"2" * 1001, "/usr/share/large": b"3" * 5000}

APT = """#!/bin/sh
# Knows packages where it is told of a folder of lists, and has no network where OFFLINE is there.
case "$*" in *Dir::State::Lists*) own=yes ;; esac
if [ -e "$HERE/OFFLINE" ]; then echo "E: Temporary failure resolving 'server'" >&2; exit 100; fi
case "$*" in *update*) exit 0 ;; esac
if [ ! -e "$HERE/LISTS" ] && [ -z "$own" ]; then echo "E: Unable to locate package a" >&2; exit 100; fi
if [ -e "$HERE/UNKNOWN" ]; then echo "E: Unable to locate package b" >&2; exit 100; fi
cp "$HERE"/servers/*.deb .
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an apt-get first on the path whose server is a folder; return where its files are."""
    place = tmp_path / "apt"
    (place / "servers").mkdir(parents=True)
    write_package(place / "servers" / "a_1.0_all.deb", FILES)
    (place / "apt-get").write_text(APT)
    (place / "apt-get").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(place))
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_package_is_fetched_with_the_lists_of_the_system(apt: Path, folder: Path) -> None:
    (apt / "LISTS").touch()
    download_packages(["a"], folder)
    assert names(folder) == ["a_1.0_all.deb"]


@pytest.mark.usefixtures("apt")
def test_a_system_without_lists_of_packages_gets_some_for_this_once(folder: Path) -> None:
    download_packages(["a"], folder)
    assert names(folder) == ["a_1.0_all.deb"]


@pytest.mark.parametrize(
    ("state", "said"), [("OFFLINE", "Temporary failure resolving"), ("UNKNOWN", "locate package b")]
)
def test_what_apt_says_is_told_where_nothing_can_be_fetched(apt: Path, folder: Path, state: str, said: str) -> None:
    (apt / state).touch()
    with pytest.raises(DataError, match=rf"could not fetch a and b \(.*{said}"):
        download_packages(["a", "b"], folder)
    assert names(folder) == []


def test_a_system_without_apt_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="has no apt-get"):
        download_packages(["a"], folder)


@pytest.mark.usefixtures("apt")
def test_a_folder_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        download_packages(["a"], tmp_path / "nowhere")


@pytest.mark.parametrize("tool", ["dpkg-deb", "none"])
@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_wanted_regular_files_that_are_small_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tool: str, compression: str
) -> None:
    if tool == "none":
        monkeypatch.setenv("PATH", "")
    write_package(folder / "a_1.deb", FILES, compression=compression)
    read = read_package(folder / "a_1.deb", lambda path: path.startswith("/usr"), largest_bytes=1001)
    assert read == {name: FILES[name] for name in ("/usr/share/a.txt", "/usr/share/doc/b")}
    only = read_package(folder / "a_1.deb", lambda path: path.endswith("txt"), largest_bytes=1001)
    assert only == {"/usr/share/a.txt": b"one"}


@pytest.mark.parametrize("tool", ["dpkg-deb", "none"])
@pytest.mark.parametrize("damage", ["empty", "half", "another kind", "a header alone", "a size that is none"])
def test_a_damaged_package_is_told_with_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tool: str, damage: str
) -> None:
    if tool == "none":
        monkeypatch.setenv("PATH", "")
    path = folder / "a_1.deb"
    write_package(path, FILES)
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": content[: len(content) // 2],
            "another kind": b"PK\3\4" + content,
            "a header alone": content[:8],
            "a size that is none": content[:56] + b"x" * 10 + content[66:],
        }[damage]
    )
    with pytest.raises(DataError, match=r"a_1\.deb cannot be read"):
        read_package(path, lambda path: True, largest_bytes=10_000)


def test_the_file_of_a_package_is_found_by_its_whole_name(folder: Path) -> None:
    for name in ("a-long_2_all.deb", "a_1_all.deb", "a_1.1_all.deb", "a.deb"):
        (folder / name).touch()
    assert package_file("a", folder) == folder / "a_1_all.deb"
    assert package_file("a-long", folder) == folder / "a-long_2_all.deb"
    assert package_file("b", folder) is None
