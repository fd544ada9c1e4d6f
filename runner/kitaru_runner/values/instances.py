"""Instances of classes as JSON: the class by its name, and what the instance holds.

They are made again without their `__init__`, as unpickling does: what comes back holds exactly what was there.

    {"$": "enum", "type": "flows:Colour", "v": "RED"}
    {"$": "dataclass", "type": "flows:Point", "v": {"x": 1}}
    {"$": "derived", "of": "flows:Row", "from": "dict", "v": {"a": 1}, "state": {}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, Flag
from typing import Any

from kitaru_runner.values import pydantic_models, types_as_values
from kitaru_runner.values.binary import NotTaggable
from kitaru_runner.values.fields import filled, is_made_by_object, keeps_itself_as, state_of, tag_state
from kitaru_runner.values.types_as_values import found_type, required_name

Tag = Callable[[Any], Any]
Json = dict[str, Any]


def tagged(value: Any, kind: type, tag: Tag) -> Json:
    """
    Raises:
        NotTaggable: its class has no name, or says itself how it is kept, or it is equal to itself alone.
    """
    if types_as_values.is_type(value):
        return types_as_values.tagged(value, tag)
    if pydantic_models.is_model(kind):
        return pydantic_models.tagged(value, kind, tag)
    name = required_name(kind)
    if isinstance(value, Enum):
        return tag_member(value, kind, name, tag)
    if holds_fields(kind):
        return {"$": "dataclass", "type": name, "v": tag_state(in_order(value, kind), kind, tag)}
    if hasattr(kind, "_fields") and issubclass(kind, tuple):
        return tag_named_tuple(value, kind, name, tag)
    return tag_object(value, kind, name, tag)


def tag_member(value: Any, kind: Any, name: str, tag: Tag) -> Json:
    """By name; flags by their bits, and what an open enum made of a value by that value."""
    if isinstance(value, Flag):
        return {"$": "flag", "type": name, "v": value.value}
    if kind.__members__.get(value.name) is value:
        return {"$": "enum", "type": name, "v": value.name}
    try:
        made = kind(value.value)
    except ValueError:
        raise NotTaggable from None
    if type(made) is not kind or (made.name, made.value) != (value.name, value.value):
        raise NotTaggable
    return {"$": "member", "of": name, "v": tag(value.value)}


# Dataclasses, and classes of attrs


def holds_fields(kind: Any) -> bool:
    """Whether it is one, and nothing else: one that is a list too holds more than its fields."""
    return (dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")) and is_made_by_object(kind)


def in_order(value: Any, kind: Any) -> Json:
    """Its state, fields first: equal instances say the same, in whatever order they were filled."""
    state = state_of(value, kind)
    fields: Iterable[str] = getattr(kind, "__dataclass_fields__", ()) or [field.name for field in kind.__attrs_attrs__]
    names = [name for name in fields if name in state]
    return {name: state[name] for name in (*names, *sorted(state.keys() - set(names)))}


def read_fields(tagged: Json, untag: Tag) -> Any:
    kind = found_type(tagged["type"])
    return filled(object.__new__(kind), kind, {name: untag(item) for name, item in tagged["v"].items()})


# Other classes


def tag_named_tuple(value: Any, kind: Any, name: str, tag: Tag) -> Json:
    if len(kind._fields) != len(value) or not keeps_itself_as(kind, tuple) or getattr(value, "__dict__", None):
        raise NotTaggable
    return {"$": "namedtuple", "of": name, "v": dict(zip(kind._fields, map(tag, value), strict=True))}


def read_named_tuple(tagged: Json, untag: Tag) -> Any:
    return tuple.__new__(found_type(tagged["of"]), [untag(item) for item in tagged["v"].values()])


def tag_object(value: Any, kind: Any, name: str, tag: Tag) -> Json:
    """One that is equal by what it holds. One that is equal to itself alone is pickled: that keeps who is who."""
    base: Any = next((base for base in kind.__mro__ if base in CONTENTS), object)
    if not keeps_itself_as(kind, base):
        raise NotTaggable
    if base is object and (kind.__new__ is not base.__new__ or not may_be_copied(value, kind) or holds_more(value)):
        raise NotTaggable
    state = tag_state(state_of(value, kind), kind, tag)
    if base is object:
        return tag_secret(name, state) if hasattr(kind, "get_secret_value") else {"$": "object", "of": name, "v": state}
    return {"$": "derived", "of": name, "from": base.__name__, "v": tag(CONTENTS[base].of(value)), "state": state}


met: ContextVar[set[int] | None] = ContextVar("met", default=None)
"""Those objects that are equal to themselves alone of which there is a copy by now; None: there is to be none."""


@contextmanager
def equal_or_not() -> Iterator[None]:
    """Carry such objects too, each where it stands alone."""
    token = met.set(set())
    try:
        yield
    finally:
        met.reset(token)


def may_be_copied(value: object, kind: Any) -> bool:
    if kind.__eq__ is not object.__eq__:
        return True
    known = met.get()
    if known is None or id(value) in known:
        return False
    known.add(id(value))
    return True


def holds_more(value: Any) -> bool:
    """Whether there is something in it that only C code can see."""
    try:
        object.__reduce_ex__(value, 4)
    except TypeError:
        return True
    return False


def tag_secret(name: str, state: Json) -> Json:
    """One that does not show what it holds, as pydantic's SecretStr: people are not shown it here either."""
    return {"$": "object", "of": name, "v": "**********", "hidden": state}


def read_object(tagged: Json, untag: Tag) -> Any:
    kind = found_type(tagged["of"])
    state = tagged["hidden"] if "hidden" in tagged else tagged["v"]
    return filled(object.__new__(kind), kind, {name: untag(item) for name, item in state.items()})


@dataclasses.dataclass(frozen=True)
class Contents:
    """What an instance of a class derived from a type of Python's contains, and how one is made of it."""

    of: Callable[[Any], Any]
    make: Callable[[Any, Any], Any]


def filled_by(base: Any, fill: Callable[[Any, Any], None]) -> Callable[[Any, Any], Any]:
    def make(kind: Any, content: Any) -> Any:
        value = base.__new__(kind)
        fill(value, content)
        return value

    return make


CONTENTS: dict[type, Contents] = {
    str: Contents(str.__str__, str.__new__),
    int: Contents(int.__int__, int.__new__),
    float: Contents(float.__float__, float.__new__),
    bytes: Contents(bytes.__bytes__, bytes.__new__),
    tuple: Contents(lambda value: list(tuple.__iter__(value)), tuple.__new__),
    frozenset: Contents(frozenset.copy, frozenset.__new__),
    list: Contents(lambda value: list(list.__iter__(value)), filled_by(list, list.extend)),
    dict: Contents(lambda value: dict(dict.items(value)), filled_by(dict, dict.update)),
    set: Contents(set.copy, filled_by(set, set.update)),
}


def read_derived(tagged: Json, untag: Tag) -> Any:
    kind = found_type(tagged["of"])
    base = next(base for base in CONTENTS if base.__name__ == tagged["from"])
    value = CONTENTS[base].make(kind, untag(tagged["v"]))
    return filled(value, kind, {name: untag(item) for name, item in tagged["state"].items()})


READERS: dict[str, Callable[[Json, Tag], Any]] = {
    "enum": lambda tagged, untag: found_type(tagged["type"])[tagged["v"]],  # type: ignore[index]  # an Enum class
    "flag": lambda tagged, untag: found_type(tagged["type"])(tagged["v"]),  # by bits: a combination may have no name
    "member": lambda tagged, untag: found_type(tagged["of"])(untag(tagged["v"])),
    "dataclass": read_fields,
    "namedtuple": read_named_tuple,
    "object": read_object,
    "derived": read_derived,
    **pydantic_models.READERS,
    **types_as_values.READERS,
}
