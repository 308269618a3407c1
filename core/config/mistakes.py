"""What is wrong in settings that somebody wrote, in sentences that say what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError

from core.config.ablation import Ablation
from core.config.annotations import bare, is_settings, kinds_of
from core.config.base import Settings
from core.config.run import RunConfig
from core.errors import Problem

LONGEST_VALUE = 60
"""Characters of a wrong value that are repeated."""


class Mistake(Problem):
    """A mistake in a run or an ablation.

    `where` is the path that forms know: it names the kind in a choice (``method.losses.2.geodesic.weight``). What is
    printed is the path as it stands in a file (``method.losses.2.weight``).
    """

    @property
    def path(self) -> str:
        """The path as it stands in a file."""
        return _place(RunConfig, self.where.split(".")).path

    def __str__(self) -> str:
        return str(Problem(self.path, self.message))


def mistakes(error: ValidationError, settings: type[Settings]) -> list[Mistake]:
    """Return one sentence for each thing that pydantic found wrong in the fields of a settings class."""
    found = []
    for item in error.errors(include_url=False):
        # A list counts as short when its items are wrong; they are reported themselves.
        if item["type"] == "too_short" and item["input"]:
            continue
        parts = [_printable(str(part)) for part in item["loc"] if part != "[key]"]
        found.append(Mistake(".".join(parts), _sentence(item, _place(settings, parts))))
    return found


def row_mistakes(ablation: Ablation, by_row: Mapping[int, Sequence[Mistake]]) -> list[Problem]:
    """Return the mistakes of an ablation's runs, each once, where it stands in the file: in the base, or in a row.

    Args:
        ablation: Whose runs they are.
        by_row: What is wrong in the run of a row, by the row's number.
    """
    found: dict[Problem, None] = {}
    for number, wrong in by_row.items():
        changes = ablation.rows[number].changes
        for mistake in wrong:
            everywhere = len(by_row) == len(ablation.rows) > 1 and all(mistake in other for other in by_row.values())
            in_row = not everywhere and (not mistake.path or _holds(changes, mistake.path.split(".")))
            under = f"rows.{number}.changes" if in_row else "base"
            found[Problem(f"{under}.{mistake.path}".rstrip("."), mistake.message)] = None
    return list(found)


@dataclass(frozen=True)
class _Place:
    """What a path leads to.

    Attributes:
        path: As it stands in a file.
        wanted: The type that the settings want there; None where they know no such place.
        limits: Of a number.
        known: Names of the settings beside it.
    """

    path: str
    wanted: Any
    limits: Sequence[Any]
    known: Sequence[str]


def _place(settings: type[Settings], parts: Sequence[str]) -> _Place:
    wanted: Any = settings
    path, limits, known = [], [], []
    for part in parts:
        kinds = kinds_of(wanted)
        if part in kinds:  # pydantic's path names the kind, a file does not
            wanted, limits = kinds[part], []
            continue
        path.append(part)
        if is_settings(wanted):
            known = [name for name in wanted.model_fields if name != "kind"]
            field = wanted.model_fields.get(part)
            wanted, limits = (None, []) if field is None else (bare(field.annotation), field.metadata)
        else:
            wanted, limits = bare(get_args(wanted)[0]) if get_origin(wanted) is tuple else None, []
    return _Place(".".join(path), wanted, limits, known)


def _sentence(item: Any, place: _Place) -> str:
    value, last = item["input"], item["loc"][-1] if item["loc"] else ""
    match "invalid_key" if last == "[key]" else item["type"]:
        case "missing":
            return "this setting is required; add it"
        case "extra_forbidden" | "invalid_key":
            close = get_close_matches(str(last), place.known, n=1, cutoff=0.75)
            return f"there is no such setting; {f'is it {close[0]}?' if close else 'remove it or correct its name'}"
        case "value_error":
            return item["msg"].removeprefix("Value error, ")
        case "union_tag_not_found":
            return f"its kind is missing; add one: {', '.join(kinds_of(place.wanted))}"
        case "union_tag_invalid":
            return f"its kind must be {_one_of(list(kinds_of(place.wanted)))} not {_shown(value['kind'])}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {item['ctx']['max_length']} characters, not {len(value)}"
        case "too_long":
            return f"must have at most {item['ctx']['max_length']} items, not {len(value)}"
        case "too_short":
            return "must not be empty; name at least one"
    wanted = _wanted(place)
    if wanted is None:
        return f"{item['msg'][:1].lower()}{item['msg'][1:]}, not {_shown(value)}"
    if value is None:
        return f"must be {wanted.rstrip(',;')}; it is empty"
    advice = ""
    if place.wanted is str and not isinstance(value, list | dict):
        advice = "; put it in quotes"
    elif get_origin(place.wanted) is tuple:
        advice = "; put it in brackets"
    return f"must be {wanted} not {_shown(value)}{advice}"


def _wanted(place: _Place) -> str | None:
    """Return what a place wants, for example ``a whole number from 1 to 512,``."""
    wanted = place.wanted
    if get_origin(wanted) is Literal:
        return _one_of(get_args(wanted))
    if wanted is int or wanted is float:
        return " ".join(["a whole number" if wanted is int else "a number", *_range(place.limits)]) + ","
    if is_settings(wanted) or kinds_of(wanted) or get_origin(wanted) is dict:
        return "settings, each as name: value,"
    if get_origin(wanted) is tuple:
        return "a list,"
    return {str: "text,", bool: "true or false,"}.get(wanted)


def _one_of(options: Sequence[Any]) -> str:
    return f"{options[0]}," if len(options) == 1 else f"one of {', '.join(map(str, options))};"


def _range(limits: Sequence[Any]) -> list[str]:
    """Return the limits of a number in words: ``from 1 to 512``, ``above 0 and up to 1000``, ``from 0 to below 1``."""
    words: list[str] = []
    for limit in limits:
        match limit:
            case Ge(ge=low):
                words.append(f"from {low}")
            case Gt(gt=low):
                words.append(f"above {low}")
            case Le(le=high):
                words.append(f"to {high}" if any(word.startswith("from") for word in words) else f"and up to {high}")
            case Lt(lt=high):
                words.append(f"to below {high}")
    return words


def _shown(value: Any) -> str:
    """Return a value as its file has it, in a few words."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case str():
            text = repr(value)
        case list() | tuple():
            return "a list"
        case dict():
            return "settings"
        case _:
            text = _printable(str(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _holds(changes: Any, path: Sequence[str]) -> bool:
    """Return whether a row itself says what stands at a path; a list or a value replaces the base's as a whole."""
    for part in path:
        if not isinstance(changes, dict):
            return True
        if part not in changes:
            return False
        changes = changes[part]
    return True
