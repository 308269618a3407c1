"""The Hugging Face Hub, asked only when it answers quickly."""

import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from core.errors import ModelError
from core.weights.files import read_folder

WANTED = ["*.json", "*.txt", "model.safetensors", "model-*.safetensors", "model.bin"]
"""Files that are downloaded: never pickle (model.bin is CTranslate2's format, which our own reader reads)."""


@dataclass(frozen=True)
class Hub:
    """A model hub.

    Attributes:
        endpoint: Address; none takes huggingface_hub's own (which honours HF_ENDPOINT).
        cache_folder: Where downloads are kept; none takes huggingface_hub's own.
        timeout_seconds: How long the Hub may take to answer at all.
        offline: Never ask the network; none follows HF_HUB_OFFLINE.
    """

    endpoint: str | None = None
    cache_folder: Path | None = None
    timeout_seconds: float = 3.0
    offline: bool | None = None

    def download(self, model: str, revision: str | None = None) -> Path:
        """Return the folder of a model, from the cache when the Hub does not answer.

        Raises:
            ModelError: If neither the Hub nor the cache has the model; the message is the reason, a sentence.
        """
        from huggingface_hub import snapshot_download  # late: a local folder does not need it

        _check_name(model)
        reason = self._unreachable()
        try:
            folder = snapshot_download(
                model,
                revision=revision,
                endpoint=self.endpoint,
                cache_dir=self.cache_folder,
                allow_patterns=WANTED,
                local_files_only=reason is not None,
            )
        except Exception as error:  # the client lets the errors of its own HTTP client through
            raise ModelError(reason or f"it refused or failed ({_first_line(error)}).") from error
        return Path(folder)

    def check(self, model: str, revision: str | None = None) -> None:
        """Make sure that the Hub, or the cache of earlier downloads, has the model; nothing is downloaded.

        Raises:
            ModelError: If not; the message is the reason, a sentence.
        """
        from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache

        _check_name(model)
        cached = try_to_load_from_cache(model, "config.json", cache_dir=self.cache_folder, revision=revision)
        incomplete = _why_unusable(Path(cached).parent) if isinstance(cached, str) else None
        if isinstance(cached, str) and incomplete is None:
            return
        reason = self._unreachable()
        if reason is not None:
            raise ModelError(f"{reason} Its cache: {incomplete}" if incomplete else reason)
        address = hf_hub_url(model, "config.json", revision=revision, endpoint=self.endpoint or constants.ENDPOINT)
        _require_shown(address, self.timeout_seconds)

    def _unreachable(self) -> str | None:
        """Return why the Hub cannot be asked, a sentence, or None when it answers."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE if self.offline is None else self.offline:
            return "it is switched off (unset HF_HUB_OFFLINE to ask it)."
        endpoint = self.endpoint or constants.ENDPOINT
        if not _answers(endpoint, self.timeout_seconds):
            return f"{endpoint} did not answer within {self.timeout_seconds:g} s."
        return None


def _check_name(model: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError:
        raise ModelError("that is not a Hub id (owner/name).") from None


def _answers(address: str, timeout_seconds: float) -> bool:
    """Whether a server answers a HEAD request in time, with whatever status.

    A thread, because the look-up of a name has no timeout of its own; a daemon, so that it cannot hold up the end of
    the program.
    """
    answered = threading.Event()

    def ask() -> None:
        if _status(address, timeout_seconds) is not None:
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    return answered.is_set()


def _why_unusable(folder: Path) -> str | None:
    """Return what a folder of the cache lacks, a sentence, or None where it holds a whole model."""
    try:
        read_folder(folder, origin="")
    except ModelError as error:
        return str(error)
    return None


def _require_shown(address: str, timeout_seconds: float) -> None:
    """Make sure that the Hub hands out a file, asked with the user's token; the error is the reason, a sentence."""
    from huggingface_hub import errors, get_hf_file_metadata

    try:
        get_hf_file_metadata(address, timeout=timeout_seconds)
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        reason = f"it answered {status} for {address}"
        if status in (401, 403, 404):
            reason += (
                ": it has no such model, or does not show it to you (for a private or gated one, ask for access on its "
                "page and log in with: hf auth login)"
            )
        raise ModelError(f"{reason}.") from error
    except Exception as error:  # the client lets the errors of its own HTTP client through
        raise ModelError(f"{address} could not be asked ({_first_line(error)}).") from error


def _status(address: str, timeout_seconds: float) -> int | None:
    """Return the HTTP status of a HEAD request, or None when there was no answer."""
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, ValueError):
        return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
