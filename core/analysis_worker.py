"""One warm process for what needs torch or UMAP but is no training: maps, comparisons, and checks of settings.

``python -m core.analysis_worker --database-url URL --runs FOLDER``. It lives as long as there is something to do and a
while longer, because the first map of a process costs far more than the next.
"""

import argparse
import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.errors import ManifoldError
from core.launchers.slots import ANALYSIS, analysis_slots, take_slot
from core.progress import written
from core.store import CheckRecord, ComparisonRecord, MapRecord, Store

log = logging.getLogger(__name__)

POLL_SECONDS = 0.3

LOG = "The details are in analysis/log.txt in the folder of the runs."

MakeMap = Callable[..., None]
"""Called as ``make_map(record, store=..., runs_folder=...)``; stores its result with `Store.finish_map`."""

Compare = Callable[..., dict[str, Any]]
"""Called as ``compare(record, store=..., runs_folder=...)``; what it returns is stored."""

Check = Callable[..., dict[str, Any]]
"""Called as ``check(record, store=..., runs_folder=...)``; what it returns is stored."""


def serve_requests(
    *, store: Store, runs_folder: Path, make_map: MakeMap, compare: Compare, check: Check, idle_seconds: float
) -> None:
    """Answer requests until none came for a while."""
    last = time.monotonic()
    while time.monotonic() - last < idle_seconds:
        if _answer_one(store=store, runs_folder=runs_folder, make_map=make_map, compare=compare, check=check):
            last = time.monotonic()
        else:
            time.sleep(POLL_SECONDS)


def _answer_one(*, store: Store, runs_folder: Path, make_map: MakeMap, compare: Compare, check: Check) -> bool:
    """Answer one request, checks first, for somebody waits in front of a form, and maps last, for they take longest.

    Return whether there was one.
    """
    asked = store.claim_check()
    if asked is not None:
        record = asked
        told = f"{'Measuring' if record.measure else 'Checking'} {record.config.get('name', 'settings')}"
        result, message = _attempt(told, lambda: check(record, store=store, runs_folder=runs_folder))
        if message:
            store.fail_check(asked.id, message)
        else:
            store.finish_check(asked.id, result)
        return True
    beside = store.claim_comparison()
    if beside is not None:
        told = f"Comparing the {beside.side} of {beside.run_id} with its teacher, step {beside.step}"
        result, message = _attempt(told, lambda: compare(beside, store=store, runs_folder=runs_folder))
        if message:
            store.fail_comparison(beside.id, message)
        else:
            store.finish_comparison(beside.id, result)
        return True
    wanted = store.claim_map()
    if wanted is None:
        return False
    when = "all steps" if wanted.step is None else f"step {wanted.step}"
    told = f"Drawing the {wanted.level} of the {wanted.side} of {wanted.run_id}, {when}"
    _, message = _attempt(told, lambda: make_map(wanted, store=store, runs_folder=runs_folder))
    # A map that was finished stays so; one that returned without a result has none.
    store.fail_map(wanted.id, message or f"The map was not made. {LOG}")
    return True


def _attempt(told: str, work: Callable[[], Any]) -> tuple[Any, str]:
    """Return the result and no message, or no result and a sentence; the log gets what was done, and the traceback."""
    log.info(told)
    began = time.monotonic()
    try:
        result = work()
    except ManifoldError as error:
        log.info("Failed: %s", error)
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - a request that fails must not end the worker
        traceback.print_exc()
        return None, f"The analysis met an error that it did not expect ({type(error).__name__}). {LOG}"
    log.info("Done in %.1f s", time.monotonic() - began)
    return result, ""


def _make_map(record: MapRecord, *, store: Store, runs_folder: Path) -> None:
    # Imported at the first request: a check needs no UMAP, and starting should be quick.
    from core.analysis import make_map

    make_map(record, store=store, runs_folder=runs_folder)


def _compare(record: ComparisonRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
    from core.analysis import compare

    return compare(record, store=store, runs_folder=runs_folder)


def _check(record: CheckRecord, *, store: Store, runs_folder: Path) -> dict[str, Any]:
    from core.analysis import check

    return check(record, store=store, runs_folder=runs_folder)


def main(
    arguments: Sequence[str] | None = None,
    *,
    make_map: MakeMap = _make_map,
    compare: Compare = _compare,
    check: Check = _check,
) -> int:
    """Run the analysis worker; return 0 also when another one is at work."""
    parser = argparse.ArgumentParser(
        prog="python -m core.analysis_worker", description="Make maps, comparisons and checks."
    )
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--runs", required=True, type=Path)
    parser.add_argument("--idle-seconds", type=float, default=900.0)
    options = parser.parse_args(arguments)

    slot = take_slot(analysis_slots(options.runs), ANALYSIS)
    if slot is None:
        return 0
    with slot, written(sys.stderr):
        try:
            store = Store.open(options.database_url)
            store.requeue_requests(f"The analysis worker died over this more than once. {LOG}")
            serve_requests(
                store=store,
                runs_folder=options.runs,
                make_map=make_map,
                compare=compare,
                check=check,
                idle_seconds=options.idle_seconds,
            )
        except ManifoldError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
