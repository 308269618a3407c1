"""Curves as they are read for pictures."""

from math import isnan, nan

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.store import JobRecord, Store


def test_all_names_of_curves_are_found_once(store: Store, job: JobRecord) -> None:
    first, second, *_ = (run.id for run in store.runs(job_id=job.id))
    assert store.curve_names([first, second]) == []
    for step in range(3):
        store.add_metrics(first, step, {"loss/total": 1.0, "a": 1.0})
        store.add_metrics(second, step, {"loss/total": 1.0, "z": 1.0})
    assert store.curve_names([first, second]) == ["a", "loss/total", "z"]
    assert store.curve_names([second]) == ["loss/total", "z"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.sets(st.integers(0, 2000), min_size=1, max_size=60), most=st.integers(1, 40))
def test_a_curve_keeps_its_last_point_and_never_has_more_points_than_it_may(
    store: Store, job: JobRecord, steps: set[int], most: int
) -> None:
    run = store.runs(job_id=job.id)[0].id
    name = f"{hash((tuple(sorted(steps)), most))}"
    store.add_curves(run, {name: [(step, step / 2) for step in steps]})
    found = store.curves([run], [name, "no such curve"], most=most)
    assert 1 <= len(found) <= max(most, 2)
    assert found[-1].step == max(steps)
    assert [point.step for point in found] == sorted({point.step for point in found} & steps)
    assert all(point.value == point.step / 2 for point in found)


def test_a_short_curve_is_whole_with_what_is_not_finite(store: Store, job: JobRecord) -> None:
    first, second, *_ = (run.id for run in store.runs(job_id=job.id))
    store.add_metrics(first, 1, {"b": 1.0, "a": nan})
    store.add_metrics(first, 2, {"b": 2.0})
    store.add_metrics(second, 1, {"b": 3.0})
    found = store.curves([second, first], ["b", "a"])
    assert [(point.run_id, point.name, point.step) for point in found] == [
        (second, "b", 1),
        (first, "b", 1),
        (first, "b", 2),
        (first, "a", 1),
    ]
    assert isnan(found[-1].value)
