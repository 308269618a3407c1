import dataclasses
from typing import Any

from core.store import Estimate, JobEstimate, JobRecord, MapRecord, Store
from core.store.records import config_hash


def ask(store: Store, job: JobRecord, layer: int = 2) -> MapRecord:
    return store.request_map(store.runs(job_id=job.id)[0].id, "encoder", layer, 3, 10, "points")


def finish(store: Store, record: MapRecord) -> None:
    store.finish_map(
        record.id,
        path="r1/maps/1.safetensors",
        trustworthiness=0.9,
        points=5,
        points_total=7,
        how="learned projection",
        seconds=1.5,
    )


def test_a_map_goes_from_queued_to_running_to_finished(store: Store, job: JobRecord) -> None:
    assert store.claim_map() is None
    assert not store.requests_open()
    asked = ask(store, job)
    assert (asked.state, asked.attempts) == ("queued", 0)
    claimed = store.claim_map()
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.attempts) == (asked.id, "running", 1)
    assert store.claim_map() is None
    assert store.requests_open()
    finish(store, claimed)
    done = store.map(asked.id)
    assert (done.state, done.path, done.points, done.points_total) == ("finished", "r1/maps/1.safetensors", 5, 7)
    assert (done.trustworthiness, done.how, done.seconds) == (0.9, "learned projection", 1.5)
    assert not store.requests_open()


def test_the_map_that_waits_longest_is_made_first(store: Store, job: JobRecord) -> None:
    maps = [ask(store, job, layer) for layer in (2, 1, 0)]
    claimed = [store.claim_map() for _ in maps]
    assert [record.id for record in claimed if record] == [record.id for record in maps]
    assert [record.id for record in store.maps(maps[0].run_id)] == [record.id for record in maps]


def test_a_map_that_was_asked_for_before_is_not_made_twice(store: Store, job: JobRecord) -> None:
    asked = ask(store, job)
    claimed = store.claim_map()
    assert claimed is not None
    assert ask(store, job) == claimed
    finish(store, claimed)
    assert ask(store, job) == store.map(asked.id)
    assert store.claim_map() is None


def test_a_map_that_failed_is_tried_again_when_asked_for_again(store: Store, job: JobRecord) -> None:
    asked = ask(store, job)
    store.claim_map()
    store.fail_map(asked.id, "there are no states")
    assert store.map(asked.id).message == "there are no states"
    again = ask(store, job)
    assert (again.id, again.state, again.message, again.attempts) == (asked.id, "queued", "", 0)


def test_a_finished_map_cannot_fail_afterwards(store: Store, job: JobRecord) -> None:
    asked = ask(store, job)
    finish(store, asked)
    store.fail_map(asked.id, "too late")
    assert store.map(asked.id).state == "finished"


def test_a_check_goes_from_queued_to_an_answer(store: Store) -> None:
    assert store.claim_check() is None
    asked = store.request_check({"seed": 1})
    assert (asked.state, asked.config, asked.result) == ("queued", {"seed": 1}, None)
    claimed = store.claim_check()
    assert claimed is not None
    store.finish_check(claimed.id, {"adapters": 17})
    assert (store.check(asked.id).state, store.check(asked.id).result) == ("finished", {"adapters": 17})


def estimate(**fields: Any) -> Estimate:
    usual: dict[str, Any] = dict.fromkeys((field.name for field in dataclasses.fields(Estimate)), 1)
    usual |= {"device": "CPU", "busy": False}
    return Estimate(**(usual | fields))


def measured(store: Store, config: dict[str, Any], step_seconds: float, *, measure: bool = True) -> None:
    result = {"problems": [], "estimate": dataclasses.asdict(estimate(step_seconds=step_seconds))}
    store.add_check(config, result, measure=measure)


def test_the_newest_estimate_of_the_same_settings_is_found(store: Store) -> None:
    config = {"seed": 1, "name": "a"}
    assert store.newest_estimate(config_hash(config)) is None
    measured(store, config, 1.0)
    measured(store, config, 2.0)
    measured(store, {"seed": 2}, 3.0)
    store.add_check(config, {"problems": [{"where": "disk", "message": "full"}]}, measure=True)
    store.request_check(config, measure=True)
    found = store.newest_estimate(config_hash({"name": "a", "seed": 1}))
    assert found == estimate(step_seconds=2.0)


def test_a_check_is_fast_unless_time_is_asked_for(store: Store) -> None:
    assert not store.request_check({}).measure
    assert store.request_check({}, measure=True).measure


def test_a_job_takes_what_its_runs_take_and_once_what_they_share() -> None:
    first = estimate(shared_seconds=10, run_seconds=5, peak_memory=7, listening_memory=9, adapter_bytes=2)
    second = estimate(shared_seconds=10, run_seconds=6, peak_memory=8, listening_memory=9, adapter_bytes=3)
    job = JobEstimate.of([first, second])
    assert (job.seconds, job.memory) == (21, 9)
    assert job.disk == 1 + 1 + (2 + 1) + (3 + 1)  # audio, the teacher's states, adapters and states of each


def test_gpus_share_the_time_of_a_job_and_processes_of_a_cpu_its_memory() -> None:
    def job(device: str, devices: int) -> tuple[float, int]:
        same: dict[str, Any] = {"device": device, "devices": devices, "peak_memory": 8, "listening_memory": 5}
        found = JobEstimate.of([estimate(**same, shared_seconds=10, run_seconds=seconds) for seconds in (2, 2, 4)])
        return found.seconds, found.memory

    assert [job("CPU", devices) for devices in (1, 2, 9)] == [(18, 8), (18, 16), (18, 24)]
    assert [job("A GPU", devices) for devices in (1, 2, 9)] == [(18, 8), (14, 8), (14, 8)]


def test_devices_share_the_steps_of_a_single_run_and_one_measures_it_alone() -> None:
    def job(device: str, parts: int) -> tuple[float, int]:
        one = estimate(
            device=device,
            devices=4,
            parts=parts,
            shared_seconds=10,
            training_seconds=8,
            run_seconds=11,
            peak_memory=8,
            listening_memory=5,
        )
        found = JobEstimate.of([one])
        return found.seconds, found.memory

    assert [job("A GPU", parts) for parts in (1, 2, 4)] == [(21, 8), (17, 8), (15, 8)]
    assert [job("CPU", parts) for parts in (1, 2, 4)] == [(21, 8), (24, 16), (30, 32)]


def test_a_check_can_fail_with_a_sentence(store: Store) -> None:
    asked = store.request_check({})
    store.claim_check()
    store.fail_check(asked.id, "no such model")
    assert (store.check(asked.id).state, store.check(asked.id).message) == ("failed", "no such model")


def test_what_a_dead_worker_left_is_tried_once_more_and_then_given_up(store: Store, job: JobRecord) -> None:
    asked = ask(store, job)
    check = store.request_check({})
    for expected in ("queued", "failed"):
        store.claim_map()
        store.claim_check()
        store.requeue_requests("It died twice over this.")
        assert store.map(asked.id).state == store.check(check.id).state == expected
    assert store.map(asked.id).message == "It died twice over this."


def test_maps_of_all_layers_and_steps_are_asked_for_once(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    first = store.request_map(run.id, "encoder", None, None, None, "points")
    assert (first.student_layer, first.teacher_layer, first.step) == (None, None, None)
    assert store.request_map(run.id, "encoder", None, None, None, "points").id == first.id
    assert store.request_map(run.id, "encoder", None, None, None, "utterances").id != first.id
    assert store.request_map(run.id, "encoder", 2, 3, 10, "points").id != first.id


def test_what_is_asked_for_of_each_teacher_is_kept_apart(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    maps = [store.request_map(run.id, "encoder", 2, 3, 10, "points", teacher_number=number) for number in (0, 1, 1)]
    beside = [store.request_comparison(run.id, "encoder", 10, teacher_number=number) for number in (0, 1, 1)]
    for asked in (maps, beside):
        assert [item.teacher_number for item in asked] == [0, 1, 1]
        assert asked[0].id != asked[1].id == asked[2].id


def test_a_comparison_waits_is_made_and_is_kept(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    asked = store.request_comparison(run.id, "encoder", 10)
    assert (asked.state, asked.result) == ("queued", None)
    assert store.requests_open()
    claimed = store.claim_comparison()
    assert claimed is not None
    assert (claimed.id, claimed.state) == (asked.id, "running")
    store.finish_comparison(asked.id, {"points": 3})
    assert store.comparisons(run.id) == [store.request_comparison(run.id, "encoder", 10)]
    assert store.comparison(asked.id).result == {"points": 3}
    assert not store.requests_open()


def test_a_comparison_that_failed_is_made_again_when_it_is_asked_for_again(store: Store, job: JobRecord) -> None:
    run = store.runs(job_id=job.id)[0]
    asked = store.request_comparison(run.id, "decoder", 0)
    store.claim_comparison()
    store.fail_comparison(asked.id, "Too few points.")
    assert store.comparison(asked.id).message == "Too few points."
    assert store.request_comparison(run.id, "decoder", 0).state == "queued"
