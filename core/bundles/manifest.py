"""What a bundle says of itself, and what may be in one.

    manifest.json                    job and runs, versions, and the SHA-256 and size of every other file
    rows/<table>.jsonl               rows of the database, one a line
    files/jobs/<job>/...             what lies in the job's folder, and the clips of its evaluations
    files/<run>/...                  what lies in a run's folder

Nothing else. ``files`` mirrors the folder of runs, so that what it holds can be moved there as it is.
"""

import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from core.config.base import Settings

MANIFEST = "manifest.json"
ROWS = "rows"
FILES = "files"
FORMAT = "manifold-bundle"
VERSION = 1

MOST_FILES = 20_000
MOST_BYTES = 3 * 2**30
"""Of all files together. Larger jobs travel without their states."""

MOST_ROW_BYTES = 256 * 2**20
"""Of a table's rows."""

MOST_JSON_BYTES = 8 * 2**20
"""Of the manifest, and of any other JSON that is read at once."""

SUFFIXES = (".safetensors", ".json", ".jsonl", ".txt", ".md", ".flac", ".wav", ".ogg", ".mp3")
"""What a file may be called: nothing that runs, and nothing that is unpickled."""

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")

_ID = r"[jr][a-z2-7]{7}"
_PART = r"(?!\.)[A-Za-z0-9._-]{1,120}"
_ROWS = re.compile(rf"{ROWS}/[a-z_]{{1,40}}\.jsonl")
_FILE = re.compile(rf"{FILES}/(?:jobs/(?P<job>{_ID})|(?P<run>{_ID}))(?:/{_PART}){{1,5}}")


class BundledFile(Settings):
    """One file of a bundle.

    Attributes:
        path: In the bundle, parts joined by slashes.
        size: In bytes.
        sha256: Of its content, in hexadecimal digits.
    """

    path: str = Field(max_length=400, description="In the bundle.")
    size: int = Field(ge=0, le=MOST_BYTES, description="In bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of its content.")


class Manifest(Settings):
    """What a bundle says of itself.

    Attributes:
        schema_revision: Of the database whose rows it has.
        program: Version of the program that made it.
        links: Names within a run's folder that point to a folder beside them, such as its best adapters.
        left_out: What the job had that did not come along, in words.
    """

    format: Literal["manifold-bundle"] = Field(description="Tells a bundle from another zip.")
    version: Literal[1] = Field(description="Of the format.")
    schema_revision: str = Field(max_length=40, description="Of the database whose rows it has.")
    program: str = Field(max_length=40, description="Version of the program that made it.")
    created_at: datetime = Field(description="When it was made.")
    job: str = Field(pattern=r"^j[a-z2-7]{7}$", description="Id of the job.")
    name: str = Field(description="Name of the job.")
    runs: tuple[str, ...] = Field(max_length=1000, description="Ids of its runs, in their order.")
    left_out: tuple[str, ...] = Field(default=(), description="What the job had that did not come along.")
    links: dict[str, str] = Field(default={}, description="Names that point to a folder beside them.")
    files: tuple[BundledFile, ...] = Field(max_length=MOST_FILES, description="Every file but the manifest.")

    def mistakes(self) -> list[str]:
        """Return what cannot be in a bundle of this job: wrong paths, ids, sizes."""
        paths = [file.path for file in self.files]
        wrong = [f"the run {_shown(run)} is no id" for run in self.runs if not re.fullmatch(r"r[a-z2-7]{7}", run)]
        if len(set(self.runs)) != len(self.runs) or not self.runs:
            wrong.append("its runs are not told apart")
        wrong += [f"{_shown(path)} is no place in a bundle" for path in paths if not self._has_place(path)]
        if len({path.casefold() for path in paths}) != len(paths):
            wrong.append("a file is named twice")
        parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        wrong += [f"{_shown(path)} is a file and a folder" for path in paths if path in parents]
        if sum(file.size for file in self.files) > MOST_BYTES:
            wrong.append(f"its files are larger than {MOST_BYTES // 2**30} GiB")
        for link, target in self.links.items():
            beside = str(PurePosixPath(link).parent / target)
            if not self._has_place(f"{link}.txt") or not re.fullmatch(_PART, target) or beside not in parents:
                wrong.append(f"the link {_shown(link)} points to nothing in the bundle")
            if link in parents or link in paths:
                wrong.append(f"the link {_shown(link)} is something else, too")
        return wrong

    def _has_place(self, path: str) -> bool:
        if _ROWS.fullmatch(path):
            return True
        found = _FILE.fullmatch(path)
        if found is None or PurePosixPath(path).suffix not in SUFFIXES:
            return False
        return found["job"] == self.job or found["run"] in self.runs


def _shown(text: str) -> str:
    return repr(text[:80])
