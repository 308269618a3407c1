"""A settings class becomes widgets, and the widgets become settings again.

`settings_form` walks a pydantic class: a nested class is a section, a union is a choice of its `kind` and the
fields of the chosen one, a list of a union is a choice of several. A field that is listed as visible, or that has
no default, stands in front; everything else waits under "Advanced settings". Fields that few people need are folded
away there, and those that the others make meaningless are left out. What is typed is returned as plain dictionaries,
right or wrong, so that nothing is lost; the caller validates it and hands the mistakes back to `Filled.show`, which
puts each beside its field.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from streamlit.delta_generator import DeltaGenerator

from app import text
from app.widgets import about, choice_or_text, summary, widget
from core.config.annotations import bare, is_leaf, is_settings, item_of, kinds_of, optional
from core.errors import Problem

Asked = Callable[[Mapping[str, Any]], bool]
"""Whether a field matters, given what was filled in before it in the same class."""


@dataclass
class Filled:
    """A form as it stands on the page.

    Attributes:
        values: What is typed, as plain dictionaries; not validated.
        places: Where the mistakes of a field are shown, by the path that pydantic gives it, and by its path in a file.
        labels: What a field is called on the page, by the same paths.
        empty: Paths of the fields that nothing stands in.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, DeltaGenerator] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)

    def missing(self, problems: Sequence[Problem]) -> list[Problem]:
        """Return the mistakes of fields that nobody has filled in so far."""
        return [problem for problem in problems if self._nearest(problem) in self.empty]

    def show(self, problems: Sequence[Problem]) -> None:
        """Put every mistake beside its field; those of no field are left to the summary above the form."""
        beside: dict[int, list[str]] = {}
        places = {id(place): place for place in self.places.values()}
        for problem in problems:
            where = self._nearest(problem)
            if where:
                sentence = problem.message[:1].upper() + problem.message[1:]
                beside.setdefault(id(self.places[where]), []).append(text.plain(sentence))
        for place, messages in beside.items():
            places[place].markdown("  \n".join(f":red[:material/error: {message}]" for message in messages))

    def named(self, problems: Sequence[Problem]) -> list[Problem]:
        """Return mistakes under the names that their fields have on the page; those of no field keep their own."""
        return [
            Problem(self.labels.get(self._nearest(problem), problem.where), problem.message) for problem in problems
        ]

    def _nearest(self, problem: Problem) -> str:
        """Return the path of the innermost field that a mistake is in; empty where it is in none."""
        fields = [where for where in self.places if f"{problem.where}.".startswith(f"{where}.")]
        return max(fields, key=len, default="")


def settings_form(
    settings: type[BaseModel],
    values: Mapping[str, Any],
    *,
    key: str,
    visible: Mapping[str, str],
    folded: Mapping[str, str] | None = None,
    asked: Mapping[str, Asked] | None = None,
    offered: Mapping[str, Mapping[str, str]] | None = None,
    noted: Mapping[str, Callable[[str], str]] | None = None,
) -> Filled:
    """Show the widgets of a settings class, two in a row, and return what they hold.

    Args:
        settings: The class; its descriptions and limits become the help of its widgets.
        values: What the widgets hold at first, as plain dictionaries; missing fields take their default.
        key: Start of every widget's key. Another key makes a fresh form.
        visible: Labels of the fields that stand in front, by the path that pydantic reports:
            ``student.pruned.encoder_layers``.
        folded: What the fold is called into which a field goes, by patterns of paths: ``method.losses.*.begins``.
        asked: Fields that matter only sometimes, by path. One that does not, and has its default, is left out.
        offered: Values that a text may take beside what is written, with their labels, by patterns of paths.
        noted: What is said under a text of what stands in it, by patterns of paths.
    """
    front = _Grid(st.container())
    advanced = st.expander("Advanced settings", icon=":material/tune:")
    groups = ["Run", *(text.words(name) for name, info in settings.model_fields.items() if not is_leaf(info))]
    grids = {group: _Grid(tab) for group, tab in zip(groups, advanced.tabs(groups), strict=True)}

    def place(path: str, required: bool) -> AbstractContextManager[Any]:
        if path in visible or required:
            return front.cell()
        head = text.words(path.split(".")[0])
        return grids.get(head, grids["Run"]).cell()

    def section(path: str) -> DeltaGenerator:
        return grids.get(text.words(path.split(".")[0]), grids["Run"]).row()

    form = _Form(
        place=place,
        section=section,
        labels=visible,
        folded=folded or {},
        asked=asked or {},
        offered=offered or {},
        noted=noted or {},
    )
    form.filled.values = form.settings(settings, values, _Field("", key, ""))
    return form.filled


class _Grid:
    """Cells in rows of two that stack on a narrow screen in reading order."""

    def __init__(self, container: DeltaGenerator) -> None:
        self._container = container
        self._free: list[DeltaGenerator] = []

    def cell(self) -> DeltaGenerator:
        if not self._free:
            self._free = list(self._container.columns(2, gap="medium"))
        return self._free.pop(0)

    def row(self) -> DeltaGenerator:
        self._free = []
        return self._container


@dataclass(frozen=True)
class _Field:
    """Where a field stands.

    Attributes:
        path: As pydantic reports it: ``method.losses.2.geodesic.weight``.
        key: Key of its widget: the same, but a member of a list is known by its kind, wherever it stands.
        file: As it stands in a file, where no path names a kind: ``method.losses.2.weight``.
        owner: What its section is called, in words; empty at the top.
    """

    path: str
    key: str
    file: str
    owner: str = ""

    def under(self, name: str, owner: str = "") -> "_Field":
        if not self.path:
            return _Field(name, f"{self.key}:{name}", name, owner)
        return _Field(f"{self.path}.{name}", f"{self.key}.{name}", f"{self.file}.{name}", owner)

    def of_kind(self, kind: str) -> "_Field":
        return _Field(f"{self.path}.{kind}", f"{self.key}.{kind}", self.file, self.owner)

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]


class _Form:
    """One walk through a settings class."""

    def __init__(
        self,
        *,
        place: Callable[[str, bool], AbstractContextManager[Any]],
        section: Callable[[str], DeltaGenerator],
        labels: Mapping[str, str],
        folded: Mapping[str, str],
        asked: Mapping[str, Asked],
        offered: Mapping[str, Mapping[str, str]],
        noted: Mapping[str, Callable[[str], str]],
    ) -> None:
        self.place, self.section, self.labels, self.folded, self.asked = place, section, labels, folded, asked
        self.offered, self.noted = offered, noted
        self.folds: dict[str, _Grid] = {}
        self.filled = Filled()

    def label(self, at: _Field) -> str:
        return self.labels.get(at.path) or text.words(f"{at.owner} {at.name}".strip())

    def settings(
        self, settings: type[BaseModel], values: Mapping[str, Any], at: _Field, owner: str = ""
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        later: dict[str, list[str]] = {}
        for name, info in settings.model_fields.items():
            here = at.under(name, owner)
            if name == "kind":
                result[name] = info.default
                continue
            fold = next((title for pattern, title in self.folded.items() if fnmatch(here.path, pattern)), None)
            if fold:
                later.setdefault(fold, []).append(name)
                continue
            result[name] = self.field(info, _given(values, name, info), here, result)
        for title, names in later.items():
            fields = {name: settings.model_fields[name] for name in names}
            changed = any(_given(values, name, info) != _default(info) for name, info in fields.items())
            # Open where somebody has set something, so that nothing of effect is hidden.
            grid = _Grid(self.section(at.path).expander(title, expanded=changed, type="compact"))
            for name, info in fields.items():
                here = at.under(name, owner)
                self.folds[here.path] = grid
                result[name] = self.field(info, _given(values, name, info), here, result)
        return result

    def field(self, info: FieldInfo, value: Any, at: _Field, before: Mapping[str, Any]) -> Any:
        """Return what one field holds; one that does not matter is not shown, unless it is set."""
        matters = self.asked.get(at.path)
        if matters is not None and not matters(before) and value == _default(info):
            return value
        return self.value(info.annotation, info, value, at)

    def cell(self, at: _Field, required: bool) -> AbstractContextManager[Any]:
        return self.folds[at.path].cell() if at.path in self.folds else self.place(at.path, required)

    def mistakes_here(self, at: _Field) -> None:
        """Keep a place for the mistakes of a field."""
        self.filled.places[at.path] = self.filled.places[at.file] = st.empty()
        self.filled.labels[at.path] = self.filled.labels[at.file] = self.label(at)

    def value(self, annotation: Any, info: FieldInfo, value: Any, at: _Field) -> Any:
        """Return what the widgets of one field hold, whatever its type."""
        annotation = bare(annotation)
        if is_settings(annotation):
            if optional(info.annotation) and not self.wanted(info, value, at):
                return None
            if at.owner:
                self.heading(at, at.name, annotation)
            return self.settings(annotation, value if isinstance(value, Mapping) else {}, at, at.name)
        if members := kinds_of(annotation):
            return self.one_of(members, info, value if isinstance(value, Mapping) else {}, at)
        item = item_of(annotation)
        if members := kinds_of(item):
            return self.some_of(members, info, _mappings(value), at)
        if is_settings(item):
            return self.several(item, info, _mappings(value), at)
        with self.cell(at, info.is_required()):
            known = next((options for pattern, options in self.offered.items() if fnmatch(at.path, pattern)), None)
            if known is None:
                result = widget(annotation, info, value, self.label(at), at.key)
            else:
                result = choice_or_text(known, info, value, self.label(at), at.key)
            note = next((say for pattern, say in self.noted.items() if fnmatch(at.path, pattern)), None)
            if note is not None and result:
                for written in [result] if isinstance(result, str) else result:
                    st.caption(text.plain(note(str(written))))
            self.mistakes_here(at)
            if result in ("", None, []):
                self.filled.empty |= {at.path, at.file}
        return result

    def wanted(self, info: FieldInfo, value: Any, at: _Field) -> bool:
        """Return whether settings that may be none are wanted; they are asked for only then."""
        with self.cell(at, False):
            on = st.toggle(
                self.label(at), value=value is not None, help=about(info), key=f"{at.key}.on", persist_state="session"
            )
            self.mistakes_here(at)
        return on

    def one_of(
        self, members: dict[str, type[BaseModel]], info: FieldInfo, value: Mapping[str, Any], at: _Field
    ) -> dict[str, Any]:
        kinds = list(members)
        with self.cell(at, False):
            kind = st.selectbox(
                self.label(at),
                kinds,
                index=kinds.index(value["kind"]) if value.get("kind") in kinds else 0,
                format_func=text.words,
                help=about(info, members),
                key=f"{at.key}.kind",
                persist_state="session",
            )
            self.mistakes_here(at)
        inner = value if value.get("kind") == kind else {}
        return self.settings(members[kind], inner, at.of_kind(kind), at.name)

    def some_of(
        self, members: dict[str, type[BaseModel]], info: FieldInfo, values: list[Mapping[str, Any]], at: _Field
    ) -> list[dict[str, Any]]:
        before = {value["kind"]: value for value in values if value.get("kind") in members}
        with self.cell(at, info.is_required()):
            chosen = st.multiselect(
                self.label(at),
                list(members),
                default=list(before),
                format_func=text.words,
                help=about(info, members),
                key=at.key,
                persist_state="session",
            )
            self.mistakes_here(at)
        result = []
        for number, kind in enumerate(chosen):
            member = _Field(f"{at.path}.{number}.{kind}", f"{at.key}.{kind}", f"{at.file}.{number}")
            self.heading(member, kind, members[kind])
            result.append(self.settings(members[kind], before.get(kind, {}), member, kind))
        return result

    def several(
        self, member: type[BaseModel], info: FieldInfo, values: list[Mapping[str, Any]], at: _Field
    ) -> list[dict[str, Any]]:
        with self.place(f"{at.path}.count", False):
            number = st.number_input(
                f"Number of {self.label(at).lower()}",
                min_value=0,
                value=len(values),
                step=1,
                help=about(info),
                key=f"{at.key}.count",
                persist_state="session",
            )
            self.mistakes_here(at)
        filled = [*values, *([{}] * int(number or 0))][: int(number or 0)]
        one = at.name.removesuffix("s")
        return [self.settings(member, value, at.under(str(place)), one) for place, value in enumerate(filled)]

    def heading(self, at: _Field, name: str, settings: type[BaseModel]) -> None:
        section = self.section(at.path)
        section.markdown(f"**{text.words(name)}** · {summary(settings)}")
        with section:
            self.mistakes_here(at)


def _given(values: Mapping[str, Any], name: str, info: FieldInfo) -> Any:
    return values[name] if name in values else _default(info)


def _default(info: FieldInfo) -> Any:
    value = None if info.is_required() else info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    return value


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []
