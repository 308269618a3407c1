"""Scans of layers: one for each group of a job's runs, through the journal, and gone with their job."""

from pathlib import Path

from sqlalchemy import delete, func, select

from core.store import JobRecord, LayerDistance, LayerScan, Store
from core.store.journaled import JournaledStore
from core.store.tables import jobs, layer_distances, layer_scans

SCAN = LayerScan(
    model="openai/whisper-tiny.en",
    audio_context=15.0,
    clips=24,
    audio_seconds=71.5,
    seconds=2.25,
    distances=(
        LayerDistance("encoder", 0, 0, 0.3125, 0.002),
        LayerDistance("encoder", 0, 1, 0.34, 0.003),
        LayerDistance("encoder", 1, 1, 0.17, 0.001),
        LayerDistance("decoder", 0, 0, 0.5, 0.0),
    ),
)


def test_a_scan_comes_back_as_it_was_for_its_group_alone(store: Store, job: JobRecord) -> None:
    assert store.layer_scan(job.id) is None
    store.add_layer_scan(job.id, 1, SCAN)
    assert store.layer_scan(job.id, 1) == SCAN
    assert store.layer_scan(job.id) is None
    assert SCAN.depth("encoder") == 2


def test_a_scan_that_is_stored_again_replaces_the_first(store: Store, job: JobRecord) -> None:
    store.add_layer_scan(job.id, 0, SCAN)
    fewer = LayerScan("m", 10.0, 2, 5.0, 1.0, SCAN.distances[:1])
    store.add_layer_scan(job.id, 0, fewer)
    assert store.layer_scan(job.id) == fewer


def test_a_scan_goes_through_the_journal_of_its_job(store: Store, job: JobRecord, tmp_path: Path) -> None:
    with JournaledStore(store, tmp_path, job.id) as results:
        results.add_layer_scan(job.id, 0, SCAN)
        assert results.flush(20)
    assert store.layer_scan(job.id) == SCAN


def test_a_scan_is_deleted_with_its_job(store: Store, job: JobRecord) -> None:
    store.add_layer_scan(job.id, 0, SCAN)
    with store._write() as connection:
        counts = [select(func.count()).select_from(table) for table in (layer_scans, layer_distances)]
        assert [connection.execute(count).scalar_one() for count in counts] == [1, 4]
        connection.execute(delete(jobs).where(jobs.c.id == job.id))
        assert [connection.execute(count).scalar_one() for count in counts] == [0, 0]
