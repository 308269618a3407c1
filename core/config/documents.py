"""YAML and JSON texts as plain dictionaries, lists and values, and back to YAML.

YAML is read by the core schema of its version 1.2 (yaml.org, 2009): true and false alone are truth values, `no` is the
language, 1e-3 is a number, 010 is ten, and a date is text. A key that stands twice is a mistake, not the later value.
"""

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Literal

import yaml

from core.errors import ConfigError, Problem

MOST_BYTES = 1_000_000
"""Of a file of settings."""

MOST_VALUES = 20_000
"""Keys and values of a text, those that aliases repeat counted again; a large ablation has some thousand."""

MOST_DEPTH = 50

LONGEST_LINE = 80
"""Characters of a line that cannot be read that are repeated."""

Twice = dict[str, list[int]]
"""Lines, from 1, of keys that stand more than once, by path."""


def parse_text(text: str, *, name: str = "The file", language: Literal["YAML", "JSON"] = "YAML") -> Any:
    """Return what a text says, in plain dictionaries, lists and values.

    Args:
        text: YAML, of which JSON is a part, or JSON alone.
        name: What the text is called in a sentence.
        language: How it is read.

    Raises:
        ConfigError: If it cannot be read: one sentence with the line, the column, and what stands there. If it is too
            large, or if keys stand twice, each with its lines.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{name} is too large: settings have at most {MOST_BYTES:,} characters.")
    try:
        value, twice = _from_json(text) if language == "JSON" else _from_yaml(text)
    except _TooMuchError as error:
        raise ConfigError(f"{name} is not valid {language}: {error}.") from error
    except json.JSONDecodeError as error:
        where = _place_in(text, error.lineno - 1, error.colno - 1)
        raise ConfigError(f"{name} is not valid JSON {where}: {_uncapitalised(error.msg)}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _place_in(text, mark.line, mark.column) if mark else ""
        raise ConfigError(f"{name} is not valid YAML {where}: {_said(error)}.") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = _place_in(text, before.count("\n"), error.position - before.rfind("\n") - 1)
        raise ConfigError(f"{name} is not valid YAML {where}: a character that no text has.") from error
    except RecursionError as error:
        raise ConfigError(f"{name} is not valid {language}: it is nested too deeply.") from error
    except ValueError as error:  # a number of thousands of digits, of which no place is known
        raise ConfigError(f"{name} is not valid {language}: {error}. Put such a value in quotes.") from error
    if twice:
        many = "one key" if len(twice) == 1 else f"{len(twice)} keys"
        raise ConfigError(
            f"{name} has {many} more than once:",
            [Problem(path, f"stands at lines {_listed(lines)}; keep one") for path, lines in twice.items()],
        )
    return value


def dump_text(value: Any) -> str:
    """Return plain dictionaries, lists and values as YAML that `parse_text` reads back to the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _TooMuchError(Exception):
    """The text holds more than settings do."""


class _Loader(yaml.SafeLoader):
    """Counts what it composes, so that no alias makes much of a little."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own form

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.count, self.depth = 0, 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what comes next, unless it is too much."""
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise _TooMuchError(f"what line {line + 1} repeats holds itself")
            self._take(self._sizes[id(node)])
            return node
        before = self.count
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _TooMuchError("it is nested too deeply")
        self._take(1)
        node = super().compose_node(parent, index)
        self.depth -= 1
        self._sizes[id(node)] = self.count - before
        return node

    def _take(self, count: int) -> None:
        self.count += count
        if self.count > MOST_VALUES:
            raise _TooMuchError(f"it holds more than {MOST_VALUES:,} values")

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Return a number that may begin with 0, or with 0x or 0o."""
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what either version of YAML would take for more than text."""


NUMBER = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$|0o[0-7]+$"
)
for _tag, _pattern, _first in (
    ("null", re.compile(r"~$|null$|Null$|NULL$|$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true$|True$|TRUE$|false$|False$|FALSE$"), list("tTfF")),
    ("int", re.compile(r"[-+]?[0-9]+$|0o[0-7]+$|0x[0-9a-fA-F]+$"), list("-+0123456789")),
    ("float", NUMBER, list("-+0123456789.")),
    ("merge", re.compile(r"<<$"), ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
_Loader.add_constructor("tag:yaml.org,2002:merge", _Loader.construct_scalar)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789."))


def _from_yaml(text: str) -> tuple[Any, Twice]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        twice = dict(_yaml_twice(loader, node))
        return (None if twice else loader.construct_document(node)), twice
    finally:
        loader.dispose()


def _yaml_twice(loader: _Loader, root: yaml.Node) -> Iterator[tuple[str, list[int]]]:
    """Yield path and lines of the keys that stand more than once; what aliases repeat is looked at once."""
    seen: set[int] = set()
    waiting: list[tuple[str, yaml.Node]] = [("", root)]
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += reversed([(f"{path}{place}.", item) for place, item in enumerate(node.value)])
        elif isinstance(node, yaml.MappingNode):
            # Equal as in a dictionary: 1 and 01 are one key, 1 and "1" are two.
            keys = [
                (loader.construct_object(key), key.start_mark.line + 1, value)
                for key, value in node.value
                if isinstance(key, yaml.ScalarNode)
            ]
            waiting += reversed([(f"{path}{key}.", value) for key, _, value in keys])
            yield from _repeated(path, [(key, line) for key, line, _ in keys])


def _repeated(path: str, keys: Sequence[tuple[Hashable, int]]) -> Iterator[tuple[str, list[int]]]:
    lines: dict[Hashable, list[int]] = {}
    for key, line in keys:
        lines.setdefault(key, []).append(line)
    yield from ((f"{path}{key}", found) for key, found in lines.items() if len(found) > 1)


JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:\n]')


def _from_json(text: str) -> tuple[Any, Twice]:
    value = json.loads(text)
    if sum(1 for part in JSON_PART.finditer(text) if part[0] in "[{,") > MOST_VALUES:
        raise _TooMuchError(f"it holds more than {MOST_VALUES:,} values")
    return value, dict(_json_twice(text))


def _json_twice(text: str) -> Iterator[tuple[str, list[int]]]:
    """Yield path and lines of the keys that stand more than once in a text that is JSON."""
    line = 1
    open_parts: list[_Open] = []
    for part in (found[0] for found in JSON_PART.finditer(text)):
        if part == "\n":
            line += 1
        elif part in "[{":
            above = open_parts[-1].below() if open_parts else ""
            if len(open_parts) == MOST_DEPTH:
                raise _TooMuchError("it is nested too deeply")
            open_parts.append(_Open(above, is_list=part == "["))
        elif part in "]}":
            closed = open_parts.pop()
            yield from _repeated(closed.path, closed.keys)
        elif part == ",":
            open_parts[-1].next()
        elif part != ":" and open_parts and open_parts[-1].key is None:
            open_parts[-1].key = json.loads(part)
            open_parts[-1].keys.append((json.loads(part), line))


class _Open:
    """A list or an object whose end was not read yet."""

    def __init__(self, path: str, *, is_list: bool) -> None:
        self.path = path
        self.key: Any = 0 if is_list else None
        self.keys: list[tuple[Hashable, int]] = []

    def below(self) -> str:
        return f"{self.path}{self.key}."

    def next(self) -> None:
        self.key = self.key + 1 if isinstance(self.key, int) else None


def _listed(lines: Sequence[int]) -> str:
    return f"{', '.join(map(str, lines[:-1]))} and {lines[-1]}"


def _place_in(text: str, line: int, column: int) -> str:
    """Return where something stands, counted from 0, as a sentence says it: from 1, with the line itself."""
    lines = text.splitlines()[: line + 1]
    written = next((each for each in reversed(lines) if each.strip()), "").strip()
    shown = written if len(written) <= LONGEST_LINE else f"{written[:LONGEST_LINE]}…"
    where = f"at line {line + 1}, column {column + 1}"
    if not shown:
        return where
    after = "" if len(lines) > line and lines[line].strip() else ", after"
    return f"{where}{after} ({shown if shown.isprintable() else repr(shown)})"


def _said(error: yaml.MarkedYAMLError) -> str:
    """Return what PyYAML says of a place; of two documents it says half in the context."""
    problem = error.problem or error.context or "it cannot be read"
    return f"{error.context}, {problem}" if problem.startswith("but ") else problem


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
