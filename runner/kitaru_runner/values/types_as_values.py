"""Types as values, and as the class of a value: by name, and `Box[int]`, `int | None`, `Page[int]` by their parts."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any

from kitaru_registry.errors import KitaruUsageError
from kitaru_runner.values.binary import NotTaggable
from kitaru_runner.values.named_types import find_type, is_named, type_name

Tag = Callable[[Any], Any]
Json = dict[str, Any]


def is_type(value: object) -> bool:
    return (
        value is Ellipsis or value is NotImplemented or isinstance(value, type) or typing.get_origin(value) is not None
    )


def tagged(value: Any, tag: Tag) -> Json:
    """
    Raises:
        NotTaggable: neither a name nor parts lead to it.
    """
    if value is Ellipsis or value is NotImplemented:
        return {"$": "constant", "v": repr(value)}
    parts = parts_of(value)
    if parts is None:
        return {"$": "type", "v": "types:NoneType" if value is type(None) else required_name(value)}
    origin, args = parts
    found = {"$": "generic", "of": origin_name(origin, value), "v": [tag(arg) for arg in args]}
    try:
        same = read_generic(found, read_argument) == value
    except TypeError:
        same = False
    if not same:
        raise NotTaggable
    return found


def parts_of(value: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """Of a generic, what it was made of; a parametrised model of pydantic is a class that says so."""
    origin = typing.get_origin(value)
    if origin is not None:
        return origin, typing.get_args(value)
    said = getattr(value, "__pydantic_generic_metadata__", None)
    return (said["origin"], said["args"]) if said and said["origin"] else None


def required_name(kind: type) -> str:
    if not is_named(kind):
        raise NotTaggable
    return type_name(kind)


def origin_name(origin: Any, value: Any) -> str:
    """Of a form of typing's, the name there: `List[int]` is not `list[int]`."""
    if origin is types.UnionType:
        return "types:UnionType"
    if origin is typing.Union or origin is typing.Literal:
        return "typing:Union" if origin is typing.Union else "typing:Literal"
    name = getattr(value, "_name", None)
    if type(value).__module__ == "typing" and name is not None and getattr(typing, name, origin) is not origin:
        return f"typing:{name}"
    if not isinstance(origin, type):
        raise NotTaggable
    return required_name(origin)


def reference(kind: type, tag: Tag) -> Any:
    """What a value says of its class: the name, or the parts of a parametrised one, wherever it was made."""
    return required_name(kind) if parts_of(kind) is None else tagged(kind, tag)


def referred(said: Any, untag: Tag) -> Any:
    return found_type(said) if isinstance(said, str) else untag(said)


def found_type(path: str) -> type:
    """
    Raises:
        KitaruUsageError: it is not here.
    """
    kind = find_type(path)
    if kind is None:
        raise KitaruUsageError(
            f"the value's type {path} cannot be imported here", hint="read it where the flow's code is importable"
        )
    return kind


def read_type(tagged: Json, untag: Tag) -> Any:
    return found_type(tagged["v"])


def read_generic(tagged: Json, untag: Tag) -> Any:
    args = tuple(untag(arg) for arg in tagged["v"])
    if tagged["of"] == "types:UnionType":
        return functools.reduce(lambda one, other: one | other, args)
    module, _, name = tagged["of"].partition(":")
    kind: Any = getattr(typing, name) if module == "typing" else found_type(tagged["of"])
    return kind[args if len(args) != 1 else args[0]]


def read_argument(said: Any) -> Any:
    return READERS[said["$"]](said, read_argument) if isinstance(said, dict) and said.get("$") in READERS else said


def read_constant(tagged: Json, untag: Tag) -> Any:
    return CONSTANTS[tagged["v"]]


CONSTANTS = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}
READERS = {"type": read_type, "generic": read_generic, "constant": read_constant}
