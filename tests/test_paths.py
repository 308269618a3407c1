"""Paths that somebody wrote: folders that one may not enter, names that cannot be, loops, pipes and devices."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.config import read_run
from core.errors import ConfigError, DataError, ModelError
from core.paths import exists, expanded, first_there, is_file, is_folder, no_file, resolved
from core.scaling.shapes import shape_of
from core.sources.manifest import read_manifest
from core.weights.files import read_folder

NOBODY = 65_534


@contextmanager
def somebody_else() -> Iterator[None]:
    """Act as a user without rights; root may enter every folder."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed() -> Iterator[Path]:
    """Return a folder that holds files and that nobody else may enter; others may see that it is there."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "closed"
        home.mkdir()
        (home / "a.jsonl").write_text("{}")
        (home / "config.json").write_text("{}")
        (Path(folder) / "secret.jsonl").write_text("{}")
        (Path(folder) / "secret.jsonl").chmod(0)
        home.chmod(0)
        yield home
        home.chmod(0o700)


def test_a_folder_that_may_not_be_entered_is_named_and_raises_nothing(closed: Path) -> None:
    with somebody_else():
        inside, secret = closed / "a.jsonl", closed.parent / "secret.jsonl"
        assert [look(inside) for look in (is_file, is_folder, exists)] == [False] * 3
        assert no_file(inside, "manifest") == (
            f"There is no manifest {inside} (it is in a folder that you may not enter)"
        )
        assert no_file(secret, "manifest") == f"There is no manifest {secret} (you may not read it)"
        assert is_file(secret)
        assert is_folder(closed)
        assert first_there(closed / "x" / "y") == closed
        with pytest.raises(ConfigError, match="you may not enter"):
            read_run(inside)
        with pytest.raises(DataError, match="you may not enter"):
            read_manifest(inside)
        with pytest.raises(ModelError, match="You may not enter the folder"):
            read_folder(closed, origin="")
        with pytest.raises(ConfigError, match="shape of a model is not known"):
            shape_of(str(closed))


def test_a_row_whose_audio_may_not_be_seen_is_named_beside_the_others(closed: Path) -> None:
    path = closed.parent / "rows.jsonl"
    rows = [str(closed / "a.flac"), "n" * 5_000, "missing.flac", "a\\ud800.flac", str(closed.parent / "secret.jsonl")]
    path.write_text("".join(f'{{"audio_filepath": "{name}", "text": "words"}}\n' for name in rows))
    with somebody_else(), pytest.raises(DataError) as caught:
        read_manifest(path)
    told = [(problem.where, problem.message) for problem in caught.value.problems]
    assert [where for where, _ in told] == [f"{path}:{number}" for number in range(1, 6)]
    for (_, message), words in zip(
        told,
        ("you may not enter", "name is too long", "no audio file", "cannot be written", "you may not read it"),
        strict=True,
    ):
        assert words in message
        assert len(message) < 500


def test_what_is_no_file_is_told_by_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    special = "it is a pipe, a socket or a device"
    for path, why in {
        tmp_path / "pipe": special,
        tmp_path / "socket": special,
        Path("/dev/zero"): special,
        tmp_path: "it is a folder",
        tmp_path / "loop": "it is a link that leads to itself",
        tmp_path / "loop" / "below": "it is a link that leads to itself",
        tmp_path / ("n" * 300): "the name is too long",
        Path("/".join(["n"] * 5_000)): "the name is too long",
        tmp_path / "zero\0": "no file can have this name",
        tmp_path / "half\ud800": "no file can have this name",
    }.items():
        assert not is_file(path)
        said = no_file(path, "clip")
        assert said is not None
        assert said.startswith("There is no clip ")
        assert said.endswith(f" ({why})")
        assert said.isprintable()
        assert len(said) < 400
        resolved(path)
    for path in (tmp_path / "none", tmp_path / "file" / "below"):
        assert no_file(path, "clip") == f"There is no clip {path}"
    assert no_file(tmp_path / "file", "clip") is None


def test_a_home_that_nobody_has_is_a_name_like_any_other() -> None:
    assert expanded("~no-such-user/a.jsonl") == Path("~no-such-user/a.jsonl")
    assert expanded("~/a.jsonl") == Path.home() / "a.jsonl"
