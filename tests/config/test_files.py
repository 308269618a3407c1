"""Files that are runs: what is read, and what is said about a file that is wrong."""

import copy
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st

from core.config import (
    dump_run,
    dump_text,
    parse_ablation,
    parse_run,
    parse_text,
    preset_names,
    read_ablation,
    read_preset,
    read_run,
)
from core.config.run import Training
from core.errors import ConfigError, NotFoundError

CE = {"losses": [{"kind": "cross_entropy"}]}
FULL = read_preset("one-voice")[1][3].model_dump(mode="json")


def said(fields: Any) -> dict[str, str]:
    """Return what is said about the fields of a run, by the path that is printed."""
    with pytest.raises(ConfigError) as caught:
        parse_run(fields)
    return printed(caught.value)


def printed(error: ConfigError) -> dict[str, str]:
    lines = [str(problem) for problem in error.problems]
    assert str(error).splitlines()[1:] == [f"  - {line}" for line in lines]
    split = [line.partition(": ") if line.partition(": ")[1] else ("", "", line) for line in lines]
    return {path: message for path, _, message in split}


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        (
            {"language": "hi", "evaluation": {"normaliser": "whisper"}},
            "evaluation",
            "normaliser is 'whisper', which is for English, but the language is 'hi'; choose 'auto' or 'basic'",
        ),
        ({"lora": {"rank": 0}}, "lora.rank", "must be a whole number from 1 to 512, not 0"),
        ({"lora": {"rank": 7.5}}, "lora.rank", "must be a whole number from 1 to 512, not 7.5"),
        ({"lora": {"rank": "many"}}, "lora.rank", "must be a whole number from 1 to 512, not 'many'"),
        ({"lora": {"rank": None}}, "lora.rank", "must be a whole number from 1 to 512; it is empty"),
        ({"lora": {"dropout": 1}}, "lora.dropout", "must be a number from 0 to below 1, not 1"),
        ({"training": {"clip": -1}}, "training.clip", "must be a number above 0 and up to 1000, not -1"),
        ({"training": {"clip": float("nan")}}, "training.clip", "must be a number above 0 and up to 1000, not nan"),
        ({"training": {"steps": [3]}}, "training.steps", "must be a whole number from 1 to 1000000, not a list"),
        ({"evaluation": {"test": "perhaps"}}, "evaluation.test", "must be true or false, not 'perhaps'"),
        ({"training": {"device": "gpu"}}, "training.device", "must be one of auto, cpu, cuda; not 'gpu'"),
        ({"family": "ctc"}, "family", "must be whisper, not 'ctc'"),
        ({"language": False}, "language", "must be text, not false; put it in quotes"),
        ({"name": ""}, "name", "must not be empty"),
        ({"name": "x" * 200}, "name", "must have at most 120 characters, not 200"),
        ({"teachers": []}, "teachers", "must not be empty; name at least one"),
        ({"teachers": {"model": "m"}}, "teachers", "must be a list, not settings; put it in brackets"),
        ({"lora": {"encoder_targets": "fc1"}}, "lora.encoder_targets", "must be a list, not 'fc1'; put it in brackets"),
        ({"lora": {"encoder_targets": [1]}}, "lora.encoder_targets.0", "must be text, not 1; put it in quotes"),
        ({"lora": 5}, "lora", "must be settings, each as name: value, not 5"),
        ({"lora": None}, "lora", "must be settings, each as name: value; it is empty"),
        ({"lora": {"mixture": 5}}, "lora.mixture", "must be settings, each as name: value, not 5"),
        ({"lora": {"mixture": {"experts": 1}}}, "lora.mixture.experts", "must be a whole number from 2 to 64, not 1"),
        (
            {"lora": {"mixture": {"experts": 4, "top_k": 5}}},
            "lora.mixture",
            "top_k is 5, but there are 4 experts: lower top_k, or leave it out to use all",
        ),
        ({"lora": {"mixture": {"top_k": 4}}}, "lora.mixture", "top_k is 4, but there are 4 experts"),
        ({"lora": {"mixture": {"balance": -1}}}, "lora.mixture.balance", "must be a number from 0 to 10, not -1"),
        ({"student": 5}, "student", "must be settings, each as name: value, not 5"),
        ({"student": {}}, "student", "its kind is missing; add one: pretrained, pruned"),
        ({"student": {"kind": "cut"}}, "student", "its kind must be one of pretrained, pruned; not 'cut'"),
        ({"student": {"kind": "pretrained"}}, "student.model", "this setting is required; add it"),
        ({"student": {"kind": "pruned", "encoder_layers": ["x"]}}, "student.encoder_layers.0", "whole number, not 'x'"),
        ({"source": {"kind": "generated", "train": 0}}, "source.train", "must be a whole number from 1 to 240, not 0"),
        ({"method": {"losses": [{"kind": "geodesic", "weight": -1}]}}, "method.losses.0.weight", "up to 1000, not -1"),
        ({"method": {"losses": [{"kind": "kd"}]}}, "method.losses.0", "one of cross_entropy, soft_labels, dkd"),
        (
            {"method": {**CE, "mapping": {"encoder_layers": "odd"}}},
            "method.mapping.encoder_layers",
            "one of spaced, last, next_input; not 'odd'",
        ),
        ({"training": {"learning_rat": 1}}, "training.learning_rat", "there is no such setting; is it learning_rate?"),
        ({"colour": "red"}, "colour", "there is no such setting; remove it or correct its name"),
        ({1: 2}, "1", "there is no such setting"),
        ({"freeze_below": 9}, "freeze_below", "is 9, but the student keeps 3 encoder layers"),
        ({"student": {"kind": "pruned", "encoder_layers": [0]}}, "freeze_below", "is 2, but the student keeps 1 "),
        ({"lora": {"encoder_targets": []}}, "lora", "adapts nothing: name encoder_targets or decoder_targets"),
        (
            {"student": {"kind": "pruned", "encoder_layers": [1, 0]}},
            "student.encoder_layers",
            "must be ascending layer numbers from 0, each once",
        ),
    ],
)
def test_a_mistake_is_told_where_it_stands_with_what_to_do(fields: dict[Any, Any], path: str, message: str) -> None:
    found = said({"method": CE, **fields})
    assert list(found) == [path]
    assert message in found[path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be settings, each as name: value; it is empty"),
        ("run", "must be settings, each as name: value, not 'run'"),
        ([], "must be settings, each as name: value, not a list"),
    ],
)
def test_what_holds_no_settings_at_all_is_told(content: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(content)
    assert str(caught.value) == f"the run has one mistake:\n  - The run {message}"


def test_all_mistakes_are_told_at_once_each_with_its_path() -> None:
    losses = [{"kind": "cross_entropy", "weight": "x"}, {}, {"kind": "geodesic", "colour": 1}, {"kind": "kd"}]
    found = said({"method": {"losses": losses, "mapping": {"states": 1}}, "seed": -1, "lora": {"rank": 0, "alpha": 0}})
    assert set(found) == {
        "method.losses.0.weight",
        "method.losses.1",
        "method.losses.2.colour",
        "method.losses.3",
        "method.mapping.states",
        "seed",
        "lora.rank",
        "lora.alpha",
    }


def test_a_form_finds_the_field_of_a_mistake_by_the_kind_in_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run({"method": {"losses": [{"kind": "geodesic", "weight": -1}]}})
    (problem,) = caught.value.problems
    assert problem.where == "method.losses.0.geodesic.weight"
    assert str(problem).startswith("method.losses.0.weight: ")


def test_a_long_value_is_cut_and_what_a_terminal_would_obey_is_quoted() -> None:
    found = said({"method": CE, "lora": {"rank": "9" * 5000}, "\x1b[31m": 1})
    assert len(found["lora.rank"]) < 150
    assert r"'\x1b[31m'" in found


numbers = st.sampled_from(
    [
        (name, low, high)
        for name, field in Training.model_fields.items()
        for low in field.metadata
        if isinstance(low, Ge | Gt)
        for high in field.metadata
        if isinstance(high, Le | Lt)
    ]
)


@given(numbers, st.integers() | st.floats(width=32))
def test_a_number_outside_its_range_is_told_with_the_range_and_one_inside_is_taken(
    field: tuple[str, Any, Any], value: float
) -> None:
    name, low, high = field
    lowest: Any = low.ge if isinstance(low, Ge) else low.gt
    highest: Any = high.le if isinstance(high, Le) else high.lt
    above = value >= lowest if isinstance(low, Ge) else value > lowest
    below = value <= highest if isinstance(high, Le) else value < highest
    fields = {"method": CE, "training": {name: value}}
    if above and below and (Training.model_fields[name].annotation is float or value == int(value)):
        assert getattr(parse_run(fields).training, name) == value
        return
    message = said(fields)[f"training.{name}"]
    assert message.endswith(f", not {value}")
    assert f" {lowest} " in message
    assert f" {highest}," in message


def paths(fields: Any, start: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of everything in nested dictionaries and lists."""
    for key, value in fields.items() if isinstance(fields, dict) else enumerate(fields):
        yield (*start, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*start, key))


def reached(fields: Any, path: str) -> bool:
    """Return whether a path leads to something in nested dictionaries and lists, or to a place in one of them."""
    *parents, _ = path.split(".")
    for part in parents:
        fields = fields[part] if isinstance(fields, dict) else fields[int(part)]
    return isinstance(fields, dict | list)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["kind", "odd"]), inner)
)


@given(st.sampled_from(list(paths(FULL))), anything)
def test_whatever_stands_in_a_file_is_a_run_or_gets_our_sentences(path: tuple[str | int, ...], value: Any) -> None:
    fields = copy.deepcopy(FULL)
    parent = fields
    for part in path[:-1]:
        parent = parent[part]  # pyright: ignore[reportArgumentType]
    parent[path[-1]] = value  # pyright: ignore[reportArgumentType]
    try:
        parse_run(fields)
    except ConfigError as error:
        found = printed(error)
    else:
        return
    assert found
    for where, message in found.items():
        assert not where or reached(fields, where)
        assert "Input" not in message
        assert "input should" not in message
        assert "valid" not in message


def ablation(base: dict[Any, Any], *changes: dict[str, Any]) -> dict[str, str]:
    rows = [{"name": f"row {number}", "changes": change} for number, change in enumerate(changes)]
    with pytest.raises(ConfigError) as caught:
        parse_ablation({"name": "a", "base": base, "rows": rows})
    return printed(caught.value)


def test_the_mistakes_of_all_rows_are_told_at_once_where_they_stand() -> None:
    found = ablation(
        {"seed": -1, "method": CE},
        {},
        {"lora": {"rank": 0}},
        {"method": {"losses": [{"kind": "geodesic", "weight": 0}]}, "seed": "x"},
    )
    assert set(found) == {
        "base.seed",
        "rows.1.changes.lora.rank",
        "rows.2.changes.method.losses.0.weight",
        "rows.2.changes.seed",
    }


def test_what_no_row_says_is_the_bases_mistake_and_told_once() -> None:
    assert list(ablation({}, {"seed": 1}, {"seed": 2})) == ["base.method"]
    assert list(ablation({"freeze_below": 9, "method": CE}, {"seed": 1}, {"seed": 2})) == ["base.freeze_below"]
    assert list(ablation({"method": CE}, {"seed": 1}, {"freeze_below": 9})) == ["rows.1.changes.freeze_below"]
    assert list(ablation({1: 2, "method": CE}, {})) == ["base.1"]


@pytest.mark.parametrize("name", preset_names())
def test_a_run_that_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    for config in read_preset(name)[1]:
        (tmp_path / "run.yaml").write_text(dump_run(config), encoding="utf-8")
        (tmp_path / "run.json").write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
        assert read_run(tmp_path / "run.yaml") == read_run(tmp_path / "run.json") == config


def test_an_ablation_is_read_from_a_file(tmp_path: Path) -> None:
    content = {
        "name": "a",
        "base": {"method": CE, "lora": {"rank": 3}},
        "rows": [{"name": "one", "changes": {"seed": 5}}],
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    found, (run,) = read_ablation(tmp_path / "a.yaml")
    assert (found.name, run.name, run.seed, run.lora.rank) == ("a", "one", 5, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.yaml", b"[1, 2", "is not valid YAML"),
        ("run.yaml", b"&a [*a]", "is not valid YAML: what line 1 repeats holds itself"),
        ("run.yaml", b"[" * 5000, "is not valid YAML: it is nested too deeply"),
        ("run.yaml", b"- " * 5000, "is not valid YAML: it is nested too deeply"),
        ("run.yaml", b"!!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("run.json", b"{", "is not valid JSON"),
        ("run.json", b"[" * 100_000, "is not valid JSON"),
        ("run.yaml", b"\xff\xfe\x00", "cannot be read as text"),
        ("run.yaml", None, "There is no file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_run(tmp_path / name)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "it is a pipe, a socket or a device"),
        (Path.mkdir, "it is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a pipe, a socket or a device"),
        (lambda path: path.symlink_to(path), "it is a link that leads to itself"),
    ],
)
def test_what_is_no_file_is_refused_at_once(make: Callable[[Path], None], why: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    make(path)
    for read in (read_run, read_ablation):
        with pytest.raises(ConfigError, match=rf"There is no file .*run\.yaml \({why}\)"):
            read(path)


BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise("abcdefghi")
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n" for before, name in pairwise("abcdefghi")
)
LAYERS = list(range(100_000))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("run.yaml", "name: " + "x" * 10_000_000, "is too large: settings have at most 1,000,000 bytes"),
        ("run.yaml", "# remark\n" * 1_200_000, "is too large: settings have at most 1,000,000 bytes"),
        ("run.yaml", f"student: {{kind: pruned, encoder_layers: {LAYERS}}}", "it holds more than 20,000 values"),
        ("run.yaml", "layers:\n" + "- 1\n" * 100_000, "it holds more than 20,000 values"),
        ("run.json", json.dumps({"student": {"encoder_layers": LAYERS}}), "it holds more than 20,000 values"),
        ("run.json", "[" * 60 + "]" * 60, "it is nested too deeply"),
        ("run.yaml", BOMB, "it holds more than 20,000 values"),
        ("run.yaml", MERGES, "it holds more than 20,000 values"),
        ("run.yaml", "a: &a\n  b: *a\n", "what line 2 repeats holds itself"),
    ],
)
def test_what_is_too_much_for_settings_is_refused_at_once(name: str, content: str, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    began = time.process_time()
    for read in (read_run, read_ablation):
        with pytest.raises(ConfigError, match=why) as caught:
            read(tmp_path / name)
        assert len(str(caught.value)) < 500
    assert time.process_time() - began < 10  # each is read in about a second, and a bomb would take for ever


def test_long_lists_of_layers_are_refused_also_where_no_file_was_read() -> None:
    layers = list(range(100_000))
    found = said(
        {
            "student": {"kind": "pruned", "encoder_layers": layers, "decoder_layers": layers},
            "method": {**CE, "mapping": {"encoder_list": layers, "decoder_list": layers}},
        }
    )
    assert set(found) == {
        *(f"student.{side}_layers" for side in ("encoder", "decoder")),
        *(f"method.mapping.{side}_list" for side in ("encoder", "decoder")),
    }
    assert set(found.values()) == {"must have at most 256 items, not 100000"}


TWICE = [
    ("seed: 1\nname: a\nseed: 2\n", {"seed": "1 and 3"}),
    ("seed: 1\nseed: 1\nseed: 1\n", {"seed": "1, 2 and 3"}),
    ("training: {steps: 5, clip: 1,\n  steps: 6}\n", {"training.steps": "1 and 2"}),
    ("training:\n  steps: 5\n'training':\n  clip: 1\n", {"training": "1 and 3"}),
    ("a:\n- x: 1\n- y: 2\n  z: 3\n  y: 4\n", {"a.1.y": "3 and 5"}),
    (
        "method:\n  losses:\n  - {kind: a, weight: 1, weight: 2}\n  losses: []\nmethod: 1\n",
        {"method": "1 and 5", "method.losses": "2 and 4", "method.losses.0.weight": "3 and 3"},
    ),
    ("base: &b {seed: 1}\nrow: {<<: *b,\n  <<: *b}\n", {"row.<<": "2 and 3"}),
    ("1: a\n01: b\n", {"1": "1 and 2"}),
    ("a.b: 1\na: {b: 2, b: 3}\n", {"a.b": "2 and 2"}),
]


@pytest.mark.parametrize(("text", "lines"), TWICE)
def test_a_key_that_stands_twice_is_a_mistake_with_its_lines_at_any_depth(text: str, lines: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="more than once") as caught:
        parse_text(text)
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert found == {path: f"stands at lines {each}; keep one" for path, each in lines.items()}


def test_json_is_told_alike(tmp_path: Path) -> None:
    text = """{"name": "a \\" {b: [", "training": {"steps": 1,
      "list": [1, {"x": 1}, {"x": 2, "y": {}, "x": [",", 3]}],
      "steps": 2}, "n\\u0061me": "b",
      "a": {"x": 1}, "b": {"x": 1}}"""
    (tmp_path / "run.json").write_text(text)
    for read in (
        lambda: parse_text(text),
        lambda: parse_text(text, language="JSON"),
        lambda: read_run(tmp_path / "run.json"),
    ):
        with pytest.raises(ConfigError, match="has 3 keys more than once") as caught:
            read()
        assert {problem.where: problem.message for problem in caught.value.problems} == {
            "name": "stands at lines 1 and 3; keep one",
            "training.steps": "stands at lines 1 and 3; keep one",
            "training.list.2.x": "stands at lines 2 and 2; keep one",
        }


def test_a_key_that_overrides_what_was_merged_stands_once() -> None:
    text = "base: &base {seed: 1, name: a}\nrow: {<<: *base, seed: 2}\nlist: [*base, *base]\n"
    assert parse_text(text) == {
        "base": {"seed": 1, "name": "a"},
        "row": {"seed": 2, "name": "a"},
        "list": [{"seed": 1, "name": "a"}] * 2,
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("010", 10),
        ("-08", -8),
        ("0o10", 8),
        ("0x10", 16),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("2026-13-01", "2026-13-01"),
        ("1_000", "1_000"),
        ("=", "="),
        ("'010'", "010"),
    ],
)
def test_values_are_what_they_look_like(written: str, value: object) -> None:
    found = parse_text(f"a: {written}\n")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "value", ["1e5", "1E5", "010", "0o17", "no", "on", "~", "true", "2026-01-31", "1:30", ".5", "", "="]
)
def test_a_text_that_looks_like_more_is_written_as_text_for_either_version_of_yaml(value: str) -> None:
    written = dump_text({"name": value, value: 1})
    assert parse_text(written) == yaml.safe_load(written) == {"name": value, value: 1}


@given(anything.filter(lambda value: value == value))
def test_what_is_written_as_yaml_is_read_back(value: Any) -> None:
    value = json.loads(json.dumps(value, default=str))
    if json.dumps(value) == json.dumps(json.loads(json.dumps(value))):
        assert repr(parse_text(dump_text(value))) == repr(value)


def test_truth_is_no_number() -> None:
    wrong = {
        "training": {"steps": True, "learning_rate": True},
        "seed": False,
        "student": {"kind": "pruned", "encoder_layers": [0, True]},
    }
    found = said({"method": CE, **wrong})
    assert found["training.steps"] == "must be a whole number from 1 to 1000000, not 'true'"
    assert found["training.learning_rate"] == "must be a number above 0 and up to 1, not 'true'"
    assert found["student.encoder_layers.1"] == "must be a whole number, not 'true'"
    assert set(found) == {"training.steps", "training.learning_rate", "seed", "student.encoder_layers.1"}


def test_norwegian_is_a_language_and_no_a_truth_where_one_is_wanted() -> None:
    config = parse_run(parse_text("language: no\nevaluation: {test: no}\nmethod: {losses: [{kind: cross_entropy}]}\n"))
    assert (config.language, config.evaluation.test) == ("no", False)


def test_an_unknown_preset_is_told_with_those_that_exist() -> None:
    with pytest.raises(NotFoundError, match=r"'slowstart'.*quickstart"):
        read_preset("slowstart")


def test_mistakes_between_fields_come_with_those_of_fields() -> None:
    wrong = {"freeze_below": 9, "lora": {"encoder_targets": []}, "training": {"steps": 0}}
    assert list(said({"method": CE, **wrong})) == ["lora", "freeze_below", "training.steps"]


@pytest.mark.parametrize(
    ("text", "language", "place"),
    [
        ("name: mine\nlora: rank: 8\n", "YAML", "at line 2, column 11 (lora: rank: 8): mapping values"),
        ("name: [", "YAML", "at line 1, column 8 (name: [): expected"),
        ("name: 'mine\n\n", "YAML", "at line 3, column 1, after (name: 'mine): found"),
        ("lora:\n\trank: 8", "YAML", "at line 2, column 1 (rank: 8): found character"),
        ("seed: 1\nname: \x00", "YAML", r"at line 2, column 7 ('name: \x00'): a character"),
        ("seed: 1\n---\nseed: 2", "YAML", "at line 2, column 1 (---): expected a single document in the stream, but"),
        ('{"seed": 1\n"name": 2}', "JSON", "at line 2, column 1 (\"name\": 2}): expecting ',' delimiter"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence_with_its_place(
    text: str, language: Literal["YAML", "JSON"], place: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_text(text, language=language)
    assert str(caught.value).startswith(f"The file is not valid {language} {place}")
    assert "\n" not in str(caught.value)


def test_what_the_whole_file_must_be_is_said_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(parse_text("- 1"), name="the file")
    assert [str(problem) for problem in caught.value.problems] == [
        "The file must be settings, each as name: value, not a list"
    ]
    (tmp_path / "run.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match=r"run\.yaml must be settings, each as name: value, not a list"):
        read_run(tmp_path / "run.yaml")
