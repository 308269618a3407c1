"""What users are told about errors that nobody raised on purpose."""

import errno
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import soundfile
import torch

from core.errors import MOST_TOLD, DataError, ModelError, Problem, sentence_of

LARGE = torch.zeros(2_000_000)


def _zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("a", LARGE.numpy().tobytes())


def _sqlite(folder: Path) -> None:
    connection = sqlite3.connect(folder / "a.db")
    try:
        connection.execute("CREATE TABLE a (a)")
        connection.execute("INSERT INTO a VALUES (zeroblob(9000000))")
        connection.commit()
    finally:
        connection.close()


WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda folder: torch.save(LARGE, folder / "a.pt"),
    "safetensors of torch": lambda folder: safetensors.torch.save_file({"a": LARGE}, folder / "a.safetensors"),
    "safetensors of numpy": lambda folder: safetensors.numpy.save_file({"a": LARGE.numpy()}, folder / "a.safetensors"),
    "numpy": lambda folder: np.save(folder / "a.npy", LARGE.numpy()),
    "wav": lambda folder: soundfile.write(folder / "a.wav", np.zeros(3_000_000), 16_000),
    "flac": lambda folder: soundfile.write(folder / "a.flac", np.random.default_rng(0).normal(size=3_000_000), 16_000),
    "zip": _zip,
    "sqlite": _sqlite,
    "text": lambda folder: (folder / "a.txt").write_text("x" * 9_000_000),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_whoever_writes(small_disk: Path, writer: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each library has its own
        WRITERS[writer](small_disk)
    said = sentence_of(raised.value)
    assert said.startswith("The disk is full.")
    assert "Free some space" in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/runs/a"),
            "The disk is full. /runs/a could not be written.",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "raise the quota"),
        (
            OSError(errno.EROFS, "Read-only file system", "/runs/a"),
            "/runs/a could not be written: its disk is read-only",
        ),
        (OSError(errno.EFBIG, "File too large"), "ulimit"),
        (RuntimeError("I/O error: Disk quota exceeded (os error 122)"), "raise the quota"),
    ],
)
def test_what_keeps_a_disk_from_being_written_is_told(error: Exception, said: str) -> None:
    assert said in sentence_of(error)
    outer = RuntimeError("the checkpoint was not written")
    outer.__cause__ = error
    assert said in sentence_of(outer)


def test_other_errors_are_not_blamed_on_the_disk() -> None:
    for error in (OSError(errno.ENOENT, "No such file"), ValueError("full"), soundfile.LibsndfileError(2, "Error: ")):
        assert "did not expect" in sentence_of(error)
    assert sentence_of(ModelError("No such model.")) == "No such model."


def test_of_very_many_mistakes_the_first_are_told_and_the_others_counted() -> None:
    rows = [Problem(f"rows.jsonl:{number}", "holds samples that are not numbers") for number in range(10_000)]
    error = DataError("Rows that cannot be used:", rows)
    assert error.problems[:-1] == rows[:MOST_TOLD]
    assert str(error.problems[-1]) == f"and {10_000 - MOST_TOLD:,} more of the kind"
    assert len(str(error)) < 10_000
    assert DataError("", rows[:MOST_TOLD]).problems == rows[:MOST_TOLD]
