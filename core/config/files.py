"""Reading runs and ablations from YAML or JSON files, with all mistakes reported at once."""

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from core.config.ablation import Ablation
from core.config.base import Settings
from core.config.documents import MOST_BYTES, dump_text, parse_text
from core.config.mistakes import Mistake, mistakes, row_mistakes
from core.config.run import RunConfig
from core.errors import ConfigError, NotFoundError, Problem
from core.paths import no_file

T = TypeVar("T")


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
    return parse_ablation(parse_text(text, name=f"preset {name}"), name=f"preset {name}")


def dump_run(config: RunConfig) -> str:
    """Return the run as YAML that `read_run` reads back to an equal run."""
    return dump_text(config.model_dump(mode="json"))


def _read(path: Path) -> Any:
    nothing = no_file(path, "file")
    if nothing:
        raise ConfigError(f"{nothing}. Check the path.")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{path} is too large: settings have at most {MOST_BYTES:,} bytes. Check the path.")
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text ({error}). Give a YAML or JSON file.") from error
    return parse_text(text, name=str(path), language="JSON" if path.suffix == ".json" else "YAML")


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
