import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ModelError
from core.weights.ctranslate2 import read_variables, to_transformers
from core.weights.load import load_whisper

CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def variable(name: str, array: np.ndarray) -> bytes:
    shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
    return text(name) + shape + struct.pack("<BI", CODES[array.dtype.name], array.nbytes) + array.tobytes()


def model_bin(
    variables: dict[str, np.ndarray],
    aliases: dict[str, str] | None = None,
    *,
    version: int = 6,
    spec: str = "WhisperSpec",
    revision: int = 3,
) -> bytes:
    """Return the bytes of a model.bin, written from the description of the format."""
    aliases = aliases or {}
    return b"".join(
        [
            struct.pack("<I", version) + text(spec) + struct.pack("<II", revision, len(variables)),
            *(variable(name, array) for name, array in variables.items()),
            struct.pack("<I", len(aliases)),
            *(text(alias) + text(name) for alias, name in aliases.items()),
        ]
    )


def whisper_variables(width: int = 4, vocabulary: int = 11, layers: int = 1) -> dict[str, np.ndarray]:
    """Return the variables of a very small Whisper."""
    draw = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float16)

    result = {
        "decoder/activation": np.int8(3),
        "decoder/pre_norm": np.int8(1),
        "decoder/alibi": np.int8(0),
        "decoder/scale_embeddings": np.int8(0),
        "decoder/start_from_zero_embedding": np.int8(0),
        "decoder/alignment_heads": np.int16(1),
        "decoder/alignment_layer": np.int16(-1),
        "decoder/num_heads": np.int16(2),
        "encoder/num_heads": np.int16(2),
        "decoder/embeddings/weight": weights(vocabulary, width),
        "encoder/conv1/weight": weights(width, 80, 3),
        "encoder/conv2/weight": weights(width, width, 3),
    }
    for conv in ("conv1", "conv2"):
        result[f"encoder/{conv}/bias"] = weights(width)
    for side, positions in (("encoder", 7), ("decoder", 5)):
        result[f"{side}/position_encodings/encodings"] = weights(positions, width)
        norms = [f"{side}/layer_norm"]
        linears = {}
        for number in range(layers):
            layer = f"{side}/layer_{number}"
            norms += [f"{layer}/self_attention/layer_norm", f"{layer}/ffn/layer_norm"]
            linears |= {
                f"{layer}/self_attention/linear_0": (3 * width, width),
                f"{layer}/self_attention/linear_1": (width, width),
                f"{layer}/ffn/linear_0": (2 * width, width),
                f"{layer}/ffn/linear_1": (width, 2 * width),
            }
            if side == "decoder":
                norms.append(f"{layer}/attention/layer_norm")
                linears |= {
                    f"{layer}/attention/linear_0": (width, width),
                    f"{layer}/attention/linear_1": (2 * width, width),
                    f"{layer}/attention/linear_2": (width, width),
                }
        for norm in norms:
            result[f"{norm}/gamma"], result[f"{norm}/beta"] = weights(width), weights(width)
        for name, shape in linears.items():
            result[f"{name}/weight"], result[f"{name}/bias"] = weights(*shape), weights(shape[0])
            if name.endswith("self_attention/linear_0"):
                result[f"{name}/bias"][width : 2 * width] = 0
            elif name.endswith("/attention/linear_1"):
                result[f"{name}/bias"][:width] = 0
    result["decoder/projection/weight"] = result["decoder/embeddings/weight"]
    return {name: np.asarray(array) for name, array in result.items()}


def read(tmp_path: Path, content: bytes) -> dict[str, np.ndarray]:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    return read_variables(path)


@pytest.mark.parametrize("folder", ["small_folder", "small_multilingual_folder"])
def test_a_folder_that_ctranslate2_itself_converted_reads_back_to_the_same_model(
    folder: str, tmp_path: Path, request: pytest.FixtureRequest
):
    source = request.getfixturevalue(folder)
    TransformersConverter(str(source), copy_files=["tokenizer.json"]).convert(str(tmp_path / "ct2"))
    ours, original = load_whisper(str(tmp_path / "ct2")), load_whisper(str(source))
    weights = original.model.state_dict()
    assert ours.model.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ours.model.state_dict().items())
    for name in ("d_model", "encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim"):
        assert getattr(ours.model.config, name) == getattr(original.model.config, name)
    assert ours.prompt() == original.prompt()
    assert ours.is_multilingual == original.is_multilingual
    assert (ours.suppress_tokens, ours.begin_suppress_tokens) == (
        original.suppress_tokens,
        original.begin_suppress_tokens,
    )
    assert ours.tokenizer.get_vocab() == original.tokenizer.get_vocab()
    assert ours.model.config.decoder_start_token_id == original.prompt()[0]


def test_variables_of_every_type_and_aliases_are_read(tmp_path: Path):
    variables = {name: np.arange(6).reshape(2, 3).astype(name) for name in CODES}
    found = read(tmp_path, model_bin(variables, {"again": "int8"}))
    assert found.keys() == {*variables, "again"}
    for name, array in variables.items():
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(found["again"], variables["int8"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (model_bin({}, version=5), "binary version 5"),
        (model_bin({}, spec="TransformerSpec"), "TransformerSpec"),
        (model_bin({}, revision=2), "revision 2"),
        (model_bin({}) + b"x", "1 bytes follow"),
        (model_bin({"a": np.zeros(2, np.float32)})[:-6], "ends too early"),
        (model_bin({}, {"b": "a"}), "'a', which is missing"),
        (model_bin({"a": np.zeros(1, np.int8)}, {"a": "a"}), "twice"),
        (
            model_bin({"a": np.zeros(2, np.float32)}).replace(struct.pack("<BI", 0, 8), struct.pack("<BI", 9, 8)),
            "type 9",
        ),
        (
            model_bin({"a": np.zeros(2, np.float32)}).replace(struct.pack("<BI", 0, 8), struct.pack("<BI", 0, 4)),
            "4 bytes",
        ),
        (model_bin({"a": np.zeros((1,) * 9, np.int8)}), "9 dimensions"),
        (model_bin({"a": np.zeros(1, np.int8)}).replace(b"a\0", b"\xff\0"), "not ASCII"),
        (model_bin({"a": np.zeros(1, np.int8)}).replace(b"a\0", b"aa"), "without an end"),
    ],
)
def test_a_malformed_file_is_refused_with_its_reason(content: bytes, words: str, tmp_path: Path):
    with pytest.raises(ModelError, match=words):
        read(tmp_path, content)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_variables(tmp_path / "model.bin")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_never_give_another_kind_of_error(data: st.DataObject, tmp_path: Path):
    content = bytearray(model_bin(whisper_variables(), {"alias": "decoder/embeddings/weight"}))
    for _ in range(data.draw(st.integers(1, 4))):
        # The names and sizes are what can mislead the reader; most of them stand where the arrays do not.
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    with contextlib.suppress(ModelError):
        to_transformers(read(tmp_path, bytes(content[:end])))


def test_attention_rows_are_queries_keys_and_values_in_this_order():
    variables = whisper_variables()
    joined, cross = (
        variables[f"decoder/layer_0/{name}/weight"] for name in ("self_attention/linear_0", "attention/linear_1")
    )
    state, sizes = to_transformers(variables)
    for number, part in enumerate(("q", "k", "v")):
        name = f"model.decoder.layers.0.self_attn.{part}_proj.weight"
        np.testing.assert_array_equal(state[name], joined[4 * number : 4 * number + 4])
    np.testing.assert_array_equal(state["model.decoder.layers.0.encoder_attn.k_proj.weight"], cross[:4])
    np.testing.assert_array_equal(state["model.decoder.layers.0.encoder_attn.v_proj.weight"], cross[4:])
    assert not any(name.endswith("k_proj.bias") for name in state)
    assert (sizes.width, sizes.vocabulary, sizes.encoder_positions, sizes.decoder_hidden) == (4, 11, 7, 8)


def altered(name: str, array: np.ndarray | None) -> dict[str, np.ndarray]:
    variables = whisper_variables(layers=2)
    if array is None:
        del variables[name]
    else:
        variables[name] = array
    return variables


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (altered("encoder/conv1/bias", None), "lacks the variable 'encoder/conv1/bias'"),
        (altered("decoder/activation", None), "lacks the variable"),
        (altered("decoder/layer_0/surprise", np.zeros(1)), "unknown variables: decoder/layer_0/surprise"),
        (altered("encoder/layer_7/ffn/linear_0/weight", np.zeros(1)), "not numbered from 0"),
        (altered("decoder/pre_norm", np.asarray(0)), "pre_norm is not 1"),
        (altered("decoder/activation", np.asarray(0)), "activation is not 3"),
        (altered("decoder/embeddings/weight", np.zeros(3)), "inconsistent"),
        (altered("encoder/conv1/weight", np.zeros(3)), "inconsistent"),
        (altered("encoder/num_heads", np.zeros(3)), "inconsistent"),
        (altered("encoder/layer_0/self_attention/linear_0/weight", np.zeros((5, 4))), "inconsistent"),
        (altered("encoder/layer_1/self_attention/linear_0/bias", np.ones(12)), "k_proj.bias is not zero"),
        (altered("encoder/layer_0/ffn/linear_0/weight", np.zeros((8, 4), np.int8)), r"quantised \(int8\)"),
    ],
)
def test_a_model_that_is_not_whisper_is_refused_with_its_reason(variables: dict[str, np.ndarray], words: str):
    with pytest.raises(ModelError, match=words):
        to_transformers(variables)
