from pathlib import Path

from core.config import read_preset
from core.leftovers import remove_unfinished
from core.runs import Studio
from core.store import Store


def begun(folder: Path, run_id: str) -> Path:
    """Leave what a killed process leaves that was saving adapters."""
    adapters = folder / run_id / "adapters"
    (adapters / "step-000010").mkdir(parents=True)
    half = adapters / ".writing-abcd"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    return half


def test_what_ended_runs_had_begun_to_write_goes_away_and_nothing_else(store: Store, tmp_path: Path) -> None:
    configs = read_preset("one-voice")[1][:1]
    ended, active = (store.create_job("a job", configs) for _ in range(2))
    store.job_state(ended.id, "interrupted", "It was killed.")
    of_ended, of_active = (begun(tmp_path, store.runs(job_id=job.id)[0].id) for job in (ended, active))
    of_nobody = begun(tmp_path, "r0000000")
    assert remove_unfinished(tmp_path, store) == [of_ended]
    assert not of_ended.exists()
    assert (of_ended.parent / "step-000010").is_dir()
    assert of_active.is_dir()
    assert of_nobody.is_dir()


def test_a_studio_that_is_opened_removes_it(store: Store, tmp_path: Path) -> None:
    job = store.create_job("a job", read_preset("one-voice")[1][:1])
    store.job_state(job.id, "interrupted", "It was killed.")
    half = begun(tmp_path / "runs", store.runs(job_id=job.id)[0].id)
    Studio(store.url, tmp_path / "runs").close()
    assert not half.exists()
