"""A bundle becomes a job of this installation: whole, after everything in it was checked, or not at all."""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError, safe_open

from core.alignment.results import is_comparison
from core.bundles.archive import unpack
from core.bundles.manifest import AUDIO_SUFFIXES, FILES, MOST_JSON_BYTES, MOST_ROW_BYTES, ROWS, Manifest
from core.config import parse_run
from core.errors import BundleError, ConfigError, ManifoldError, StoreError
from core.layer_cuts import choice_in_words
from core.names import cleaned, visible
from core.paths import expanded
from core.runs import ACTIVE, JobRecord, LayerScan, MapPoints, MapRecord, ProbeUtterance, Studio
from core.store.migrating import known_revisions
from core.store.places import each_text, placed
from core.store.records import Estimate, Level, Side, Stage, State, Subject, config_hash
from core.store.tables import evaluations, jobs, layer_scans, maps, runs
from core.store.transfer import Row, from_json, travelling

NAMES = ("name", "method", "speaker", "stage", "label", "launcher", "model")
TEXTS = ("message", "notes", "expectation")
"""Columns that people read and others wrote. What was spoken stays as it is: its joiners are spelling."""

STAGING = ".import-"
LEFT_SECONDS = 86_400.0
"""A staging folder as old as this belongs to an import that was killed."""

MOST_LINE = 2**20
"""Bytes of one row."""

ENDED = tuple(state for state in get_args(State) if state not in ACTIVE)
CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("jobs", "state"): ENDED,
    ("runs", "state"): ENDED,
    ("evaluations", "subject"): get_args(Subject),
    ("alignments", "side"): get_args(Side),
    ("alignments", "stage"): get_args(Stage),
    ("comparisons", "side"): get_args(Side),
    ("layer_distances", "side"): get_args(Side),
    ("comparisons", "state"): ("finished",),
    ("maps", "side"): get_args(Side),
    ("maps", "level"): get_args(Level),
    ("maps", "state"): ("finished",),
}
"""What stands in columns that hold one of a few words."""


def import_bundle(studio: Studio, file: Path) -> JobRecord:
    """Take in the job of a bundle.

    It is unpacked into a folder of its own, checked, and read once as the pages read it; only then its folders are
    moved and its rows stored, the rows last. The ids stay the same.

    Args:
        studio: Where it goes.
        file: The bundle.

    Returns:
        The job.

    Raises:
        BundleError: If anything is wrong with the bundle; nothing of it is kept.
        StoreError: If the job is here already, or it cannot be written; nothing of it is kept.
    """
    studio.access.require("import")
    _remove_left(studio.runs_folder)
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=studio.runs_folder))
    try:
        manifest = unpack(expanded(file).absolute(), staging)
        _require_known_schema(manifest)
        _make_links(manifest, staging / FILES)
        _check_files(manifest, staging)
        _rehearse(manifest, staging, studio.runs_folder)
        folders = [Path("jobs") / manifest.job, *(Path(run) for run in manifest.runs)]
        log = str(studio.log_path(manifest.job))
        _store(studio, _rows(manifest, staging, studio.runs_folder, log_path=log), folders, staging / FILES)
    except OSError as error:
        raise StoreError(f"The bundle cannot be taken in ({error.strerror}). Nothing of it was kept.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return studio.store.job(manifest.job)


def _store(studio: Studio, rows: Iterator[Row], folders: list[Path], source: Path) -> None:
    """Store the rows, and move the folders at the last moment at which nothing is visible yet."""
    moved: list[Path] = []

    def move() -> None:
        taken = [target for folder in folders if os.path.lexists(target := studio.runs_folder / folder)]
        if taken:
            raise StoreError(
                f"The folder {taken[0]} is in the way: it belongs to another database, or to an import that was cut "
                "off. Move it away and try again; nothing was changed."
            )
        for folder in folders:
            if (source / folder).is_dir():
                (studio.runs_folder / folder).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.rename(source / folder, studio.runs_folder / folder)
                moved.append(folder)

    try:
        studio.store.add_rows(rows, last=move)
    except BaseException:
        for folder in moved:
            os.rename(studio.runs_folder / folder, source / folder)
        raise


def _require_known_schema(manifest: Manifest) -> None:
    if manifest.schema_revision not in known_revisions():
        raise BundleError(
            f"The bundle was made by a newer version ({manifest.program}, schema {manifest.schema_revision}). "
            "Install that version."
        )


def _rows(manifest: Manifest, staging: Path, runs_folder: Path, *, log_path: str = "") -> Iterator[Row]:
    """Yield the bundle's rows, owners first, each checked by itself."""
    audio = {file.path.removeprefix(f"{FILES}/") for file in manifest.files if file.path.endswith(AUDIO_SUFFIXES)}
    known = {f"{ROWS}/{table.name}.jsonl": table for table in travelling()}
    unknown = [file.path for file in manifest.files if file.path.startswith(f"{ROWS}/") and file.path not in known]
    if unknown:
        raise BundleError(f"The bundle has {unknown[0]}, which this version does not know.")
    for path, table in known.items():
        for fields in _lines(staging / path):
            row = from_json(table, fields)
            row |= {column: cleaned(row[column]) for column in NAMES if isinstance(row.get(column), str)}
            row |= {column: visible(row[column]) for column in TEXTS if isinstance(row.get(column), str)}
            for column, value in row.items():
                allowed = CHOICES.get((table.name, column))
                if allowed and value not in allowed:
                    raise BundleError(f"A row of {table.name} has the {column} {value[:40]!r}, which cannot be.")
            if row.get("audio_path") and row["audio_path"] not in audio:
                raise BundleError(f"A row of {table.name} names audio that is not in the bundle.")
            if table is jobs:
                _require(row["id"] == manifest.job, "its job is not the one of its manifest")
                row |= {"log_path": log_path, "pid": None, "boot_id": None, "heartbeat_at": None}
            elif table is runs:
                _require(row["id"] in manifest.runs, "it has a run that its manifest does not name")
                _check_run(row)
                config = each_text(placed(row["config"], runs_folder), cleaned)
                # What came in is not in the bin here, wherever it was there.
                tags = [tag for tag in map(cleaned, row["tags"]) if tag]
                row |= {"config": config, "config_hash": config_hash(config), "deleted_at": None, "tags": tags}
            elif table is layer_scans:
                row |= {"model": placed(row["model"], runs_folder)}
            elif table is evaluations:
                row |= {"label": placed(row["label"], runs_folder)}
            elif table is maps:
                _require(
                    re.fullmatch(rf"{row['run_id']}/maps/[0-9a-f]{{64}}\.safetensors", row["path"]), "a map's path"
                )
            yield table, row


def _lines(path: Path) -> Iterator[Any]:
    if not path.exists():
        return
    if path.stat().st_size > MOST_ROW_BYTES:
        raise BundleError(f"{path.name} is larger than it can be.")
    with open(path, "rb") as file:
        while line := file.readline(MOST_LINE + 1):
            if len(line) > MOST_LINE:
                raise BundleError(f"{path.name} has a row that is longer than it can be.")
            yield _json(line, path.name)


def _check_run(row: dict[str, Any]) -> None:
    try:
        config = parse_run(row["config"], name=f"the run {row['id']}")
    except ConfigError as error:
        raise BundleError(f"The bundle has a run that this version cannot read. {error}") from error
    _require(row["config_hash"] == config_hash(row["config"]), "the settings of a run are not those that ran")
    _require(row["seed"] == config.seed, "the settings of a run have another seed")
    tags = row["tags"]
    _require(isinstance(tags, list) and all(isinstance(tag, str) for tag in tags), "the tags of a run are not words")
    if row["estimate"] is not None:
        try:
            Estimate(**row["estimate"])
        except TypeError:
            raise BundleError(f"The estimate of the run {row['id']} is none. Nothing of it was kept.") from None


def _make_links(manifest: Manifest, folder: Path) -> None:
    for link, target in manifest.links.items():
        os.symlink(target, folder.parent / link)


def _check_files(manifest: Manifest, staging: Path) -> None:
    """Open what the program will open later, so that what cannot be read is refused now."""
    for item in manifest.files:
        path = staging / item.path
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="numpy") as tensors:
                    tensors.keys()
            except (SafetensorError, OSError, ValueError) as error:
                raise BundleError(
                    f"{item.path} is no safetensors file. Nothing was kept; get the bundle again."
                ) from error
        elif path.suffix == ".json":
            _require(item.size <= MOST_JSON_BYTES, f"{item.path} is too large")
            content = _json(path.read_bytes(), item.path)
            if path.name == "adapter_config.json":
                _check_adapters(item.path, content)


def _check_adapters(path: str, content: Any) -> None:
    """Refuse settings of adapters that would make peft import a module by its name, or match names by a pattern."""
    _require(isinstance(content, dict) and content.get("peft_type") == "LORA", f"{path} is not of LoRA adapters")
    _require(content.get("megatron_config") is None, f"{path} names a module to load")
    library = (content.get("auto_mapping") or {}).get("parent_library", "transformers.")
    _require(isinstance(library, str) and library.startswith("transformers."), f"{path} names a module to load")
    targets = content.get("target_modules")
    _require(isinstance(targets, list) and all(isinstance(name, str) for name in targets), f"{path} has no targets")


def _rehearse(manifest: Manifest, staging: Path, runs_folder: Path) -> None:
    """Store the job in a database of its own, and read it as the pages do.

    Raises:
        BundleError: If rows contradict each other, or a file does not fit its row.
    """
    try:
        stage = Studio(f"sqlite:///{staging / 'rehearsal.db'}", staging / FILES)
        try:
            stage.store.add_rows(_rows(manifest, staging, runs_folder))
            _require(
                [run.id for run in stage.store.runs(limit=1000, job_id=manifest.job)] == list(manifest.runs), "its runs"
            )
            _read_everything(stage, manifest)
        finally:
            stage.close()
    except BundleError:
        raise
    except ConfigError:
        pass  # evaluations that cannot be compared are what the job has
    except ManifoldError as error:
        raise BundleError(f"The bundle contradicts itself ({error}). Nothing of it was kept.") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BundleError("The bundle contradicts itself: what belongs together is not there.") from error


def _read_everything(stage: Studio, manifest: Manifest) -> None:
    audio = {file.path.removeprefix(f"{FILES}/") for file in manifest.files if file.path.endswith(AUDIO_SUFFIXES)}
    for run in stage.store.runs(limit=1000, job_id=manifest.job):
        there = (stage.runs_folder / run.probe_folder / "probe.json").exists()
        probe = stage.probe(run.job_id, run.group) if there else []
        _check_probe(probe, audio)
        for record in stage.store.maps(run.id):
            for place in stage.map_places(record) or [None]:
                _require_fits(stage.map_points(record, place), record, probe)
        for comparison in stage.store.comparisons(run.id):
            _require(is_comparison(comparison.result), f"a comparison of {run.id}")
        _require_whole(stage.store.layer_scan(run.job_id, run.group), run.config["student"])
    stage.ablation(manifest.job)


def _require_whole(scan: LayerScan | None, student: dict[str, Any]) -> None:
    """Refuse a scan that lacks a block of layers, or has numbers that no scan has."""
    if scan is None:
        return
    for side in get_args(Side):
        blocks = [(each.first, each.last) for each in scan.distances if each.side == side]
        depth = scan.depth(side)
        _require(len(blocks) == depth * (depth + 1) // 2, f"a scan of {side} layers is not whole")
        _require(all(0 <= first <= last for first, last in blocks), f"a scan of {side} layers")
    _require(all(0 <= each.distance <= 1 and 0 <= each.standard_error <= 1 for each in scan.distances), "a scan")
    choice_in_words(scan, student)


def _check_probe(probe: list[ProbeUtterance], audio: set[str]) -> None:
    for utterance in probe:
        texts = (utterance.id, utterance.text, utterance.audio_path, utterance.split, utterance.speaker or "")
        _require(all(isinstance(text, str) for text in texts), "an utterance of the probe")
        _require(isinstance(utterance.duration, int | float), "an utterance of the probe")
        _require(utterance.audio_path in audio | {""}, "an utterance of the probe names audio that is not there")


def _require_fits(points: MapPoints, record: MapRecord, probe: list[ProbeUtterance]) -> None:
    count = len(points.utterance)
    sizes = {len(points.student), len(points.teacher), count, len(points.moment), len(points.angle)}
    sizes |= {points.student.size // 2, points.teacher.size // 2}
    sizes |= {len(points.student_neighbours), len(points.teacher_neighbours)}
    _require(len(sizes) == 1, f"the map {record.path} does not fit together")
    near = np.concatenate([points.student_neighbours.ravel(), points.teacher_neighbours.ravel()])
    _require(((near >= 0) & (near < count)).all(), f"the map {record.path} has neighbours that are not there")
    if count:
        places = int(points.utterance.min()), int(points.utterance.max())
        _require(places[0] >= 0 and places[1] < len(probe), f"the map {record.path} is of other utterances")


def _json(content: bytes, name: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise BundleError(f"{name} is no JSON. Nothing was kept; get the bundle again.") from None


def _require(well: object, what: str) -> None:
    if not well:
        raise BundleError(f"The bundle is damaged or made to deceive: {what}. Nothing of it was kept.")


def _remove_left(runs_folder: Path) -> None:
    """Remove what imports left that were killed."""
    for folder in runs_folder.glob(f"{STAGING}*"):
        if not folder.is_symlink() and time.time() - folder.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
