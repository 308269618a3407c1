"""Whisper models in CTranslate2's format (faster-whisper folders), read into the names of transformers.

Our own reader of `model.bin`, written from the layout that CTranslate2 4 writes (binary version 6, WhisperSpec
revision 3): little-endian; per variable a name, its shape, type, size and data; then a list of aliases.
"""

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import ModelError

BINARY_VERSION = 6
SPEC, SPEC_REVISION = "WhisperSpec", 3
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""NumPy has no such type: the upper half of a float32, which `as_float32` completes."""

DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16, 5: BFLOAT16}
GELU = 3

SETTINGS = {
    "decoder/activation": GELU,
    "decoder/pre_norm": 1,
    "decoder/alibi": 0,
    "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
}
"""Settings that are stored as variables, and what they are for Whisper."""

WITHOUT_EFFECT = (
    "decoder/alignment_heads",  # for word times; Whisper's own stand in config.json
    "decoder/alignment_layer",
    "decoder/alibi_use_positive_positions",  # without ALiBi, these say nothing
    "decoder/scale_alibi",
)

MOST_DIMENSIONS = 8

Variables = dict[str, np.ndarray]


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Whisper model, as its variables have them."""

    vocabulary: int
    width: int
    mel_bins: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_hidden: int
    decoder_hidden: int
    encoder_positions: int
    decoder_positions: int


def read_variables(path: Path) -> Variables:
    """Return every variable of a `model.bin` by name, aliases included; the arrays are views of the file.

    Raises:
        ModelError: If the file is truncated, too long, of another version or specification, or inconsistent.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        raise ModelError(f"{path} cannot be read ({error}). Copy the model folder again.") from error
    try:
        return _Reader(content).variables()
    except _Malformed as error:
        raise ModelError(f"{path} is not a CTranslate2 Whisper model that can be read: {error}.") from error


def to_transformers(variables: Variables) -> tuple[dict[str, np.ndarray], Architecture]:
    """Return the state dictionary that WhisperForConditionalGeneration expects (types as stored), and the sizes.

    Raises:
        ModelError: If a variable is missing, unknown, quantised, or has a shape or setting that Whisper does not.
    """
    left = dict(variables)
    _require_floats(left)
    try:
        architecture = _architecture(left)
        state = _converted(left, architecture)
    except KeyError as error:
        raise ModelError(f"The CTranslate2 model lacks the variable {error}. Convert the model again.") from error
    except (IndexError, ValueError, TypeError, _Malformed) as error:
        raise ModelError(f"The CTranslate2 model is inconsistent: {error}. Convert the model again.") from error
    if left:
        raise ModelError(f"The CTranslate2 model has unknown variables: {', '.join(sorted(left)[:5])}.")
    return state, architecture


def as_float32(array: np.ndarray) -> np.ndarray:
    """Return a copy in float32, which holds every value of the shorter types exactly."""
    if array.dtype == BFLOAT16:
        return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def _require_floats(variables: Variables) -> None:
    """Refuse weights that were rounded to whole numbers, before their scales are met as variables that nobody knows."""
    whole = [name for name, array in variables.items() if array.dtype.kind == "i" and array.ndim > 0]
    if whole:
        raise ModelError(
            f"The CTranslate2 model is quantised ({variables[whole[0]].dtype}): its weights were rounded, and no "
            "student learns from them. Give the float16, bfloat16 or float32 folder, or convert the original again: "
            "ct2-transformers-converter --quantization float16."
        )


class _Malformed(Exception):
    """What is wrong with the file, half a sentence."""


class _Reader:
    """A cursor over the bytes of a model.bin."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.position = 0

    def variables(self) -> Variables:
        version = self.number("<I")
        if version != BINARY_VERSION:
            raise _Malformed(f"binary version {version}, expected {BINARY_VERSION}")
        spec, revision = self.text(), self.number("<I")
        if (spec, revision) != (SPEC, SPEC_REVISION):
            raise _Malformed(f"specification {spec!r} revision {revision}, expected {SPEC!r} revision {SPEC_REVISION}")
        result: Variables = {}
        for _ in range(self.number("<I")):
            self.add(result, self.text(), self.array())
        for _ in range(self.number("<I")):
            alias, name = self.text(), self.text()
            if name not in result:
                raise _Malformed(f"the alias {alias!r} points to {name!r}, which is missing")
            self.add(result, alias, result[name])
        if self.position != len(self.content):
            raise _Malformed(f"{len(self.content) - self.position} bytes follow its end")
        return result

    @staticmethod
    def add(result: Variables, name: str, array: np.ndarray) -> None:
        if name in result:
            raise _Malformed(f"{name!r} appears twice")
        result[name] = array

    def array(self) -> np.ndarray:
        dimensions = self.number("<B")
        if dimensions > MOST_DIMENSIONS:
            raise _Malformed(f"a variable with {dimensions} dimensions")
        shape = tuple(self.number("<I") for _ in range(dimensions))
        code, size = self.number("<B"), self.number("<I")
        if code not in DTYPES:
            raise _Malformed(f"the unknown type {code}")
        dtype = np.dtype(DTYPES[code]).newbyteorder("<")
        if math.prod(shape) * dtype.itemsize != size:
            raise _Malformed(f"{size} bytes for a variable of shape {shape}")
        return np.frombuffer(self.take(size), dtype=dtype).reshape(shape)

    def text(self) -> str:
        raw = bytes(self.take(self.number("<H")))
        if not raw.endswith(b"\0"):
            raise _Malformed("a name without an end")
        try:
            return raw[:-1].decode("ascii")
        except UnicodeDecodeError:
            raise _Malformed("a name that is not ASCII") from None

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take(self, size: int) -> memoryview:
        if size > len(self.content) - self.position:
            raise _Malformed("it ends too early")
        self.position += size
        return self.content[self.position - size : self.position]


def _architecture(left: Variables) -> Architecture:
    """Read the sizes, and take the settings out of the variables after checking them."""
    for name, expected in SETTINGS.items():
        if int(left.pop(name)) != expected:
            raise _Malformed(f"{name} is not {expected}, as Whisper has it")
    for name in WITHOUT_EFFECT:
        left.pop(name, None)
    vocabulary, width = left["decoder/embeddings/weight"].shape
    return Architecture(
        vocabulary=vocabulary,
        width=width,
        mel_bins=left["encoder/conv1/weight"].shape[1],
        encoder_layers=_layers(left, "encoder"),
        decoder_layers=_layers(left, "decoder"),
        encoder_heads=int(left.pop("encoder/num_heads")),
        decoder_heads=int(left.pop("decoder/num_heads")),
        encoder_hidden=left["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        decoder_hidden=left["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        encoder_positions=left["encoder/position_encodings/encodings"].shape[0],
        decoder_positions=left["decoder/position_encodings/encodings"].shape[0],
    )


def _layers(variables: Mapping[str, np.ndarray], side: str) -> int:
    numbers = {int(m[1]) for name in variables if (m := re.match(rf"{side}/layer_(\d{{1,3}})/", name))}
    if numbers != set(range(len(numbers))):
        raise _Malformed(f"the {side} layers are not numbered from 0")
    return len(numbers)


def _converted(left: Variables, architecture: Architecture) -> dict[str, np.ndarray]:
    """Move every variable out of `left` into the names of transformers."""
    state: dict[str, np.ndarray] = {}

    def move(theirs: str, ours: str, parts: tuple[str, ...] = ("",)) -> None:
        """Move a weight and its bias, cut into equal parts along the rows; an empty part keeps the name."""
        for kind in ("weight", "bias"):
            for part, array in zip(parts, np.split(left.pop(f"{theirs}/{kind}"), len(parts)), strict=True):
                state[f"{ours}{part}.{kind}"] = array

    def move_norm(theirs: str, ours: str) -> None:
        state[f"{ours}.weight"] = left.pop(f"{theirs}/gamma")
        state[f"{ours}.bias"] = left.pop(f"{theirs}/beta")

    for conv in ("conv1", "conv2"):
        move(f"encoder/{conv}", f"model.encoder.{conv}")
    for side, layers in (("encoder", architecture.encoder_layers), ("decoder", architecture.decoder_layers)):
        state[f"model.{side}.embed_positions.weight"] = left.pop(f"{side}/position_encodings/encodings")
        move_norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for number in range(layers):
            theirs, ours = f"{side}/layer_{number}", f"model.{side}.layers.{number}"
            move_norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            move(f"{theirs}/self_attention/linear_0", f"{ours}.self_attn.", ("q_proj", "k_proj", "v_proj"))
            move(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            if side == "decoder":
                move_norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
                move(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                move(f"{theirs}/attention/linear_1", f"{ours}.encoder_attn.", ("k_proj", "v_proj"))
                move(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
            move_norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            move(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            move(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
    state["model.decoder.embed_tokens.weight"] = left.pop("decoder/embeddings/weight")
    state["proj_out.weight"] = left.pop("decoder/projection/weight")
    _drop_zero_biases(state)
    return state


def _drop_zero_biases(state: dict[str, np.ndarray]) -> None:
    """Whisper's keys have no bias; CTranslate2 stores zeros because it joins them to queries and values."""
    for name in [name for name in state if name.endswith("k_proj.bias")]:
        if np.any(as_float32(state.pop(name))):
            raise _Malformed(f"{name} is not zero, as Whisper has it")
