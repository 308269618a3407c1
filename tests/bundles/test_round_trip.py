"""What was measured in one installation is there in another, to the last digit."""

import dataclasses
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from core.audio import read_audio
from core.bundles import export_bundle, import_bundle
from core.cli.tables import ablation_json
from core.config import RunConfig
from core.errors import JobError, NotFoundError, StoreError
from core.runs import Studio
from core.store.records import config_hash
from core.store.tables import metadata
from core.store.transfer import travelling
from tests.app import sample


def results(studio: Studio, job_id: str) -> list[object]:
    """Return everything that was measured in a job, without the numbers that a database gives its rows."""
    store = studio.store
    found: list[object] = []
    for run in store.runs(job_id=job_id):
        found += [run, store.parameters(run.id), store.metrics(run.id), store.alignments(run.id)]
        found += [dataclasses.replace(record, id=0, path="") for record in store.maps(run.id)]
        found += [asdict(studio.map_points(record))["student"].tolist() for record in store.maps(run.id)]
        found.append(store.layer_scan(job_id, run.group))
    for evaluation in store.evaluations(job_id=job_id):
        found.append(dataclasses.replace(evaluation, id=0))
        found += [dataclasses.replace(item, audio_path="") for item in store.utterance_results(evaluation.id)]
    return found


def clips(studio: Studio, job_id: str) -> list[bytes]:
    evaluations = studio.store.evaluations(job_id=job_id)
    paths = [item.audio_path for each in evaluations for item in studio.store.utterance_results(each.id)]
    paths += [utterance.audio_path for utterance in studio.probe(job_id)]
    return [(studio.runs_folder / path).read_bytes() for path in paths]


def test_an_empty_installation_shows_the_same_after_an_import(
    home: Studio, away: Studio, job_id: str, bundle: Path
) -> None:
    taken_in = import_bundle(away, bundle)
    assert taken_in.id == job_id
    assert ablation_json(away.ablation(job_id)) == ablation_json(home.ablation(job_id))
    assert results(away, job_id) == results(home, job_id)
    assert away.store.layer_scan(job_id) == sample.scan()
    assert clips(away, job_id) == clips(home, job_id)
    assert away.log_tail(job_id) == home.log_tail(job_id)


def test_files_of_a_run_travel_with_their_names(home: Studio, away: Studio, job_id: str, bundle: Path) -> None:
    import_bundle(away, bundle)
    for run in home.store.runs(job_id=job_id):
        for path in ("adapters/step-000160/adapter_model.safetensors", "states/000160.safetensors"):
            assert (away.runs_folder / run.id / path).read_bytes() == (home.runs_folder / run.id / path).read_bytes()
        assert os.readlink(away.runs_folder / run.id / "adapters" / "best") == "step-000160"
    assert sorted(path.name for path in away.runs_folder.iterdir()) == sorted(
        ["jobs", *(run.id for run in away.store.runs(job_id=job_id))]
    )


def test_a_job_travels_on_and_comes_back_the_same(
    home: Studio, away: Studio, job_id: str, bundle: Path, tmp_path: Path
) -> None:
    import_bundle(away, bundle)
    again = export_bundle(away, job_id, tmp_path / "again.zip").path
    with zipfile.ZipFile(bundle) as first, zipfile.ZipFile(again) as second:
        listed = [
            {
                item["path"]: item["sha256"]
                for item in json.loads(archive.read("manifest.json"))["files"]
                if not item["path"].startswith("rows/")
            }
            for archive in (first, second)
        ]
    assert listed[0] == listed[1]


def test_a_second_job_keeps_its_numbers_beside_the_first(home: Studio, away: Studio, job_id: str, bundle: Path) -> None:
    (own, *_) = sample.add_finished_job(away.store, away.runs_folder)
    before = results(away, own.job_id)
    import_bundle(away, bundle)
    assert results(away, own.job_id) == before
    assert results(away, job_id) == results(home, job_id)


def test_experts_and_their_students_travel_with_the_probe_of_each_group(
    home: Studio, away: Studio, tmp_path: Path
) -> None:
    runs = sample.add_ensemble_job(home.store, home.runs_folder)
    last = runs[-1]
    assert last.group > 0
    import_bundle(away, export_bundle(home, last.job_id, tmp_path / "ensemble.zip").path)
    assert ablation_json(away.ablation(last.job_id)) == ablation_json(home.ablation(last.job_id))
    assert results(away, last.job_id) == results(home, last.job_id)
    for utterance in away.probe(last.job_id, last.group):
        assert (away.runs_folder / utterance.audio_path).is_file()


def test_a_map_that_is_drawn_after_the_import_overwrites_none(away: Studio, job_id: str, bundle: Path) -> None:
    import_bundle(away, bundle)
    run = away.store.runs(job_id=job_id)[0]
    before = [away.map_points(record).student.tolist() for record in away.store.maps(run.id)]
    sample.add_map(away.store, away.runs_folder, run, 80, "points")
    assert [away.map_points(record).student.tolist() for record in away.store.maps(run.id)[:-1]] == before


def test_a_job_that_is_here_already_is_refused_with_a_sentence(
    home: Studio, job_id: str, bundle: Path, inventory: Callable[[], dict[str, bytes]]
) -> None:
    before, numbers = inventory(), results(home, job_id)
    name = home.store.job(job_id).name
    with pytest.raises(StoreError, match=f"The job {job_id}, '{name}', is here already; nothing was changed") as caught:
        import_bundle(home, bundle)
    assert "bin" not in str(caught.value)
    assert inventory() == before
    assert results(home, job_id) == numbers


def test_a_job_that_lies_in_the_bin_is_said_to_be_there(home: Studio, job_id: str, bundle: Path) -> None:
    runs = [run.id for run in home.store.runs(job_id=job_id)]
    home.store.put_in_bin(runs[:1])
    with pytest.raises(StoreError, match=f"is here already; .* 1 of its {len(runs)} runs lie in the bin"):
        import_bundle(home, bundle)
    home.store.put_in_bin(runs)
    with pytest.raises(StoreError, match="is here already: its runs lie in the bin, and can be taken out of it there"):
        import_bundle(home, bundle)
    home.store.restore(runs)
    assert [run.id for run in home.store.runs()] == runs


def test_a_folder_in_the_way_is_left_as_it_is(
    away: Studio, job_id: str, home: Studio, bundle: Path, inventory: Callable[[], dict[str, bytes]]
) -> None:
    last = home.store.runs(job_id=job_id)[-1].id
    (away.runs_folder / last).mkdir()
    before = inventory()
    with pytest.raises(StoreError, match="is in the way"):
        import_bundle(away, bundle)
    assert inventory() == before
    assert away.store.jobs() == []
    (away.runs_folder / last).rmdir()
    assert import_bundle(away, bundle).id == job_id


def test_a_small_bundle_has_the_numbers_the_clips_and_the_maps_alone(
    home: Studio, away: Studio, job_id: str, bundle: Path, tmp_path: Path
) -> None:
    packed = export_bundle(home, job_id, tmp_path / "small.zip", small=True)
    assert packed.size < bundle.stat().st_size
    assert any("adapters" in item for item in packed.left_out)
    assert any("states" in item for item in packed.left_out)
    import_bundle(away, packed.path)
    assert results(away, job_id) == results(home, job_id)
    assert clips(away, job_id) == clips(home, job_id)
    left = {path.name for run in away.store.runs() for path in (away.runs_folder / run.id).iterdir()}
    assert left == {"maps"}


def test_clips_from_outside_the_folder_of_runs_travel_under_no_absolute_path(
    home: Studio, away: Studio, job_id: str, tmp_path: Path
) -> None:
    clip = home.runs_folder / "data" / "sample" / "test-000.flac"
    outside = clip.rename(tmp_path / "outside.flac")
    probe = home.runs_folder / "jobs" / job_id / "probe.json"
    probe.write_text(probe.read_text(encoding="utf-8").replace("data/sample/test-000.flac", str(outside)))
    bundle = export_bundle(home, job_id, tmp_path / "job.zip").path
    with zipfile.ZipFile(bundle) as archive:
        assert not [name for name in archive.namelist() if str(tmp_path).encode() in archive.read(name)]
    import_bundle(away, bundle)
    assert (away.runs_folder / away.probe(job_id)[0].audio_path).read_bytes() == outside.read_bytes()


def test_clips_that_are_gone_do_not_keep_the_numbers_from_travelling(
    home: Studio, away: Studio, job_id: str, tmp_path: Path
) -> None:
    (home.runs_folder / "data" / "sample" / "test-001.flac").unlink()
    packed = export_bundle(home, job_id, tmp_path / "job.zip")
    assert packed.left_out == ("1 clips that are gone",)
    import_bundle(away, packed.path)
    assert results(away, job_id) == results(home, job_id)


def test_a_bundle_says_nothing_of_processes_of_the_machine_that_made_it(
    home: Studio, away: Studio, tmp_path: Path
) -> None:
    (run,) = sample.add_job(home.store, home.runs_folder, "failed", "The disk is full.")
    assert home.store.job(run.job_id).pid is not None
    taken_in = import_bundle(away, export_bundle(home, run.job_id, tmp_path / "failed.zip").path)
    assert (taken_in.state, taken_in.message) == ("failed", "The disk is full.")
    assert (taken_in.pid, taken_in.boot_id, taken_in.heartbeat_at) == (None, None, None)


def test_only_what_has_ended_is_packed(home: Studio, tmp_path: Path) -> None:
    (run,) = sample.add_job(home.store, home.runs_folder, "running")
    with pytest.raises(JobError, match=r"is running\. Export it when it has ended"):
        export_bundle(home, run.job_id, tmp_path / "job.zip")
    with pytest.raises(NotFoundError):
        export_bundle(home, "jnothing", tmp_path / "job.zip")
    assert not (tmp_path / "job.zip").exists()


def test_a_file_that_is_there_is_not_overwritten(home: Studio, job_id: str, tmp_path: Path) -> None:
    (tmp_path / "job.zip").write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        export_bundle(home, job_id, tmp_path / "job.zip")
    assert (tmp_path / "job.zip").read_text() == "mine"


def test_every_table_travels_or_is_known_to_stay() -> None:
    """A table that hangs on nothing of a job would silently stay behind."""
    assert {table.name for table in metadata.sorted_tables} - {table.name for table in travelling()} == {"checks"}


def test_every_column_that_names_a_file_is_known() -> None:
    """A path that nobody moves with the job would point to nothing elsewhere."""
    named = {
        f"{table.name}.{column.name}" for table in travelling() for column in table.columns if "path" in column.name
    }
    assert named == {"jobs.log_path", "maps.path", "utterance_results.audio_path"}


def test_clips_can_travel_as_mp3(home: Studio, away: Studio, job_id: str, bundle: Path, tmp_path: Path) -> None:
    packed = export_bundle(home, job_id, tmp_path / "mp3.zip", mp3=True)
    import_bundle(away, packed.path)
    assert results(away, job_id) == results(home, job_id)
    for mine, theirs in zip(home.probe(job_id), away.probe(job_id), strict=True):
        before, after = (
            read_audio(each.runs_folder / path) for each, path in ((home, mine.audio_path), (away, theirs.audio_path))
        )
        assert theirs.audio_path.endswith(".mp3")
        assert len(before) == len(after)
        assert np.corrcoef(before, after)[0, 1] > 0.99


def test_what_people_said_travels_and_a_run_in_the_bin_comes_out_of_it(
    home: Studio, away: Studio, job_id: str, tmp_path: Path
) -> None:
    run = home.store.runs(job_id=job_id)[0]
    home.store.change_tags([run.id], add=["to report"])
    home.store.set_notes(run.id, "a note")
    home.store.put_in_bin([run.id])
    packed = export_bundle(home, job_id, tmp_path / "labelled.zip")
    import_bundle(away, packed.path)
    found = away.store.run(run.id)
    assert (found.tags, found.notes, found.deleted_at) == (("to report",), "a note", None)


def test_what_nobody_sees_does_not_come_in_but_in_what_was_spoken(
    home: Studio, away: Studio, job_id: str, tmp_path: Path
) -> None:
    run = home.store.runs(job_id=job_id)[0]
    dirty, spoken = (
        "\x1b[31mred\u202e\u200b\x9b2J\rname",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937",
    )
    with sqlite3.connect(home.store.path) as older:
        older.execute("UPDATE jobs SET name = ?, message = ?, expectation = ?", (dirty, dirty, dirty))
        older.execute("UPDATE runs SET notes = ?, message = ?, tags = ?", (dirty, dirty, json.dumps([dirty, "\u200b"])))
        older.execute("UPDATE utterance_results SET speaker = ?, reference = ?", (dirty, spoken))
        (config,) = older.execute("SELECT config FROM runs WHERE id = ?", (run.id,)).fetchone()
        fields = {**json.loads(config), "name": dirty}
        changed = (dirty, json.dumps(fields), config_hash(fields), run.id)
        older.execute("UPDATE runs SET name = ?, config = ?, config_hash = ? WHERE id = ?", changed)
    older.close()
    import_bundle(away, export_bundle(home, job_id, tmp_path / "dirty.zip").path)
    job, found = away.store.job(job_id), away.store.run(run.id)
    assert (job.name, job.message, job.expectation) == ("red name", "red\nname", "red\nname")
    assert (found.name, found.notes, found.tags, found.config["name"]) == (
        "red name",
        "red\nname",
        ("red name",),
        "red name",
    )
    evaluation = next(item for item in away.store.evaluations(job_id=job_id) if item.subject == "teacher")
    results = away.store.utterance_results(evaluation.id)
    assert {(result.speaker, result.reference) for result in results} == {("red name", spoken)}


def test_settings_name_no_place_of_the_machine_that_they_come_from(
    home: Studio, away: Studio, tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    inside, outside = home.runs_folder / "data" / "real" / "real.jsonl", "/elsewhere/other.jsonl"
    names = ("train", "development", "test")
    config = make_config(
        source={"kind": "manifest", **{name: str(home.runs_folder / "own" / f"{name}.jsonl") for name in names}},
        evaluation={"extra_tests": [str(inside), outside, "data/beside.jsonl"]},
    )
    job = home.store.create_job("with paths", [config])
    home.store.run_state(home.store.runs(job_id=job.id)[0].id, "finished")
    home.store.job_state(job.id, "finished")
    packed = export_bundle(home, job.id, tmp_path / "paths.zip").path
    with zipfile.ZipFile(packed) as archive:
        assert str(home.runs_folder).encode() not in b"".join(archive.read(name) for name in archive.namelist())
    import_bundle(away, packed)
    (run,) = away.store.runs(job_id=job.id)
    assert run.config["evaluation"]["extra_tests"] == [
        str(away.runs_folder / "data" / "real" / "real.jsonl"),
        outside,
        "data/beside.jsonl",
    ]
    assert [run.config["source"][name] for name in names] == [
        str(away.runs_folder / "own" / f"{name}.jsonl") for name in names
    ]
    assert run.config_hash == config_hash(run.config)
    again = export_bundle(away, job.id, tmp_path / "again.zip").path
    with zipfile.ZipFile(packed) as first, zipfile.ZipFile(again) as second:
        assert first.read("rows/runs.jsonl") == second.read("rows/runs.jsonl")


def test_a_log_in_which_nothing_was_written_does_not_travel(
    home: Studio, away: Studio, job_id: str, tmp_path: Path
) -> None:
    home.log_path(job_id).write_text("")
    import_bundle(away, export_bundle(home, job_id, tmp_path / "silent.zip").path)
    assert not away.log_path(job_id).exists()
