"""One plain setting as a widget, with what it means, its range and its default as the widget's help."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import streamlit as st
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from app import text
from core.config.annotations import item_of, optional
from core.errors import Problem


def widget(annotation: Any, info: FieldInfo, value: Any, label: str, key: str) -> Any:
    """Show the widget of one plain value and return what it holds."""
    meaning = about(info)
    if get_origin(annotation) is Literal:
        options = list(get_args(annotation))
        index = options.index(value) if value in options else 0
        return st.selectbox(
            label, options, index=index, format_func=_option, help=meaning, key=key, persist_state="session"
        )
    if annotation is bool:
        return st.toggle(label, value=bool(value), help=meaning, key=key, persist_state="session")
    if annotation is int:
        return st.number_input(label, value=_number(value, int), step=1, help=meaning, key=key, persist_state="session")
    if annotation is float:
        number = _number(value, float)
        return st.number_input(
            label, value=number, step=_step(number), format="%g", help=meaning, key=key, persist_state="session"
        )
    item = item_of(annotation)
    if item is not None:
        shown = (
            ", ".join(str(part) for part in value) if isinstance(value, Sequence) and not isinstance(value, str) else ""
        )
        typed = st.text_input(
            label,
            value=shown,
            placeholder="none" if optional(info.annotation) else "",
            help=f"{meaning} Separate several with commas.",
            key=key,
            persist_state="session",
        )
        parts = [part.strip() for part in (typed or "").split(",") if part.strip()]
        if not parts and optional(info.annotation):
            return None
        return [int(part) if item is int and part.isdecimal() else part for part in parts]
    typed = st.text_input(
        label,
        value="" if value is None else str(value),
        placeholder="none" if optional(info.annotation) else "",
        help=meaning,
        key=key,
        persist_state="session",
    )
    return None if not typed and optional(info.annotation) else typed


def several_values(label: str, usual: Sequence[str], info: FieldInfo, meaning: str) -> tuple[list[Any], list[Problem]]:
    """Let values of one setting be chosen or written, none of them for what it is anyway.

    Args:
        label: Of the field.
        usual: Values that are offered.
        info: The setting.
        meaning: What it is, for the help.

    Returns:
        The values that can be, and what is wrong with the others, which is said under the field.
    """
    chosen = st.multiselect(
        label,
        usual,
        accept_new_options=True,
        placeholder="As in the preset",
        help=f"{meaning} Choose some, or write your own.",
        key=f"grid {label}",
        persist_state="session",
    )
    one = create_model("One", value=(info.annotation or str, info))
    found, wrong = [], []
    for said in chosen:
        try:
            found.append(one.model_validate({"value": said}).model_dump()["value"])
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Input ")
            wrong.append(Problem(label, f"'{said}' {why[:1].lower()}{why[1:]}"))
    for problem in wrong:
        st.markdown(f":red[:material/error: {text.plain(problem.message)}]")
    return list(dict.fromkeys(found)), wrong


def choice_or_text(known: Mapping[str, str], info: FieldInfo, value: Any, label: str, key: str) -> str | None:
    """Show a text that is chosen from known values or written, and return it.

    Args:
        known: Labels by value.
        info: The field.
        value: What it holds at first; it is offered, too.
        label: Of the widget.
        key: Of the widget.
    """
    options: list[str] = list(dict.fromkeys([*([str(value)] if value else []), *known]))
    chosen = st.selectbox(
        label,
        options,
        index=0 if value else None,
        format_func=lambda option: known.get(option, option),
        accept_new_options=True,
        placeholder="Choose or write",
        help=f"{about(info)} Choose one, or write another.",
        key=key,
        persist_state="session",
    )
    return chosen if chosen or optional(info.annotation) else ""


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


def about(info: FieldInfo, members: Mapping[str, type[BaseModel]] | None = None) -> str:
    """Return the help of a widget: what the field is, its range and default, and what each kind means."""
    parts = [text.plain(info.description or ""), text.plain(limits(info))]
    if members:
        parts += [f"\n\n**{text.words(kind)}**: {summary(member)}" for kind, member in members.items()]
    elif not info.is_required() and isinstance(info.default, int | float) and not isinstance(info.default, bool):
        parts.append(text.plain(f"Default {info.default:,}."))
    return " ".join(part for part in parts if part)


def summary(member: type[BaseModel]) -> str:
    """Return the first sentence that settings say of themselves."""
    return text.plain((member.__doc__ or "").strip().split("\n")[0])


def _option(value: Any) -> str:
    return text.words(str(value)) if isinstance(value, str) else str(value)


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _step(value: float | None) -> float:
    """Return the power of ten below a value: what one press of + or − adds."""
    return 10.0 ** math.floor(math.log10(abs(value))) if value else 0.1
