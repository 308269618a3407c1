"""Bundles that are damaged or made to deceive are refused whole: nothing is left behind, nothing outside is touched."""

import hashlib
import io
import json
import random
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from core.bundles import archive, import_bundle
from core.errors import BundleError, ManifoldError, StoreError
from core.runs import Studio
from core.store.records import config_hash
from tests.bundles.conftest import open_studio

MANIFEST = "manifest.json"
Inventory = Callable[[], dict[str, bytes]]


class Opened:
    """The entries of a bundle, to be changed and packed again."""

    def __init__(self, bundle: Path) -> None:
        with zipfile.ZipFile(bundle) as packed:
            self.entries = {name: packed.read(name) for name in packed.namelist()}
        self.manifest: dict[str, Any] = json.loads(self.entries.pop(MANIFEST))
        self.job, self.run = self.manifest["job"], self.manifest["runs"][0]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.entries[f"rows/{table}.jsonl"].splitlines()]

    def change(self, table: str, **fields: Any) -> None:
        """Change the first row of a table."""
        first, *others = self.rows(table)
        self.write(table, [{**first, **fields}, *others])

    def write(self, table: str, rows: list[Any]) -> None:
        self.entries[f"rows/{table}.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()

    def files(self, suffix: str) -> list[str]:
        return sorted(name for name in self.entries if name.endswith(suffix))

    def pack(self, path: Path, *, honest: bool = True) -> None:
        """Write it; an honest manifest lists what is inside, a dishonest one what was inside before."""
        if honest:
            self.manifest["files"] = [
                {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in self.entries.items()
            ]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in self.entries.items():
                packed.writestr(name, content)
            packed.writestr(MANIFEST, json.dumps(self.manifest))


def dishonest(change: Callable[[Opened], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        opened = Opened(path)
        change(opened)
        opened.pack(path, honest=False)

    return damage


def honest(change: Callable[[Opened], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        opened = Opened(path)
        change(opened)
        opened.pack(path)

    return damage


def renamed(place: Callable[[Opened], str]) -> Callable[[Path], None]:
    """Put a file at a place where none may be."""
    return honest(lambda opened: opened.entries.update({place(opened): b"{}"}))


def in_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


def changed(opened: Opened, suffix: str, content: bytes) -> None:
    opened.entries[opened.files(suffix)[0]] = content


def probe(opened: Opened, **fields: Any) -> None:
    (name,) = opened.files("probe.json")
    first, *others = json.loads(opened.entries[name])
    opened.entries[name] = json.dumps([{**first, **fields}, *others]).encode()


def settings(opened: Opened, extra_test: str) -> None:
    config = opened.rows("runs")[0]["config"]
    config["evaluation"]["extra_tests"] = [extra_test]
    opened.change("runs", config=config, config_hash=config_hash(config))


def adapters(opened: Opened, **fields: Any) -> None:
    name = opened.files("adapter_config.json")[0]
    opened.entries[name] = json.dumps({**json.loads(opened.entries[name]), **fields}).encode()


def a_map(opened: Opened, **arrays: np.ndarray) -> None:
    """Replace a map by one that does not fit, under the name that its new content asks for."""
    old = next(row["path"] for row in opened.rows("maps"))
    points = len(arrays["utterance"])
    fields = {"student_xy": np.zeros((points, 2), np.float32), "teacher_xy": np.zeros((points, 2), np.float32)}
    fields |= {"angle": np.zeros(points, np.float32)}
    if "student_neighbours" in arrays:  # a file of today: several maps of the same points
        fields = {name: each[None] for name, each in fields.items()} | {"places": np.zeros((1, 3), np.int32)}
    fields |= {"moment": np.zeros(points, np.int32), **arrays}
    opened.entries[f"files/{old}"] = save(fields)


def neighbours(far: int) -> dict[str, np.ndarray]:
    """Return a map of two points whose last one has a neighbour that is none of them."""
    near = np.array([[1], [0]], np.int32)
    return {
        "utterance": np.zeros(2, np.int32),
        "student_neighbours": near[None],
        "teacher_neighbours": np.array([[[1], [far]]], np.int32),
    }


def a_link(path: Path) -> None:
    """Add an entry that is a symbolic link to a file of the machine."""
    opened = Opened(path)
    opened.manifest["files"] = []
    opened.pack(path)
    with zipfile.ZipFile(path, "a") as packed:
        info = zipfile.ZipInfo(f"files/{opened.run}/link.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")


def a_bomb(path: Path) -> None:
    """Add 64 MB of zeros, which take 64 kB."""
    opened = Opened(path)
    opened.entries[f"files/{opened.run}/zeros.txt"] = bytes(64 * 2**20)
    opened.pack(path)


def twice(path: Path) -> None:
    opened = Opened(path)
    opened.pack(path)
    with zipfile.ZipFile(path, "a") as packed, pytest.warns(UserWarning, match="Duplicate name"):
        packed.writestr("rows/jobs.jsonl", opened.entries["rows/jobs.jsonl"])


def a_small_lie(path: Path) -> None:
    """Let an entry say that it is smaller than it is, in the directory as well as before its content."""
    opened = Opened(path)
    name, told = f"files/{opened.run}/long.txt", 10
    opened.entries[name] = b"x" * 100_000
    opened.pack(path)
    told_too = {"path": name, "size": told, "sha256": hashlib.sha256(b"x" * told).hexdigest()}
    opened.manifest["files"][-1] = told_too
    opened.pack(path, honest=False)
    content = bytearray(path.read_bytes())
    for signature, place, length in ((b"PK\x01\x02", 24, 46), (b"PK\x03\x04", 22, 30)):
        at = content.find(signature)
        while at >= 0 and content[at + length : at + length + len(name)] != name.encode():
            at = content.find(signature, at + 1)
        content[at + place : at + place + 4] = struct.pack("<L", told)
    path.write_bytes(content)


def entries_in_each_other(path: Path) -> None:
    """Add an entry whose content holds another entry whole: both are honest, and together larger than the file."""
    opened = Opened(path)
    outer, inner = (f"files/{opened.run}/{name}.txt" for name in ("outer", "inner"))
    within = io.BytesIO()
    content = random.Random(1).randbytes(4_000_000)
    with zipfile.ZipFile(within, "w") as packed:
        packed.writestr(inner, content)
        header = 30 + len(inner)
    opened.entries[outer], opened.entries[inner] = within.getvalue()[: header + len(content)], content
    opened.pack(path)  # for the manifest
    with zipfile.ZipFile(path, "w") as packed:
        for name, each in opened.entries.items():
            if name != inner:
                packed.writestr(name, each, zipfile.ZIP_STORED if name == outer else zipfile.ZIP_DEFLATED)
        packed.writestr(MANIFEST, json.dumps(opened.manifest), zipfile.ZIP_DEFLATED)
        (hidden,) = zipfile.ZipFile(within).infolist()
        hidden.header_offset = packed.getinfo(outer).header_offset + 30 + len(outer)
        packed.filelist.append(hidden)


def many_entries(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(30_000):
            packed.writestr(f"{number}", b"")


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "an empty file": (in_bytes(lambda content: b""), "no bundle"),
    "no zip": (in_bytes(lambda content: b"<html>" * 100), "no bundle"),
    "half of it": (in_bytes(lambda content: content[: len(content) // 2]), "end is missing"),
    "something after its end": (in_bytes(lambda content: content + b"more"), "end is missing"),
    "something before its beginning": (in_bytes(lambda content: b"MZ" + content), "another kind"),
    "another zip": (lambda path: zipfile.ZipFile(path, "w").close(), "it has no manifest"),
    "too many entries": (many_entries, "more than a bundle may"),
    "a flipped bit in a clip": (
        dishonest(lambda opened: changed(opened, ".flac", opened.entries[opened.files(".flac")[0]][:-1] + b"!")),
        "its hash differs",
    ),
    "a file that is missing": (
        dishonest(lambda opened: opened.entries.pop(opened.files(".flac")[0])),
        "lacks .*which its manifest lists",
    ),
    "a file more": (
        dishonest(lambda opened: opened.entries.update({f"files/{opened.run}/more.txt": b"x"})),
        "does not list",
    ),
    "a longer file": (dishonest(lambda opened: changed(opened, ".flac", b"x" * 99_999)), "another size"),
    "an entry twice": (twice, "twice"),
    "a symbolic link": (a_link, "no plain file|does not list"),
    "a bomb": (a_bomb, "more tightly"),
    "an entry longer than it says": (a_small_lie, "longer|damaged|hash"),
    "entries that lie in each other": (entries_in_each_other, "lie over one another"),
    "a parent folder": (renamed(lambda opened: "files/../../evil.txt"), "no place in a bundle"),
    "an absolute path": (renamed(lambda opened: "/tmp/evil.txt"), "no place in a bundle"),
    "a drive": (renamed(lambda opened: "C:evil.txt"), "no place in a bundle"),
    "a backslash": (renamed(lambda opened: f"files/{opened.run}\\..\\..\\evil.txt"), "no place in a bundle"),
    "a parent folder inside": (renamed(lambda opened: f"files/{opened.run}/../evil.txt"), "no place in a bundle"),
    "a hidden file": (renamed(lambda opened: f"files/{opened.run}/.bashrc.txt"), "no place in a bundle"),
    "another run's folder": (renamed(lambda opened: "files/raaaaaaa/a.txt"), "no place in a bundle"),
    "another job's folder": (renamed(lambda opened: "files/jobs/jaaaaaaa/a.txt"), "no place in a bundle"),
    "the folder of the queue": (renamed(lambda opened: "files/slots/cpu.lock"), "no place in a bundle"),
    "a pickle": (renamed(lambda opened: f"files/{opened.run}/adapters/model.bin"), "no place in a bundle"),
    "a program": (renamed(lambda opened: f"files/{opened.run}/run.py"), "no place in a bundle"),
    "a zero byte in a name": (renamed(lambda opened: f"files/{opened.run}/a\0.txt"), "two names|no place|lacks"),
    "an unknown table": (renamed(lambda opened: "rows/alembic_version.jsonl"), "does not know"),
    "two names on a disk without capitals": (
        honest(lambda opened: opened.entries.update({f"files/{opened.run}/{x}.txt": b"" for x in ("a", "A")})),
        "named twice",
    ),
    "a file that is a folder": (
        honest(
            lambda opened: opened.entries.update(
                {f"files/{opened.run}/a.txt": b"", f"files/{opened.run}/a.txt/b.txt": b""}
            )
        ),
        "a file and a folder",
    ),
    "a newer format": (honest(lambda opened: opened.manifest.update(version=2)), "another version"),
    "a newer schema": (honest(lambda opened: opened.manifest.update(schema_revision="9999")), "newer version"),
    "an unknown field": (honest(lambda opened: opened.manifest.update(hook="rm")), "manifest is wrong at .hook."),
    "a manifest without end": (
        honest(lambda opened: opened.manifest.update(name=random.Random(0).randbytes(5_000_000).hex())),
        "larger than it can be",
    ),
    "no runs": (honest(lambda opened: opened.manifest.update(runs=[])), "runs are not told apart"),
    "a run's id that is a path": (honest(lambda opened: opened.manifest.update(runs=["../../x"])), "is no id"),
    "a link out of the folder": (
        honest(lambda opened: opened.manifest["links"].update({f"files/{opened.run}/adapters/x": "../../.."})),
        "points to nothing",
    ),
    "a link to the machine": (
        honest(lambda opened: opened.manifest["links"].update({f"files/{opened.run}/adapters/x": "/etc"})),
        "points to nothing",
    ),
    "a link over a folder": (
        honest(lambda opened: opened.manifest["links"].update({f"files/{opened.run}/states": "adapters"})),
        "something else",
    ),
    "a job that runs": (honest(lambda opened: opened.change("jobs", state="running")), "which cannot be"),
    "a run that waits": (honest(lambda opened: opened.change("runs", state="queued")), "which cannot be"),
    "a map that waits": (honest(lambda opened: opened.change("maps", state="queued")), "which cannot be"),
    "another job's row": (honest(lambda opened: opened.change("jobs", id="jaaaaaaa")), "not the one of its manifest"),
    "two jobs": (honest(lambda opened: opened.write("jobs", opened.rows("jobs") * 2)), "Two rows of jobs"),
    "no job": (honest(lambda opened: opened.write("jobs", [])), "which is not here"),
    "a run of another job": (honest(lambda opened: opened.change("runs", job_id="jaaaaaaa")), "which is not here"),
    "a run that is not named": (honest(lambda opened: opened.change("runs", id="raaaaaaa")), "does not name"),
    "metrics of another run": (honest(lambda opened: opened.change("metrics", run_id="raaaaaaa")), "which is not here"),
    "a metric twice": (
        honest(lambda opened: opened.write("metrics", [*opened.rows("metrics"), opened.rows("metrics")[0]])),
        "contradicts itself",
    ),
    "an unknown column": (honest(lambda opened: opened.change("runs", hook="rm")), "fields that this version"),
    "a column that is missing": (
        honest(lambda opened: opened.write("evaluations", [{"id": 1, "job_id": opened.job}])),
        "lacks its",
    ),
    "a number that is a text": (honest(lambda opened: opened.change("evaluations", wer="0.1")), "cannot be"),
    "a count that is a truth": (honest(lambda opened: opened.change("evaluations", words=True)), "cannot be"),
    "a count that is endless": (honest(lambda opened: opened.change("evaluations", words=2**64)), "cannot be"),
    "a text that is a number": (honest(lambda opened: opened.change("runs", name=5)), "cannot be"),
    "half a character": (honest(lambda opened: opened.change("runs", name="\ud800")), "cannot be"),
    "a time without a zone": (honest(lambda opened: opened.change("runs", created_at="2026-01-01T00:00")), "cannot be"),
    "a row that is a list": (honest(lambda opened: opened.write("runs", [[]])), "fields that this version"),
    "rows that are no JSON": (honest(lambda opened: changed(opened, "runs.jsonl", b"{\n")), "no JSON"),
    "rows without an end": (
        honest(lambda opened: changed(opened, "runs.jsonl", random.Random(0).randbytes(2_000_000).replace(b"\n", b""))),
        "longer than it can",
    ),
    "a row that is too deep": (honest(lambda opened: changed(opened, "runs.jsonl", b"[" * 900_000)), "no JSON"),
    "no number": (honest(lambda opened: changed(opened, "metrics.jsonl", b'{"value": NaN}\n')), "no JSON"),
    "a clip of the machine": (
        honest(lambda opened: opened.change("utterance_results", audio_path="/etc/passwd")),
        "audio that is not in the bundle",
    ),
    "a clip of another job": (
        honest(lambda opened: opened.change("utterance_results", audio_path="../runs/data/a.flac")),
        "audio that is not in the bundle",
    ),
    "a log as a clip": (
        honest(lambda opened: opened.change("utterance_results", audio_path=f"jobs/{opened.job}/log.txt")),
        "audio that is not in the bundle",
    ),
    "a probe's clip of the machine": (honest(lambda opened: probe(opened, audio_path="/etc/passwd")), "is not there"),
    "a probe with a number for a text": (honest(lambda opened: probe(opened, text=5)), "an utterance of the probe"),
    "a probe with an unknown field": (honest(lambda opened: probe(opened, hook="rm")), "contradicts itself"),
    "a map at another place": (
        honest(lambda opened: opened.change("maps", path="../../x.safetensors")),
        "a map's path",
    ),
    "a map of other utterances": (
        honest(lambda opened: a_map(opened, utterance=np.array([0, 999], np.int32))),
        "of other utterances",
    ),
    "a map that does not fit together": (
        honest(lambda opened: a_map(opened, utterance=np.zeros(3, np.int32), angle=np.zeros(9, np.float32))),
        "does not fit together",
    ),
    "a map with a neighbour one past its last point": (
        honest(lambda opened: a_map(opened, **neighbours(2))),
        "neighbours that are not there",
    ),
    "a map with a neighbour before its first point": (
        honest(lambda opened: a_map(opened, **neighbours(-1))),
        "neighbours that are not there",
    ),
    "a map that is none": (
        honest(
            lambda opened: opened.entries.update({f"files/{opened.rows('maps')[0]['path']}": save({"x": np.zeros(2)})})
        ),
        "contradicts itself",
    ),
    "states that are none": (honest(lambda opened: changed(opened, "000160.safetensors", b"x" * 99)), "no safetensors"),
    "settings that are no run": (honest(lambda opened: opened.change("runs", config={"a": 1})), "cannot read"),
    "other settings than ran": (
        honest(lambda opened: opened.change("runs", config_hash="0" * 16)),
        "not those that ran",
    ),
    "settings that lead out of the folder": (
        honest(lambda opened: settings(opened, "{runs}/../../etc/passwd.jsonl")),
        "leads out of the folder",
    ),
    "settings that lead to the machine": (
        honest(lambda opened: settings(opened, "{runs}//etc/passwd.jsonl")),
        "leads out of the folder",
    ),
    "a scan with a layer of another kind": (
        honest(lambda opened: opened.change("layer_distances", side="middle")),
        "which cannot be",
    ),
    "a scan that lacks a block": (
        honest(lambda opened: opened.write("layer_distances", opened.rows("layer_distances")[1:])),
        "is not whole",
    ),
    "a scan of endless layers": (
        honest(lambda opened: opened.change("layer_distances", first=2**62, last=2**62)),
        "is not whole",
    ),
    "a scan of layers below the first": (
        honest(lambda opened: opened.change("layer_distances", first=-1, last=-1)),
        "a scan of encoder layers",
    ),
    "a distance longer than half a turn": (
        honest(lambda opened: opened.change("layer_distances", distance=1.5)),
        "a scan",
    ),
    "a distance that is no number": (
        honest(lambda opened: opened.change("layer_distances", distance="nan")),
        "contradicts itself",
    ),
    "an error without end": (
        honest(lambda opened: opened.change("layer_distances", standard_error="inf")),
        "a scan",
    ),
    "two scans of one group": (
        honest(
            lambda opened: opened.write(
                "layer_scans",
                [{**row, "id": row["id"] + place} for row in opened.rows("layer_scans") for place in (0, 1)],
            )
        ),
        "contradicts itself",
    ),
    "an estimate of something else": (honest(lambda opened: opened.change("runs", estimate={"a": 1})), "is none"),
    "tags that are no words": (honest(lambda opened: opened.change("runs", tags=["good", 1])), "not words"),
    "adapters that load a module": (
        honest(lambda opened: adapters(opened, megatron_config={}, megatron_core="evil")),
        "names a module",
    ),
    "adapters of a foreign class": (
        honest(lambda opened: adapters(opened, auto_mapping={"parent_library": "evil"})),
        "names a module",
    ),
    "adapters of another kind": (honest(lambda opened: adapters(opened, peft_type="BONE")), "not of LoRA"),
    "adapters with a pattern": (honest(lambda opened: adapters(opened, target_modules="(a+)+$")), "no targets"),
    "evaluations of other utterances": (
        honest(
            lambda opened: opened.write(
                "utterance_results",
                [
                    {**row, "utterance_id": f"{row['evaluation_id']}-{row['position']}"}
                    for row in opened.rows("utterance_results")
                ],
            )
        ),
        "contradicts itself",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_damaged_or_made_to_deceive_is_refused_whole(
    away: Studio, bundle: Path, inventory: Inventory, what: str
) -> None:
    damage, sentence = HOSTILE[what]
    damage(bundle)
    before = inventory()
    with pytest.raises(BundleError, match=sentence):
        import_bundle(away, bundle)
    assert inventory() == before
    assert (away.store.jobs(), away.store.runs(), away.store.evaluations()) == ([], [], [])


def test_a_bundle_that_was_opened_and_packed_again_is_taken_in(away: Studio, bundle: Path) -> None:
    """Else the ones above could be refused for how they were packed."""
    honest(lambda opened: None)(bundle)
    assert import_bundle(away, bundle).state == "finished"


def test_a_bundle_of_an_older_schema_is_taken_in(away: Studio, bundle: Path) -> None:
    def older(opened: Opened) -> None:
        opened.manifest["schema_revision"] = "0001"
        young = ("precision", "peak_memory", "estimate", "tags", "notes", "deleted_at")
        opened.write("runs", [{k: v for k, v in row.items() if k not in young} for row in opened.rows("runs")])

    honest(older)(bundle)
    job = import_bundle(away, bundle)
    runs = away.store.runs(job_id=job.id)
    assert [(run.peak_memory, run.tags, run.notes) for run in runs] == [(None, (), "")] * 4


def test_what_is_not_there_is_told(away: Studio, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be taken in"):
        import_bundle(away, tmp_path / "nothing.zip")
    with pytest.raises(BundleError, match="is no file"):
        import_bundle(away, tmp_path)


def test_a_full_disk_ends_cleanly(
    away: Studio, bundle: Path, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_write", full)
    before = inventory()
    with pytest.raises(StoreError, match="No space left on device"):
        import_bundle(away, bundle)
    assert inventory() == before


def test_rows_that_cannot_be_stored_bring_the_folders_back(
    away: Studio, bundle: Path, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit itself is what fails: the folders have been moved by then."""
    add_rows = away.store.add_rows

    def fail_at_the_end(rows: Any, *, last: Callable[[], None]) -> None:
        def move_and_fail() -> None:
            last()
            raise StoreError("The disk is full.")

        add_rows(rows, last=move_and_fail)

    monkeypatch.setattr(away.store, "add_rows", fail_at_the_end)
    with pytest.raises(StoreError, match="The disk is full"):
        import_bundle(away, bundle)
    assert [path.name for path in away.runs_folder.iterdir()] == ["jobs"]
    assert list((away.runs_folder / "jobs").iterdir()) == []
    assert away.store.jobs() == []


def test_a_bomb_takes_no_memory(away: Studio, bundle: Path) -> None:
    a_bomb(bundle)
    tracemalloc.start()
    with pytest.raises(BundleError):
        import_bundle(away, bundle)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 * 2**20


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Return the file with some bytes changed, removed or put in."""
    damaged = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(damaged))
        kind = draw.randrange(3)
        if kind == 0:
            damaged[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del damaged[at : at + draw.randint(1, 50)]
        else:
            damaged[at:at] = draw.randbytes(draw.randint(1, 50))
    return bytes(damaged)


def require_only_typed_errors(folder: Path, new_database: Path, bundle: Path, inventory: Inventory, cases: int) -> None:
    """Damage the bundle in many ways; what is taken in all the same was damaged where nothing is said."""
    content, away, before = bundle.read_bytes(), None, {}
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    for case in range(cases):
        if away is None:
            away = open_studio(folder / f"away-{case}", new_database)
            before = {**inventory(), bundle.name: b""}
        bundle.write_bytes(flipped(content, random.Random(case)))
        try:
            import_bundle(away, bundle)
        except ManifoldError:
            assert {**inventory(), bundle.name: b""} == before, case
            assert away.store.jobs() == [], case
        else:
            with zipfile.ZipFile(bundle) as damaged:
                assert {name: damaged.read(name) for name in damaged.namelist()} == entries, case
            away.close()
            away = None
    if away is not None:
        away.close()


def test_a_damaged_bundle_raises_nothing_but_its_sentence(
    tmp_path: Path, new_database: Path, bundle: Path, inventory: Inventory
) -> None:
    require_only_typed_errors(tmp_path, new_database, bundle, inventory, 40)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_damaged_bundles_raise_nothing_but_their_sentence(
    tmp_path: Path, new_database: Path, bundle: Path, inventory: Inventory
) -> None:
    require_only_typed_errors(tmp_path, new_database, bundle, inventory, 5000)
