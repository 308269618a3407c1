"""Every action of the engine looks at what whoever asks may do: a button that is not shown guards nothing."""

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from unittest.mock import sentinel

import pytest

import core.bundles
import core.reports.page
from core.access import NOBODY, OWNER, SAID, Access, Action
from core.errors import AccessError
from core.runs import Studio
from core.store import Store

READS = {
    "ablation",
    "close",
    "compare",
    "has_states",
    "log_path",
    "log_tail",
    "map_made_at",
    "map_places",
    "map_points",
    "plan",
    "probe",
    "quick_start",
    "stalls",
    "trouble",
    "unavailable_models",
    "wait",
    "wait_for_maps",
    # It writes down that a worker has died, and starts the one for what was asked for: nothing of its caller's.
    "refresh",
}
"""What changes nothing for anybody."""

ROOT = Path(__file__).parents[1]


@pytest.fixture
def studio(store: Store, tmp_path: Path) -> Iterator[Studio]:
    opened = Studio(store.url, tmp_path / "runs", access=NOBODY)
    yield opened
    opened.close()


def actions() -> dict[str, Callable[..., Any]]:
    """Return everything public that changes something: methods of the studio, and what carries jobs in and out."""
    methods = inspect.getmembers(Studio, inspect.isfunction)
    found = {name: method for name, method in methods if not name.startswith("_") and name not in READS}
    return found | {
        "import_bundle": core.bundles.import_bundle,
        "export_bundle": core.bundles.export_bundle,
        "freeze": core.reports.page.freeze,
    }


@pytest.mark.parametrize("name", actions())
def test_who_may_nothing_is_refused_before_anything_happens(studio: Studio, name: str, tmp_path: Path) -> None:
    action = actions()[name]
    required = [
        parameter
        for parameter in inspect.signature(action).parameters.values()
        if parameter.default is parameter.empty and parameter.name not in ("self", "studio")
    ]
    by_name = {each.name: getattr(sentinel, each.name) for each in required if each.kind is each.KEYWORD_ONLY}
    by_place = [getattr(sentinel, each.name) for each in required if each.kind is not each.KEYWORD_ONLY]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AccessError, match="manifold serve"):
        action(studio, *by_place, **by_name)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_said_to_only_read_is_there() -> None:
    assert {name for name, _ in inspect.getmembers(Studio, inspect.isfunction)} >= READS


def test_one_who_may_only_stop_can_do_nothing_else(studio: Studio) -> None:
    studio.access = Access("A guest", frozenset({"stop"}))
    with pytest.raises(AccessError, match=r"A guest may not put runs in the bin"):
        studio.put_in_bin(["r1"])
    with pytest.raises(AccessError, match="start jobs"):
        studio.start([], name="x")
    studio.access.require("stop")


def test_every_action_has_words_and_the_owner_may_all() -> None:
    assert set(SAID) == set(get_args(Action)) == OWNER.may
    assert not NOBODY.may


def test_pages_change_the_database_by_the_studio_only() -> None:
    """The store has no guard of its own: it is what the guarded actions, and workers, write with."""
    writers = {
        name
        for name, method in inspect.getmembers(Store, inspect.isfunction)
        if not name.startswith("_") and "_write()" in inspect.getsource(method)
    }
    assert {"set_notes", "put_in_bin", "create_job", "job_state"} <= writers
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in writers
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "store"
    ]
    assert found == []


def test_pages_open_the_studio_with_the_access_of_their_browser() -> None:
    calls = [
        node
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Studio"
    ]
    assert [[keyword.arg for keyword in call.keywords] for call in calls] == [["access"]]
