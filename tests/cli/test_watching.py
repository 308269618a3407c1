import io
import time
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from rich.console import Console

import core.cli.watching as watching
from core.cli.watching import follow, follow_maps
from core.config import RunConfig
from core.runs import JobRecord, Studio
from core.store import Store


@pytest.fixture(params=["terminal", "file"])
def screen(request: pytest.FixtureRequest) -> Console:
    return Console(file=io.StringIO(), force_terminal=request.param == "terminal", width=120)


def shown(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.fixture
def job(studio: Studio, configs: tuple[RunConfig, ...]) -> JobRecord:
    return studio.store.create_job("quickstart", configs)


@pytest.fixture
def meanwhile(studio: Studio) -> Iterator[Callable[[Callable[[Store], object]], None]]:
    """Return a function that does something to the store a second later, as another process would."""
    threads: list[Thread] = []

    def later(work: Callable[[Store], object]) -> None:
        def wait_and_work() -> None:
            time.sleep(1)
            other = Store.open(studio.store.url)
            work(other)
            other.close()

        threads.append(Thread(target=wait_and_work))
        threads[-1].start()

    yield later
    for thread in threads:
        thread.join()


def test_a_job_is_followed_to_its_end(
    studio: Studio, job: JobRecord, screen: Console, meanwhile: Callable[..., None]
) -> None:
    studio.store.job_state(job.id, "running")
    studio.store.progress(job.id, "Training + manifold", 420, 1000, 125.0)
    meanwhile(lambda store: store.job_state(job.id, "finished"))
    assert follow(studio, job.id, screen=screen).state == "finished"
    for part in ("Training + manifold", "42", "2 min 5 s left"):
        assert part in shown(screen)


@pytest.mark.parametrize(
    ("state", "said"), [("queued", "Waiting for its turn"), ("starting", "Starting"), ("stopping", "Stopping")]
)
def test_what_a_job_waits_for_is_said(
    studio: Studio, job: JobRecord, meanwhile: Callable[..., None], screen: Console, state: str, said: str
) -> None:
    studio.store.job_state(job.id, state)  # pyright: ignore[reportArgumentType]
    meanwhile(lambda store: store.job_state(job.id, "stopped", "by hand"))
    assert follow(studio, job.id, screen=screen).message == "by hand"
    assert said in shown(screen)


def test_a_watch_ends_when_what_it_serves_has_ended(studio: Studio, job: JobRecord, screen: Console) -> None:
    def gone() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(studio, job.id, screen=screen, alive=gone)
    assert studio.store.job(job.id).state == "queued"


@pytest.mark.usefixtures("busy")
def test_maps_are_waited_for_and_missing_ones_are_named(
    studio: Studio, job: JobRecord, screen: Console, meanwhile: Callable[..., None]
) -> None:
    run = studio.store.runs(job_id=job.id)[0]
    made, failed = (studio.store.request_map(run.id, "encoder", layer, 3, 10, "points") for layer in (1, 2))
    # Claimed here, so that no worker takes them.
    for _ in (made, failed):
        studio.store.claim_map()

    def answer(store: Store) -> None:
        store.finish_map(
            made.id, path="x", trustworthiness=0.9, points=1, points_total=1, how="learned projection", seconds=1.0
        )
        store.fail_map(failed.id, "There are no states [of] that step.")

    meanwhile(answer)
    follow_maps(studio, job.id, screen=screen)
    assert "Drawing maps (UMAP)" in shown(screen)
    assert f"No map of run {run.id}, encoder layer 2 at step 10: There are no states [of] that step." in shown(screen)
    assert "encoder layer 1" not in shown(screen)


@pytest.mark.usefixtures("busy")
def test_maps_that_take_too_long_are_left_to_the_studio(
    studio: Studio, job: JobRecord, screen: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAPS_SECONDS", 0.0)
    run = studio.store.runs(job_id=job.id)[0]
    studio.store.request_map(run.id, "encoder", 1, 3, 10, "points")
    follow_maps(studio, job.id, screen=screen)
    assert "the studio goes on with it" in shown(screen)
