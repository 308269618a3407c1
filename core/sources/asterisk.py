"""Real speech that Debian has: the prompts of the telephone system Asterisk, read in a studio by one voice a language.

Texts and audio (G.722, 16 kHz) are two packages. They are used where they are installed, or fetched by
`download_prompts`; nothing of them comes with the project. English: Allison Smith, CC-BY-SA-3.0, paid by Digium.

Two manifests are written: all clips that are fit for a test, and a draw of them for the quick start:

    FOLDER/asterisk-en/asterisk-en.jsonl, asterisk.jsonl, audio/conf-full.flac ...

A clip is fit if its text is at least four words without stage directions or signs that are read out as words, and if
it lasts 0.3 to 15 s. What a recogniser makes of a clip plays no part.
"""

import gzip
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from core.audio import SAMPLE_RATE, write_flac
from core.errors import DataError
from core.paths import is_file
from core.sources.debian import download_packages, package_file, read_package
from core.sources.manifest import make_audio_folder, write_manifest
from core.sources.utterance import Utterance

LEAST_WORDS = 4
SHORTEST_SECONDS, LONGEST_SECONDS = 0.3, 15.0
NOT_SAID = re.compile(r"[\[\](){}<>*#]")
"""Brackets hold what is heard besides words, or notes; * and # are read as one of several words."""

DRAW = 110
DRAW_SECONDS = 10.0
"""How many clips the quick start's manifest has, and how long they are at most."""

DELAY = 22
"""Samples by which the filters of G.722's encoder and decoder delay the sound (ITU-T G.722: a QMF of 24 taps)."""

LARGEST_BYTES = 1_000_000


@dataclass(frozen=True)
class Prompts:
    """The prompts of a language.

    Attributes:
        language: As in the packages' names.
        voice: Folder of its sounds; stands for the speaker.
        licence: Of texts and audio.
        content: SHA-256 of texts and audio, the same in each package of this version, whoever built it; see `_content`.
        spellings: Words that are misspelt in the texts, and how they are written.
    """

    language: str
    voice: str
    licence: str
    content: str
    spellings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Return how the data set and its whole manifest are called."""
        return f"asterisk-{self.language}"

    @property
    def packages(self) -> tuple[str, str]:
        """Return the names of the packages with texts and audio."""
        return f"asterisk-core-sounds-{self.language}", f"asterisk-core-sounds-{self.language}-g722"

    @property
    def texts(self) -> str:
        """Return where the texts are."""
        return f"/usr/share/doc/{self.packages[0]}/core-sounds-{self.language}.txt.gz"

    @property
    def sounds(self) -> str:
        """Return the folder of the audio."""
        return f"/usr/share/asterisk/sounds/{self.voice}/"


VERSION = "1.6.1"
SOUND = ".g722"
ENGLISH = Prompts(
    "en",
    "en_US_f_Allison",
    "CC-BY-SA-3.0",
    content="b9d39d9b29914fbe93a664144d7d9c71fe78f712425cc26641f4ae8c19d10163",
    spellings=(
        ("represenatives", "representatives"),
        ("Un-indentified", "Unidentified"),
        ("witheld", "withheld"),
    ),
)


def asterisk_speech(folder: Path, prompts: Prompts = ENGLISH, *, root: Path = Path("/")) -> Path | None:
    """Return the manifest of all clips, written below `folder` on the first call, or None without the packages.

    Args:
        folder: Where packages were downloaded, if they were, and below which clips and manifests are written.
        prompts: Of which language.
        root: Of the system in which the packages may be installed.

    Raises:
        DataError: If the packages are damaged or of another version.
        StoreError: If the disk refuses.
    """
    manifest = folder / prompts.name / f"{prompts.name}.jsonl"
    if is_file(manifest):
        return manifest
    files = _installed(prompts, root) or _downloaded(prompts, folder)
    if files is None:
        return None
    make_audio_folder(manifest)
    utterances = _utterances(files, prompts, manifest.parent)
    _write(quick_start_manifest(manifest), drawn(utterances), prompts)
    _write(manifest, utterances, prompts)
    return manifest


def quick_start_manifest(manifest: Path) -> Path:
    """Return where the draw of a manifest of all clips is."""
    return manifest.with_name("asterisk.jsonl")


def download_prompts(folder: Path, prompts: Prompts = ENGLISH) -> None:
    """Fetch the packages into a folder, for `asterisk_speech`.

    Raises:
        DataError: If they cannot be had, with what can be done.
        StoreError: If the folder cannot be written.
    """
    try:
        download_packages(prompts.packages, folder)
    except DataError as error:
        texts, audio = prompts.packages
        raise DataError(
            f"{error} The Asterisk prompts come from Debian or Ubuntu: install them (apt-get install {texts} {audio}), "
            f"or put the two packages, version {VERSION}, as files into {folder}, and ask again."
        ) from error


def drawn(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return the quick start's clips: of each text the first, short ones, those with the smallest SHA-256 of their ids.

    Which these are depends on nothing but names, texts and lengths; they keep their order.
    """
    texts: dict[str, Utterance] = {}
    for utterance in utterances:
        if utterance.duration <= DRAW_SECONDS:
            texts.setdefault(" ".join(re.findall(r"\w+", utterance.text.casefold())), utterance)
    chosen = sorted(texts.values(), key=lambda item: hashlib.sha256(item.id.encode()).digest())[:DRAW]
    return sorted(chosen, key=lambda item: item.id)


def _installed(prompts: Prompts, root: Path) -> dict[str, bytes] | None:
    """Return the files of the installed packages by their paths; None if they are not here, or of another version."""
    try:
        listed = (root / prompts.texts.lstrip("/")).read_bytes()
        places = {path: root / path.lstrip("/") for path, _ in _clips(listed, prompts)}
        files = {path: place.read_bytes() for path, place in places.items() if is_file(place)}
    except (OSError, EOFError, DataError):
        return None  # not installed, or without documentation, as in many containers
    files[prompts.texts] = listed
    return files if _content(files, prompts) == prompts.content else None


def _downloaded(prompts: Prompts, folder: Path) -> dict[str, bytes] | None:
    """Return the files of packages that lie in a folder, by their paths."""
    packages = [package_file(name, folder) for name in prompts.packages]
    files: dict[str, bytes] = {}
    for package in packages:
        if package is None:
            return None
        files |= read_package(
            package,
            lambda path: path == prompts.texts or path.startswith(prompts.sounds),
            largest_bytes=LARGEST_BYTES,
        )
    if prompts.texts not in files or _content(files, prompts) != prompts.content:
        names = " and ".join(package.name for package in packages if package is not None)
        raise DataError(
            f"{names} in {folder} are not version {VERSION} of the Asterisk prompts (their content differs), and error "
            "rates on others could not be compared. Delete them, and put the packages of that version there."
        )
    return files


def _clips(listed: bytes, prompts: Prompts) -> list[tuple[str, str]]:
    """Return the paths of the clips that are listed, and what is said in them."""
    try:
        lines = gzip.decompress(listed).decode().splitlines()
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{prompts.texts} cannot be read ({error}). Install or fetch {prompts.packages[0]} again."
        ) from error
    found = [re.fullmatch(r"([\w/-]+)\s*:\s*(.+)", line) for line in lines]
    return [(f"{prompts.sounds}{match[1]}{SOUND}", match[2].strip()) for match in found if match]


def _content(files: dict[str, bytes], prompts: Prompts) -> str:
    """Return a SHA-256 of the texts and of all clips that are there, whatever packed them."""
    clips = dict(_clips(files[prompts.texts], prompts))
    digest = hashlib.sha256()
    for path, text in sorted(clips.items()):
        sound = hashlib.sha256(files.get(path, b"")).hexdigest()
        digest.update(f"{path}\t{text}\t{sound}\n".encode())
    return digest.hexdigest()


def _utterances(files: dict[str, bytes], prompts: Prompts, folder: Path) -> list[Utterance]:
    """Write the clips that are fit for a test, and return them in order of their names."""
    utterances = []
    for path, text in _clips(files[prompts.texts], prompts):
        fit = len(re.findall(r"\w+(?:['’]\w+)*", text)) >= LEAST_WORDS and not NOT_SAID.search(text)
        samples = decode_g722(files[path]) if fit and path in files else np.empty(0, np.float32)
        seconds = len(samples) / SAMPLE_RATE
        if SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
            name = path.removeprefix(prompts.sounds).removesuffix(SOUND).replace("/", "-")
            audio = folder / "audio" / f"{name}.flac"
            write_flac(audio, samples)
            written = reduce(lambda said, pair: said.replace(*pair), prompts.spellings, text)
            utterances.append(Utterance(name, audio, written, prompts.voice, seconds))
    return sorted(utterances, key=lambda utterance: utterance.id)


def decode_g722(content: bytes) -> np.ndarray:
    """Return the sound of G.722 at 64 kbit/s as samples at 16 kHz, without the delay of its filters.

    Raises:
        DataError: If FFmpeg cannot decode it.
    """
    # Imported late: who only asks whether the clips are here needs no FFmpeg.
    import av
    from av.error import FFmpegError

    try:
        codec = av.CodecContext.create("g722", "r")
        codec.sample_rate, codec.layout = SAMPLE_RATE, "mono"
        frames = [frame.to_ndarray().reshape(-1) for frame in codec.decode(av.Packet(content))]
    except FFmpegError as error:
        raise DataError(f"A clip in G.722 cannot be decoded ({error}). Fetch its package again.") from error
    return np.concatenate(frames)[DELAY:].astype(np.float32) / 32768


def _write(path: Path, utterances: Sequence[Utterance], prompts: Prompts) -> None:
    note = {"language": prompts.language, "source": f"{prompts.packages[0]} {VERSION}", "licence": prompts.licence}
    write_manifest(path, utterances, [note] * len(utterances))
