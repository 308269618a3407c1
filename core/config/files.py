"""Reading runs and ablations from YAML or JSON files, with all mistakes reported at once."""

import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import ValidationError

from core.config.ablation import Ablation
from core.config.base import Settings
from core.config.mistakes import Mistake, mistakes, row_mistakes
from core.config.run import RunConfig
from core.errors import ConfigError, NotFoundError, Problem

T = TypeVar("T")

LONGEST_LINE = 80
"""Characters of a line that cannot be read that are repeated."""


def read_run(path: Path) -> RunConfig:
    """Read one run from a YAML or JSON file.

    Raises:
        ConfigError: With every mistake in `problems`.
    """
    return parse_run(_read(path), name=str(path))


def parse_run(fields: Any, *, name: str = "the run") -> RunConfig:
    """Make a run from plain dictionaries; every mistake is reported at once as ConfigError."""
    return _validated(lambda: RunConfig.model_validate(fields), RunConfig, name)


def read_ablation(path: Path) -> tuple[Ablation, tuple[RunConfig, ...]]:
    """Read an ablation and its runs from a YAML or JSON file."""
    return parse_ablation(_read(path), name=str(path))


def parse_ablation(fields: Any, *, name: str = "the ablation") -> tuple[Ablation, tuple[RunConfig, ...]]:
    """Make an ablation and its runs from plain dictionaries."""
    ablation = _validated(lambda: Ablation.model_validate(fields), Ablation, name)
    return ablation, _runs(ablation, name)


def preset_names() -> list[str]:
    """Return the names of the ablations that ship with the package."""
    folder = resources.files("core") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_preset(name: str) -> tuple[Ablation, tuple[RunConfig, ...]]:
    """Read an ablation that ships with the package.

    Raises:
        NotFoundError: If no preset has that name.
    """
    if name not in preset_names():
        raise NotFoundError(f"There is no preset '{name}'. Choose one of: {', '.join(preset_names())}.")
    text = (resources.files("core") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_ablation(yaml.safe_load(text), name=f"preset {name}")


def dump_run(config: RunConfig) -> str:
    """Return the run as YAML that `read_run` reads back to an equal run."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}. Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text ({error}). Give a YAML or JSON file.") from error
    return parse_text(text, name=str(path), language="JSON" if path.suffix == ".json" else "YAML")


def parse_text(text: str, *, name: str = "The file", language: Literal["YAML", "JSON"] = "YAML") -> Any:
    """Return what a text says, in plain dictionaries, lists and values.

    Args:
        text: YAML, of which JSON is a part, or JSON alone.
        name: What the text is called in a sentence.
        language: How it is read.

    Raises:
        ConfigError: If it cannot be read: one sentence with the line, the column, and what stands there.
    """
    try:
        return json.loads(text) if language == "JSON" else yaml.safe_load(text)
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
    except ValueError as error:  # a date like 2026-13-01, of which no place is known
        raise ConfigError(f"{name} is not valid {language}: {error}. Put such a value in quotes.") from error


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


def _validated(make: Callable[[], T], settings: type[Settings], name: str) -> T:
    try:
        return make()
    except ValidationError as error:
        raise _refused(name, mistakes(error, settings)) from error


def _runs(ablation: Ablation, name: str) -> tuple[RunConfig, ...]:
    runs: list[RunConfig] = []
    wrong: dict[int, list[Mistake]] = {}
    for number, row in enumerate(ablation.rows):
        try:
            runs += ablation.model_copy(update={"rows": (row,)}).runs()
        except ValidationError as error:
            wrong[number] = mistakes(error, RunConfig)
    if wrong:
        raise _refused(name, row_mistakes(ablation, wrong))
    return tuple(runs)


def _refused(name: str, problems: Sequence[Problem]) -> ConfigError:
    count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    subject = f"T{name[1:]}" if name.startswith("the ") else name
    # What is wrong with all of it stands at no place, and needs a subject.
    told = [
        Problem("", f"{subject} {problem.message}") if not problem.where and _of_the_whole(problem) else problem
        for problem in problems
    ]
    return ConfigError(f"{name} has {count}:", told)


def _of_the_whole(problem: Problem) -> bool:
    return problem.message.startswith("must be settings")
