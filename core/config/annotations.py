"""What the types of settings say: which are classes, choices of a kind, lists, or may be none."""

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def bare(annotation: Any) -> Any:
    """Return an annotation without Annotated and without `| None`."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if optional(annotation):
        rest = [member for member in get_args(annotation) if member is not types.NoneType]
        return bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def optional(annotation: Any) -> bool:
    """Return whether a field may be none."""
    return get_origin(annotation) in (Union, types.UnionType) and types.NoneType in get_args(annotation)


def item_of(annotation: Any) -> Any:
    """Return the bare type of the items of ``tuple[X, ...]``, or None for any other type."""
    return bare(get_args(annotation)[0]) if get_origin(annotation) is tuple else None


def is_settings(annotation: Any) -> bool:
    """Return whether a type is a class of settings."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def is_leaf(info: FieldInfo) -> bool:
    """Return whether a field holds a plain value, or a list of them."""
    annotation = bare(info.annotation)
    return not any(is_settings(kind) or kinds_of(kind) for kind in (annotation, item_of(annotation)))


def kinds_of(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the members of a union of settings by their kind, or nothing for any other type."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return {}
    members = get_args(annotation)
    if not all(is_settings(member) and "kind" in member.model_fields for member in members):
        return {}
    return {member.model_fields["kind"].default: member for member in members}
