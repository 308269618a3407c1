from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import DataError, NotFoundError, StoreError
from core.sources import data_sets
from core.sources.data_sets import DATA_SETS, DataSet, data_set, get, quick_start_tests

Make = Callable[..., DataSet]


@pytest.fixture
def make() -> Make:
    """Return what makes a data set whose files are one text file, fetched by writing it."""

    def made(name: str, *, fetched: bool = True, damaged: bool = False) -> DataSet:
        manifest = Path(name) / "all.jsonl"

        def write(folder: Path) -> Path | None:
            if damaged:
                raise DataError(f"{name} is damaged.")
            if not (folder / f"{name}.txt").exists():
                return None
            (folder / name).mkdir(exist_ok=True)
            (folder / manifest).write_text((folder / f"{name}.txt").read_text())
            return folder / manifest

        def download(folder: Path) -> None:
            if not fetched:
                raise DataError("There is no network.")
            (folder / f"{name}.txt").write_text("one")

        quick_start = Path(name) / "some.jsonl"
        return replace(
            DATA_SETS[0], name=name, manifest=manifest, quick_start=quick_start, write=write, download=download
        )

    return made


def test_names_differ_and_each_is_found_by_its_own() -> None:
    assert [data_set(each.name) for each in DATA_SETS] == list(DATA_SETS)
    assert len({each.name for each in DATA_SETS}) == len(DATA_SETS)
    with pytest.raises(NotFoundError, match=r"no data set 'asterisk-xx'\. There are asterisk-en, recorded\."):
        data_set("asterisk-xx")


def test_test_sets_of_the_quick_start_have_names_of_their_own() -> None:
    names = [each.quick_start.stem for each in DATA_SETS]
    assert names == ["asterisk", "real"]


def test_what_is_not_here_is_fetched_and_what_is_here_is_not(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "data"
    wanted = make("a")
    assert not wanted.here(folder)
    assert get(wanted, folder) == folder / "a" / "all.jsonl"
    assert wanted.here(folder)
    (folder / "a.txt").write_text("two")
    assert get(make("a", fetched=False), folder).read_text() == "two"


def test_what_cannot_be_fetched_is_told(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no network"):
        get(make("a", fetched=False), tmp_path)


def test_a_folder_that_cannot_be_made_is_a_store_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StoreError, match="Give another --runs"):
        get(make("a"), tmp_path / "runs" / "data")


def test_the_quick_start_takes_what_is_here_fetches_nothing_and_passes_over_damage(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (make("absent"), make("here"), make("damaged", damaged=True))
    monkeypatch.setattr(data_sets, "DATA_SETS", sets)
    (tmp_path / "here.txt").write_text("one")
    assert quick_start_tests(tmp_path) == (tmp_path / "here" / "some.jsonl",)
    assert not (tmp_path / "absent.txt").exists()
