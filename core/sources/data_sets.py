"""Recorded speech that can be had without a data hub, one line each: what it is, and how it comes here."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import DataError, NotFoundError, StoreError, quoted
from core.paths import is_file
from core.sources.asterisk import ENGLISH, Prompts, asterisk_speech, download_prompts, quick_start_manifest
from core.sources.real import download_clips, real_speech


@dataclass(frozen=True)
class DataSet:
    """Speech with transcripts that is used and not redistributed.

    Attributes:
        name: What it is called on the command line.
        summary: What it is, in a few words.
        licence: Under which it may be used.
        credit: Whom to name.
        utterances: How many clips, as for the three below.
        speakers: How many voices.
        words: Of the transcripts, separated by spaces.
        seconds: Of audio.
        download_bytes: What is fetched where it is not here.
        manifest: Of all clips, below the folder of data.
        quick_start: Of the clips that the quick start tests.
        write: Writes the manifests from files that are on this machine, and returns the first, or None without files.
        download: Fetches the files.
    """

    name: str
    summary: str
    licence: str
    credit: str
    utterances: int
    speakers: int
    words: int
    seconds: float
    download_bytes: int
    manifest: Path
    quick_start: Path
    write: Callable[[Path], Path | None]
    download: Callable[[Path], None]

    def here(self, folder: Path) -> bool:
        """Return whether its manifest is written below a folder of data."""
        return is_file(folder / self.manifest)


def _asterisk(
    prompts: Prompts, summary: str, credit: str, *, counts: tuple[int, int], seconds: float, download_bytes: int
) -> DataSet:
    manifest = Path(prompts.name) / f"{prompts.name}.jsonl"
    return DataSet(
        name=prompts.name,
        summary=summary,
        licence=prompts.licence,
        credit=credit,
        utterances=counts[0],
        speakers=1,
        words=counts[1],
        seconds=seconds,
        download_bytes=download_bytes,
        manifest=manifest,
        quick_start=quick_start_manifest(manifest),
        write=lambda folder: asterisk_speech(folder, prompts),
        download=lambda folder: download_prompts(folder, prompts),
    )


DATA_SETS = (
    _asterisk(
        ENGLISH,
        "telephone prompts read in a studio, US English",
        "Allison Smith; Digium, Inc.",
        counts=(227, 1989),
        seconds=792.4,
        download_bytes=10_588_704,
    ),
    DataSet(
        name="recorded",
        summary="test clips of pocketsphinx: a LibriVox reading, playing cards, commands",
        licence="BSD; the reading is in the public domain",
        credit="Carnegie Mellon University; LibriVox",
        utterances=12,
        speakers=3,
        words=100,
        seconds=40.0,
        download_bytes=34_158_862,
        manifest=Path("real") / "real.jsonl",
        quick_start=Path("real") / "real.jsonl",
        write=real_speech,
        download=download_clips,
    ),
)
"""All of them; the quick start tests them in this order."""


def data_set(name: str) -> DataSet:
    """Return the data set that is called so.

    Raises:
        NotFoundError: If there is none.
    """
    found = next((each for each in DATA_SETS if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in DATA_SETS)
        raise NotFoundError(f"There is no data set {quoted(name)}. There are {names}.")
    return found


def get(wanted: DataSet, folder: Path) -> Path:
    """Return the manifest of a data set, fetching it into a folder where it is not here.

    Args:
        wanted: Which.
        folder: Of data; made where it is not there.

    Raises:
        DataError: If it cannot be had, with what can be done.
        StoreError: If the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be made ({error.strerror}). Give another --runs.") from error
    found = wanted.write(folder)
    if found is None:
        wanted.download(folder)
        found = wanted.write(folder)
    if found is None:
        raise DataError(f"{wanted.name} was fetched, and its files are not in {folder}. Ask again.")
    return found


def quick_start_tests(folder: Path) -> tuple[Path, ...]:
    """Return the manifests of recorded speech that the quick start tests: of each data set that is on this machine.

    Nothing is fetched; manifests are written where the files are here. Files that cannot be used are as none: `get`
    says what is wrong with them.
    """
    found = []
    for each in DATA_SETS:
        with suppress(DataError):
            if each.write(folder) is not None:
                found.append(folder / each.quick_start)
    return tuple(found)
