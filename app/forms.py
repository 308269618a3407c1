"""A settings class becomes widgets, and the widgets become settings again.

`settings_form` walks a pydantic class: a nested class is a section, a union is a choice of its `kind` and the
fields of the chosen one, a list of a union is a choice of several. A field that is listed as visible, or that has
no default, stands in front; everything else waits under "Advanced settings". What is typed is returned as plain
dictionaries, right or wrong, so that nothing is lost; the caller validates it and hands the mistakes back to
`Filled.show`, which puts each beside its field.
"""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import streamlit as st
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from streamlit.delta_generator import DeltaGenerator

from app import text
from core.errors import Problem


@dataclass
class Filled:
    """A form as it stands on the page.

    Attributes:
        values: What is typed, as plain dictionaries; not validated.
        places: Where the mistakes of a field are shown, by the path that pydantic gives it.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, DeltaGenerator] = field(default_factory=dict)

    def show(self, problems: Sequence[Problem]) -> None:
        """Put every mistake beside its field; those of no field are left to the summary above the form."""
        beside: dict[str, list[str]] = {}
        for problem in problems:
            fields = [where for where in self.places if f"{problem.where}.".startswith(f"{where}.")]
            if fields:
                sentence = problem.message[:1].upper() + problem.message[1:]
                beside.setdefault(max(fields, key=len), []).append(text.plain(sentence))
        for where, messages in beside.items():
            self.places[where].markdown("  \n".join(f":red[:material/error: {message}]" for message in messages))


def settings_form(
    settings: type[BaseModel], values: Mapping[str, Any], *, key: str, visible: Mapping[str, str]
) -> Filled:
    """Show the widgets of a settings class, two in a row, and return what they hold.

    Args:
        settings: The class; its descriptions and limits become the help of its widgets.
        values: What the widgets hold at first, as plain dictionaries; missing fields take their default.
        key: Start of every widget's key. Another key makes a fresh form.
        visible: Labels of the fields that stand in front, by the path that pydantic reports:
            ``student.pruned.encoder_layers``.
    """
    front = _Grid(st.container())
    advanced = st.expander("Advanced settings", icon=":material/tune:")
    groups = ["Run", *(text.words(name) for name, info in settings.model_fields.items() if not _is_leaf(info))]
    grids = {group: _Grid(tab) for group, tab in zip(groups, advanced.tabs(groups), strict=True)}

    def place(path: str, required: bool) -> AbstractContextManager[Any]:
        if path in visible or required:
            return front.cell()
        head = text.words(path.split(".")[0])
        return grids.get(head, grids["Run"]).cell()

    def section(path: str) -> DeltaGenerator:
        return grids.get(text.words(path.split(".")[0]), grids["Run"]).row()

    form = _Form(place=place, section=section, labels=visible)
    form.filled.values = form.settings(settings, values, _Field("", key))
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
        owner: What its section is called, in words; empty at the top.
    """

    path: str
    key: str
    owner: str = ""

    def under(self, name: str, owner: str = "") -> "_Field":
        path = f"{self.path}.{name}" if self.path else name
        return _Field(path, f"{self.key}.{name}" if self.path else f"{self.key}:{name}", owner)

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
    ) -> None:
        self.place, self.section, self.labels = place, section, labels
        self.filled = Filled()

    def label(self, at: _Field) -> str:
        return self.labels.get(at.path) or text.words(f"{at.owner} {at.name}".strip())

    def settings(
        self, settings: type[BaseModel], values: Mapping[str, Any], at: _Field, owner: str = ""
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, info in settings.model_fields.items():
            if name == "kind":
                result[name] = info.default
                continue
            value = values[name] if name in values else _default(info)
            result[name] = self.value(info.annotation, info, value, at.under(name, owner))
        return result

    def value(self, annotation: Any, info: FieldInfo, value: Any, at: _Field) -> Any:
        """Return what the widgets of one field hold, whatever its type."""
        annotation = _bare(annotation)
        if _is_settings(annotation):
            if at.owner:
                self.heading(at, at.name, annotation)
            return self.settings(annotation, value if isinstance(value, Mapping) else {}, at, at.name)
        if members := _kinds(annotation):
            return self.one_of(members, info, value if isinstance(value, Mapping) else {}, at)
        item = _item(annotation)
        if members := _kinds(item):
            return self.some_of(members, info, _mappings(value), at)
        if _is_settings(item):
            return self.several(item, info, _mappings(value), at)
        with self.place(at.path, info.is_required()):
            result = _widget(annotation, info, value, self.label(at), at.key)
            self.filled.places[at.path] = st.empty()
        return result

    def one_of(
        self, members: dict[str, type[BaseModel]], info: FieldInfo, value: Mapping[str, Any], at: _Field
    ) -> dict[str, Any]:
        kinds = list(members)
        with self.place(at.path, False):
            kind = st.selectbox(
                self.label(at),
                kinds,
                index=kinds.index(value["kind"]) if value.get("kind") in kinds else 0,
                format_func=text.words,
                help=_help(info, members),
                key=f"{at.key}.kind",
                persist_state="session",
            )
            self.filled.places[at.path] = st.empty()
        inner = value if value.get("kind") == kind else {}
        return self.settings(members[kind], inner, at.under(kind), at.name)

    def some_of(
        self, members: dict[str, type[BaseModel]], info: FieldInfo, values: list[Mapping[str, Any]], at: _Field
    ) -> list[dict[str, Any]]:
        before = {value["kind"]: value for value in values if value.get("kind") in members}
        with self.place(at.path, info.is_required()):
            chosen = st.multiselect(
                self.label(at),
                list(members),
                default=list(before),
                format_func=text.words,
                help=_help(info, members),
                key=at.key,
                persist_state="session",
            )
            self.filled.places[at.path] = st.empty()
        result = []
        for number, kind in enumerate(chosen):
            member = _Field(f"{at.path}.{number}.{kind}", f"{at.key}.{kind}")
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
                help=_help(info),
                key=f"{at.key}.count",
                persist_state="session",
            )
            self.filled.places[at.path] = st.empty()
        filled = [*values, *([{}] * int(number or 0))][: int(number or 0)]
        one = at.name.removesuffix("s")
        return [self.settings(member, value, at.under(str(place)), one) for place, value in enumerate(filled)]

    def heading(self, at: _Field, name: str, settings: type[BaseModel]) -> None:
        self.section(at.path).markdown(f"**{text.words(name)}** · {_summary(settings)}")


def _widget(annotation: Any, info: FieldInfo, value: Any, label: str, key: str) -> Any:
    """Show the widget of one plain value and return what it holds."""
    about = _help(info)
    if get_origin(annotation) is Literal:
        options = list(get_args(annotation))
        index = options.index(value) if value in options else 0
        return st.selectbox(
            label, options, index=index, format_func=_option, help=about, key=key, persist_state="session"
        )
    if annotation is bool:
        return st.toggle(label, value=bool(value), help=about, key=key, persist_state="session")
    if annotation is int:
        return st.number_input(label, value=_number(value, int), step=1, help=about, key=key, persist_state="session")
    if annotation is float:
        number = _number(value, float)
        return st.number_input(
            label, value=number, step=_step(number), format="%g", help=about, key=key, persist_state="session"
        )
    item = _item(annotation)
    if item is not None:
        shown = (
            ", ".join(str(part) for part in value) if isinstance(value, Sequence) and not isinstance(value, str) else ""
        )
        typed = st.text_input(
            label,
            value=shown,
            placeholder="none" if _optional(info.annotation) else "",
            help=f"{about} Separate several with commas.",
            key=key,
            persist_state="session",
        )
        parts = [part.strip() for part in (typed or "").split(",") if part.strip()]
        if not parts and _optional(info.annotation):
            return None
        return [int(part) if item is int and part.isdecimal() else part for part in parts]
    typed = st.text_input(
        label,
        value="" if value is None else str(value),
        placeholder="none" if _optional(info.annotation) else "",
        help=about,
        key=key,
        persist_state="session",
    )
    return None if not typed and _optional(info.annotation) else typed


def limits(info: FieldInfo) -> str:
    """Return the range of a number in words, for example ``From 1 to 512.``, or nothing."""
    low = next((item for item in info.metadata if isinstance(item, Ge | Gt)), None)
    high = next((item for item in info.metadata if isinstance(item, Le | Lt)), None)
    parts = []
    if isinstance(low, Ge | Gt):
        parts.append(f"from {low.ge:,}" if isinstance(low, Ge) else f"above {low.gt:,}")
    if isinstance(high, Le | Lt):
        parts.append(f"to {high.le:,}" if isinstance(high, Le) else f"below {high.lt:,}")
    sentence = " ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def _help(info: FieldInfo, members: Mapping[str, type[BaseModel]] | None = None) -> str:
    parts = [text.plain(info.description or ""), text.plain(limits(info))]
    if members:
        parts += [f"\n\n**{text.words(kind)}**: {_summary(member)}" for kind, member in members.items()]
    elif not info.is_required() and isinstance(info.default, int | float) and not isinstance(info.default, bool):
        parts.append(text.plain(f"Default {info.default:,}."))
    return " ".join(part for part in parts if part)


def _summary(member: type[BaseModel]) -> str:
    return text.plain((member.__doc__ or "").strip().split("\n")[0])


def _option(value: Any) -> str:
    return text.words(str(value)) if isinstance(value, str) else str(value)


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _step(value: float | None) -> float:
    """Return the power of ten below a value: what one press of + or − adds."""
    return 10.0 ** math.floor(math.log10(abs(value))) if value else 0.1


def _default(info: FieldInfo) -> Any:
    value = None if info.is_required() else info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    return value


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _bare(annotation: Any) -> Any:
    """Return an annotation without Annotated and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if _optional(annotation):
        rest = [member for member in get_args(annotation) if member is not types.NoneType]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and types.NoneType in get_args(annotation)


def _item(annotation: Any) -> Any:
    """Return the bare type of the items of ``tuple[X, ...]``, or None for any other type."""
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is tuple else None


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_leaf(info: FieldInfo) -> bool:
    bare = _bare(info.annotation)
    return not any(_is_settings(kind) or _kinds(kind) for kind in (bare, _item(bare)))


def _kinds(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the members of a union of settings by their kind, or nothing for any other type."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return {}
    members = get_args(annotation)
    if not all(_is_settings(member) and "kind" in member.model_fields for member in members):
        return {}
    return {member.model_fields["kind"].default: member for member in members}
