import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from core.cache import Cache, Recipe, Shelf, utterance_key
from core.cache.shelves import Entry
from core.errors import StoreError

RECIPE = Recipe("tiny", "abc", "states", {"audio_context": 10.0, "prompt": [1, 2]})


def entry(seed: int) -> dict[str, np.ndarray]:
    """Return an answer with as many rows as its number says, and a second array of other lengths."""
    numbers = np.random.default_rng(seed)
    return {
        "states": numbers.normal(size=(seed + 1, 4)).astype(np.float32),
        "tokens": numbers.integers(0, 60_000, size=(2 * seed, 3)).astype(np.uint16),
    }


def entries(*seeds: int) -> dict[str, Entry]:
    return {f"key-{seed}": entry(seed) for seed in seeds}


def never(keys: list[str]) -> Mapping[str, Entry]:
    raise AssertionError(f"the teacher was asked for {keys}")


def same(mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> bool:
    return mine.keys() == theirs.keys() and all(
        np.array_equal(mine[name], theirs[name]) and mine[name].dtype == theirs[name].dtype for name in theirs
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_what_was_written_is_read_by_whoever_comes_later(cache: Cache) -> None:
    cache.shelf(RECIPE).write(entries(0, 1, 2))
    cache.shelf(RECIPE).write(entries(5))
    later = cache.shelf(Recipe("tiny", "abc", "states", {"prompt": [1, 2], "audio_context": 10.0}))
    assert later.missing(["key-2", "key-7", "key-5", "key-7"]) == ["key-7"]
    for seed in (0, 1, 2, 5):
        assert same(later.read(f"key-{seed}"), entry(seed))


@pytest.mark.parametrize(
    "other",
    [
        Recipe("tiny", "other weights", "states", RECIPE.settings),
        Recipe("tiny", "abc", "top tokens", RECIPE.settings),
        Recipe("tiny", "abc", "states", {**RECIPE.settings, "audio_context": 15.0}),
    ],
)
def test_another_recipe_reads_nothing_of_it(cache: Cache, other: Recipe) -> None:
    cache.shelf(RECIPE).write(entries(1))
    assert cache.shelf(other).missing(["key-1"]) == ["key-1"]


def test_columns_that_lie_apart_in_memory_come_back_as_rows(cache: Cache) -> None:
    # Trap: states after a convolution are a transposed view, and safetensors writes memory as it lies.
    turned = np.arange(12, dtype=np.float32).reshape(3, 4).T
    cache.shelf(RECIPE).write({"key-1": {"states": turned}, "key-2": {"states": turned + 1}})
    np.testing.assert_array_equal(cache.shelf(RECIPE).read("key-1")["states"], turned)
    np.testing.assert_array_equal(cache.shelf(RECIPE).read("key-2")["states"], turned + 1)


def test_the_same_sound_with_another_text_is_another_utterance(tmp_path: Path) -> None:
    first, second = tmp_path / "a.flac", tmp_path / "b.flac"
    first.write_bytes(b"sound")
    second.write_bytes(b"sound")
    assert utterance_key(first) == utterance_key(second)
    assert (
        len({utterance_key(first), utterance_key(first, [1, 2]), utterance_key(first, [12]), utterance_key(first, [])})
        == 4
    )
    with pytest.raises(StoreError, match="cannot be read"):
        utterance_key(tmp_path / "gone.flac")


def test_a_hit_asks_nobody_and_a_miss_asks_for_what_is_missing_alone(cache: Cache) -> None:
    asked: list[list[str]] = []

    def make(keys: list[str]) -> Mapping[str, Entry]:
        asked.append(keys)
        return {key: entry(int(key.removeprefix("key-"))) for key in keys}

    keys = [f"key-{seed}" for seed in (3, 1, 4, 1, 5)]
    found = list(cache.shelf(RECIPE).fetch(keys, make, at_once=2))
    assert asked == [["key-3", "key-1"], ["key-4", "key-5"]]
    assert [key for key, _ in found] == keys
    assert same(found[3][1], entry(1))
    assert [key for key, _ in cache.shelf(RECIPE).fetch(keys, never)] == keys
    list(cache.shelf(RECIPE).fetch([*keys, "key-2"], make))
    assert asked[2:] == [["key-2"]]


def test_who_is_killed_on_the_way_goes_on_where_it_was(cache: Cache) -> None:
    def dies_at_the_second_batch(keys: list[str]) -> Mapping[str, Entry]:
        if "key-3" in keys:
            raise KeyboardInterrupt
        return {key: entry(int(key[4:])) for key in keys}

    keys = [f"key-{seed}" for seed in range(1, 5)]
    with pytest.raises(KeyboardInterrupt):
        list(cache.shelf(RECIPE).fetch(keys, dies_at_the_second_batch, at_once=2))
    assert cache.shelf(RECIPE).missing(keys) == ["key-3", "key-4"]


def shards(cache: Cache) -> list[Path]:
    return sorted(cache.folder.glob("*/*.safetensors"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [flip, lambda path: os.truncate(path, 40), Path.unlink], ids=["bit", "cut", "gone"])
def test_a_shard_that_was_damaged_is_noticed_thrown_away_and_made_again(cache: Cache, harm) -> None:
    cache.shelf(RECIPE).write(entries(1, 2))
    (damaged,) = shards(cache)
    cache.shelf(RECIPE).write(entries(3))
    harm(damaged)
    shelf = cache.shelf(RECIPE)
    assert shelf.missing(["key-1", "key-2", "key-3"]) == ["key-1", "key-2"]
    assert damaged not in shards(cache)
    made = dict(shelf.fetch(["key-1", "key-2", "key-3"], lambda keys: entries(*(int(key[4:]) for key in keys))))
    assert all(same(made[f"key-{seed}"], entry(seed)) for seed in (1, 2, 3))
    assert cache.shelf(RECIPE).missing(["key-1", "key-2", "key-3"]) == []


def test_reading_a_damaged_shard_returns_nothing_wrong(cache: Cache) -> None:
    cache.shelf(RECIPE).write(entries(1))
    flip(shards(cache)[0])
    with pytest.raises(KeyError):
        cache.shelf(RECIPE).read("key-1")


def test_half_a_shard_is_none(cache: Cache) -> None:
    # As a process leaves them that is killed while it writes: a half file, data without index, half an index.
    cache.shelf(RECIPE).write(entries(1))
    folder = cache.folder / RECIPE.key
    (folder / ".half-x").write_bytes(b"1234")
    (folder / "lonely.safetensors").write_bytes(b"1234")
    (folder / "torn.json").write_text('{"sha256": "12')
    shelf = cache.shelf(RECIPE)
    assert shelf.missing(["key-1"]) == []
    assert [record.entries for record in cache.records()] == [1]


def test_two_processes_that_add_the_same_do_not_disturb_each_other(cache: Cache) -> None:
    mine, theirs = cache.shelf(RECIPE), cache.shelf(RECIPE)
    mine.write(entries(1, 2))
    theirs.write(entries(1, 2))
    theirs.write(entries(3))
    mine.look()
    assert mine.missing(["key-1", "key-2", "key-3"]) == []
    assert same(mine.read("key-3"), entry(3))


def test_a_disk_that_refuses_leaves_nothing_half_written(cache: Cache) -> None:
    cache.folder.parent.mkdir(exist_ok=True)
    cache.folder.write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        cache.shelf(RECIPE).write(entries(1))


def used(shelf: Shelf, cache: Cache, days_ago: float) -> None:
    moment = time.time() - days_ago * 86_400
    os.utime(cache.folder / shelf.recipe.key / "used", (moment, moment))


def test_its_size_is_told_and_the_longest_unused_goes_first(cache: Cache) -> None:
    assert cache.records() == []
    for number, days in enumerate((3, 1, 9)):
        shelf = cache.shelf(Recipe("tiny", str(number), "states"))
        shelf.write(entries(*range(1, 4 + number)))
        used(shelf, cache, days)
    records = cache.records()
    assert [record.recipe.revision for record in records] == ["1", "0", "2"]
    assert [record.entries for record in records] == [4, 3, 5]
    on_disk = {path.name: sum(file.stat().st_size for file in path.iterdir()) for path in cache.folder.iterdir()}
    assert {record.recipe.key: record.size for record in records} == on_disk

    assert cache.prune(keep_bytes=sum(on_disk.values())) == []
    thrown = cache.prune(keep_bytes=records[0].size + records[1].size)
    assert [record.recipe.revision for record in thrown] == ["2"]
    assert [record.recipe.revision for record in cache.prune(unused_seconds=2 * 86_400)] == ["0"]
    assert [path.name for path in cache.folder.iterdir()] == [records[0].recipe.key]


def test_an_index_is_plain_json(cache: Cache) -> None:
    cache.shelf(RECIPE).write(entries(1, 2))
    (path,) = [path for path in (cache.folder / RECIPE.key).glob("*.json") if path.name != "recipe.json"]
    index = json.loads(path.read_text())
    assert index["keys"] == ["key-1", "key-2"]
    assert index["offsets"] == {"states": [0, 2, 5], "tokens": [0, 2, 6]}
