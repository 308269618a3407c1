"""The files of a model on this disk: which layout they have, and a hash of what they say."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.errors import LONGEST_NAME, ModelError, quoted
from core.paths import exists, is_file, may_enter, no_file, resolved

REFUSED_KEYS = {
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "_attn_implementation",
    "_attn_implementation_internal",
    "_experts_implementation",
    "_experts_implementation_internal",
}
"""Keys of a foreign config.json that name code to run or kernels to fetch."""

ADAPTERS = "adapter_config.json"
"""What PEFT writes beside adapters."""

LONGEST_BASE = 200


@dataclass(frozen=True)
class ModelFiles:
    """A folder that holds a Whisper model.

    Attributes:
        folder: Absolute path.
        layout: Who wrote the folder.
        weights: The weight files, absolute paths, in the order in which they are read.
        origin: Where the files came from, a few words.
    """

    folder: Path
    layout: Literal["transformers", "ctranslate2"]
    weights: tuple[Path, ...]
    origin: str

    def content_hash(self) -> str:
        """Return a sha256 over config.json and the weights: equal models have equal hashes."""
        total = hashlib.sha256()
        for path in (self.folder / "config.json", *self.weights):
            total.update(file_sha256(path).encode())
        return total.hexdigest()


def read_folder(folder: Path, *, origin: str) -> ModelFiles:
    """Return what kind of model a folder holds, without reading the weights.

    Raises:
        ModelError: If there is no config.json, it names foreign code, or there are no weights that can be read safely.
    """
    folder = resolved(folder)
    if not is_file(folder / "config.json"):
        raise ModelError(_without_config(folder))
    config = read_json(folder / "config.json")
    _refuse_code(config, folder / "config.json")
    if config.get("model_type") == "whisper":
        return ModelFiles(folder, "transformers", _safetensors_files(folder), origin)
    if "model_type" in config or "architectures" in config:
        raise ModelError(f"{folder} holds a model of type {_shown(config.get('model_type'))}. Give a Whisper model.")
    if is_file(folder / "model.bin"):
        return ModelFiles(folder, "ctranslate2", (folder / "model.bin",), origin)
    raise ModelError(f"{folder} holds no weights. Add model.safetensors (transformers) or model.bin (CTranslate2).")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: If the file is missing, not JSON, or not an object.
    """
    nothing = no_file(path, "file")
    if nothing and exists(path):
        raise ModelError(f"{nothing}. Copy the complete model folder.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing. Copy the complete model folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}). Copy the model folder again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object. Copy the model folder again.")
    return value


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error}). Check the file and its permissions.") from error


def _refuse_code(config: Any, path: Path) -> None:
    """Refuse a configuration in which any object, at any depth, names code."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            refused = sorted(REFUSED_KEYS & value.keys())
            if refused:
                raise ModelError(f"{path} contains {', '.join(refused)}: code to run. Remove it, or use another model.")
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _without_config(folder: Path) -> str:
    """Return what a folder without config.json is, and what to give in its place."""
    if not may_enter(folder):
        return f"You may not enter the folder {folder}. Check its permissions."
    if is_file(folder / ADAPTERS):
        return _of_adapters(folder)
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if inside:
        return f"{folder} holds no config.json, but its folder {inside[-1]} does. Give that one, if it is the model."
    return f"{folder} holds no config.json. Give the folder of a transformers or CTranslate2 Whisper model."


def _of_adapters(folder: Path) -> str:
    """Return whose adapters a PEFT folder holds, and how to merge them."""
    base = read_json(folder / ADAPTERS).get("base_model_name_or_path")
    name, whose = "the model that they were trained on", "adapters of a model that it does not name"
    if isinstance(base, str) and base:
        name = base if len(base) <= LONGEST_BASE else name
        whose = f"adapters of {name}"
    return (
        f"{folder} holds {whose} (PEFT), not a model. Merge them first, and give the folder of the result: "
        f"PeftModel.from_pretrained(base, {str(folder)!r}).merge_and_unload().save_pretrained(OUT), where base is "
        f"WhisperForConditionalGeneration.from_pretrained({name!r}), with the processor of the base saved to OUT as "
        "well. The student of a run of this studio is named run:ID instead."
    )


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else repr(value)[:LONGEST_NAME]


def _safetensors_files(folder: Path) -> tuple[Path, ...]:
    if not is_file(folder / "model.safetensors") and is_file(folder / ADAPTERS):
        raise ModelError(_of_adapters(folder))
    if is_file(folder / "model.safetensors"):
        return (folder / "model.safetensors",)
    index = folder / "model.safetensors.index.json"
    if is_file(index):
        return _shards(folder, index)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelError(
            f"{folder} holds its weights as pickle only, which can run code when it is read. "
            "Save the model again as safetensors (model.save_pretrained)."
        )
    raise ModelError(f"{folder} holds no weights. Add model.safetensors.")


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    places = read_json(index).get("weight_map")
    names = (
        set(places.values()) if isinstance(places, dict) and all(isinstance(v, str) for v in places.values()) else set()
    )
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise ModelError(f"{index} does not name safetensors files of its own folder. Copy the model folder again.")
    missing = sorted(name for name in names if not is_file(folder / name))
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}. Copy the complete model folder.")
    return tuple(folder / name for name in sorted(names))
