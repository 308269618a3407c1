"""A job goes into a bundle: its rows, its files, and the clips of its evaluations."""

import hashlib
import json
import os
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.audio import as_mp3
from core.bundles.archive import CHUNK
from core.bundles.manifest import (
    AUDIO_SUFFIXES,
    FILES,
    FORMAT,
    MANIFEST,
    MOST_BYTES,
    MOST_FILES,
    ROWS,
    SUFFIXES,
    VERSION,
    BundledFile,
    Manifest,
)
from core.errors import JobError, StoreError
from core.paths import exists, expanded, no_file
from core.runs import JobRecord, Studio
from core.store.migrations import HEAD
from core.store.places import portable
from core.store.records import config_hash
from core.store.tables import evaluations, jobs, layer_scans, maps, runs
from core.store.transfer import Row, as_json

STAYS = ("pid", "boot_id", "process_started", "heartbeat_at", "queued_at", "advanced_at", "stop_by")
"""What a job's row says of a process of this machine."""

PROBE = "probe.json"


@dataclass(frozen=True)
class Packed:
    """A bundle that was written.

    Attributes:
        size: In bytes.
        files: Number of files in it.
        left_out: What the job had that did not come along, in words.
    """

    path: Path
    size: int
    files: int
    left_out: tuple[str, ...]


def export_bundle(studio: Studio, job_id: str, to: Path, *, small: bool = False, mp3: bool = False) -> Packed:
    """Write a job that has ended into one file, which appears whole or not at all.

    Args:
        studio: Where the job is.
        job_id: The job.
        to: The file to write; it must not exist.
        small: Leave out adapters and states. Numbers, texts, curves, clips and the maps that were drawn stay.
        mp3: Write the clips as MP3, a fifth of their size.

    Raises:
        NotFoundError: If there is no such job.
        JobError: If it is still at work.
        StoreError: If the file exists or cannot be written, or the job is too large.
    """
    studio.access.require("share")
    job = studio.store.job(job_id)
    if job.active:
        raise JobError(f"The job {job.id} is {job.state}. Export it when it has ended, or stop it first.")
    to = expanded(to).absolute()
    if exists(to):
        raise StoreError(f"{to} is there already. Name another file, so that nothing is overwritten.")
    try:
        contents = _Contents(studio.runs_folder, job, mp3=mp3)
        contents.take_rows(studio.store.rows_of_job(job_id))
        runs = [run.id for run in studio.store.runs(limit=1000, job_id=job_id)]
        contents.take_folder(Path("jobs") / job.id, small=small)
        for run in runs:
            contents.take_folder(Path(run), small=small)
        contents.require_small_enough()
        return _write(contents, runs, to)
    except OSError as error:
        raise StoreError(f"{error.filename or to} cannot be read or written: {error.strerror}.") from error


class _Contents:
    """What goes in, by its path in the bundle.

    Attributes:
        texts: Content that is made here.
        files: Files that are taken as they are.
        links: See Manifest.
        left_out: What stays here, in words, and how often.
    """

    def __init__(self, runs_folder: Path, job: JobRecord, *, mp3: bool) -> None:
        self.job = job
        self.texts: dict[str, bytes] = {}
        self.files: dict[str, Path] = {}
        self.links: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        self._runs_folder = runs_folder
        self._mp3 = mp3
        self._clips: dict[str, str] = {}

    def take_rows(self, rows: list[Row]) -> None:
        """Take the rows of the database, with the clips and maps that they name."""
        lines: dict[str, list[str]] = {}
        for table, row in rows:
            row = dict(row)
            if table is jobs:
                row |= {**dict.fromkeys(STAYS), "log_path": ""}
            if table is runs:
                config = portable(row["config"], self._runs_folder)
                row |= {"config": config, "config_hash": config_hash(config), "advanced_at": None}
            elif table is layer_scans:
                row["model"] = portable(row["model"], self._runs_folder)
            elif table is evaluations:
                row["label"] = portable(row["label"], self._runs_folder)
            if "audio_path" in row:
                row["audio_path"] = self._clip(row["audio_path"])
            if table is maps:
                row["path"] = self._map(row["run_id"], row["path"])
                if not row["path"]:
                    continue
            line = json.dumps(as_json(table, row), ensure_ascii=False, allow_nan=False)
            lines.setdefault(f"{ROWS}/{table.name}.jsonl", []).append(line + "\n")
        self.texts |= {path: "".join(each).encode("utf-8") for path, each in lines.items()}

    def take_folder(self, folder: Path, *, small: bool) -> None:
        """Take the files of a job's or a run's folder, and what its links point to; maps came with their rows."""
        root = self._runs_folder / folder
        for file in sorted(root.rglob("*")):
            parts = file.relative_to(root).parts
            if any(part.startswith(".") for part in parts) or parts[0] in ("maps", "audio"):
                continue
            place = f"{FILES}/{(folder / Path(*parts)).as_posix()}"
            kept = not small or (file.suffix != ".safetensors" and parts[0] != "adapters")
            if file.is_symlink():
                target = os.readlink(file)
                if kept and "/" not in target and (file.parent / target).is_dir():
                    self.links[place] = target
            # A log in which nothing was written has nothing to say elsewhere.
            elif file.is_file() and file.suffix in SUFFIXES and file.stat().st_size:
                if not kept:
                    self.left_out["adapters" if parts[0] == "adapters" else "states"] += 1
                elif file.name == PROBE:
                    self.texts[place] = self._probe(file)
                else:
                    self.files[place] = file

    def require_small_enough(self) -> None:
        """Refuse to make what no one would take in."""
        size = sum(map(len, self.texts.values())) + sum(file.stat().st_size for file in self.files.values())
        if size > MOST_BYTES or len(self.texts) + len(self.files) > MOST_FILES:
            raise StoreError(
                f"The job {self.job.id} has {size / 1e9:.1f} GB in {len(self.files)} files; a bundle holds at most "
                f"{MOST_BYTES / 1e9:.1f} GB. Leave out its adapters and states with --small."
            )

    def _clip(self, stored: str) -> str:
        """Take a clip, and return where it will be in any folder of runs; empty where it is gone."""
        if stored not in self._clips:
            file = self._runs_folder / stored
            suffix, self._clips[stored] = file.suffix.lower(), ""
            if no_file(file, "clip") or suffix not in AUDIO_SUFFIXES:
                self.left_out["clips that are gone"] += 1
            elif self._mp3 and suffix != ".mp3":
                content = as_mp3(file)
                self._clips[stored] = f"jobs/{self.job.id}/audio/{hashlib.sha256(content).hexdigest()}.mp3"
                self.texts[f"{FILES}/{self._clips[stored]}"] = content
            else:
                self._clips[stored] = f"jobs/{self.job.id}/audio/{_sha256(file)}{suffix}"
                self.files[f"{FILES}/{self._clips[stored]}"] = file
        return self._clips[stored]

    def _map(self, run_id: str, stored: str) -> str:
        """Take a map; it is named by its content, for maps that are drawn elsewhere are named by numbers."""
        file = self._runs_folder / stored
        if no_file(file, "map"):
            self.left_out["maps that are gone"] += 1
            return ""
        path = f"{run_id}/maps/{_sha256(file)}.safetensors"
        self.files[f"{FILES}/{path}"] = file
        return path

    def _probe(self, file: Path) -> bytes:
        described: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        moved = [{**item, "audio_path": self._clip(item["audio_path"])} for item in described]
        return json.dumps(moved, indent=1, ensure_ascii=False).encode("utf-8")


def _write(contents: _Contents, runs: list[str], to: Path) -> Packed:
    to.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
                listed = [_add_text(archive, path, text) for path, text in sorted(contents.texts.items())]
                listed += [_add_file(archive, path, source) for path, source in sorted(contents.files.items())]
                manifest = Manifest(
                    format=FORMAT,
                    version=VERSION,
                    schema_revision=HEAD,
                    program=version("manifold-studio"),
                    created_at=datetime.now(UTC),
                    job=contents.job.id,
                    name=contents.job.name,
                    runs=tuple(runs),
                    left_out=tuple(f"{count} {what}" for what, count in sorted(contents.left_out.items())),
                    links=contents.links,
                    files=tuple(listed),
                )
                archive.writestr(MANIFEST, manifest.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, to)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return Packed(to, to.stat().st_size, len(listed), manifest.left_out)


def _add_text(archive: zipfile.ZipFile, path: str, content: bytes) -> BundledFile:
    archive.writestr(path, content)
    return BundledFile(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _add_file(archive: zipfile.ZipFile, path: str, source: Path) -> BundledFile:
    """Pack a file as it is at this moment: its hash is of what was packed."""
    digest, size = hashlib.sha256(), 0
    info = zipfile.ZipInfo(path)
    # Audio and numbers hardly shrink.
    info.compress_type = zipfile.ZIP_DEFLATED if source.suffix in (".json", ".jsonl", ".txt") else zipfile.ZIP_STORED
    with open(source, "rb") as file, archive.open(info, "w") as packed:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            packed.write(chunk)
    return BundledFile(path=path, size=size, sha256=digest.hexdigest())


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
