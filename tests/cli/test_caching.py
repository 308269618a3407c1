import json
from pathlib import Path

import numpy as np

from core.cache import Cache, Recipe
from tests.cli.conftest import Command


def filled(runs: Path) -> Cache:
    cache = Cache(runs / "cache")
    for model in ("tiny", "base"):
        entry = {"states": np.zeros((100, 8), dtype=np.float32)}
        recipe = Recipe(model, "1", "top tokens", {"audio_context": 15.0})
        cache.shelf(recipe).write({"a": entry, "b": entry}, audio_seconds=4.0)
    return cache


def test_what_is_kept_is_listed_with_its_size(manifold: Command, tmp_path: Path) -> None:
    code, output, _ = manifold("cache", "list", "--runs", str(tmp_path))
    assert code == 0
    assert "Nothing is kept" in output
    cache = filled(tmp_path)
    output = manifold("cache", "list", "--runs", str(tmp_path))[1]
    assert "tiny" in output
    assert "base" in output
    assert f"{sum(record.size for record in cache.records()) / 1e3:.0f} kB in" in output
    assert "15 s" in output
    (size,) = {record.size for record in cache.records() if record.recipe.model == "tiny"}
    assert f"{size / 4 / 1024:.2f}" in output
    told = json.loads(manifold("cache", "list", "--json", "--runs", str(tmp_path))[1])
    assert {row["recipe"]["model"]: row["entries"] for row in told} == {"tiny": 2, "base": 2}
    assert {row["audio_seconds"] for row in told} == {4.0}


def test_what_is_kept_is_thrown_away(manifold: Command, tmp_path: Path) -> None:
    cache = filled(tmp_path)
    output = manifold("cache", "prune", "--keep", "1", "--runs", str(tmp_path))[1]
    assert output.startswith("0 thrown away")
    assert len(json.loads(manifold("cache", "prune", "--json", "--runs", str(tmp_path))[1])) == 2
    assert cache.records() == []
