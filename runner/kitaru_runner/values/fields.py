"""What an instance holds, in its `__dict__` and in slots: to be recorded, and put into another instance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MemberDescriptorType
from typing import Any

from kitaru_runner.values.binary import NotTaggable

OWN_WAYS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs_ex__")


def keeps_itself_as(kind: type, base: type) -> bool:
    """Whether the class leaves to `base` how its instances are pickled: then their state is all that they are."""
    return all(getattr(kind, way, None) is getattr(base, way, None) for way in OWN_WAYS)


@functools.lru_cache(maxsize=1024)
def is_made_by_object(kind: type) -> bool:
    """Whether an instance holds nothing but attributes. Its own `__new__`, if it has one, only stands before that."""
    try:
        object.__new__(kind)
    except TypeError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def slots_of(kind: type) -> Mapping[str, MemberDescriptorType]:
    """The slots of a class and of its bases."""
    found: dict[str, MemberDescriptorType] = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= {name: slot for name, slot in vars(base).items() if isinstance(slot, MemberDescriptorType)}
    return found


def set_slots(value: Any, kind: type, slots: Mapping[str, MemberDescriptorType]) -> dict[str, Any]:
    found = {}
    for name, slot in slots.items():
        try:
            found[name] = slot.__get__(value, kind)
        except AttributeError:
            continue
    return found


def state_of(value: Any, kind: type) -> dict[str, Any]:
    """Its `__dict__`, and those of its slots that are set."""
    state = dict(getattr(value, "__dict__", ())) | set_slots(value, kind, slots_of(kind))
    # The hash that an attrs class keeps there is of this process.
    if "_attrs_cached_hash" in state:
        state["_attrs_cached_hash"] = None
    return state


def tag_state(state: Mapping[str, Any], kind: type, tag: Callable[[Any], Any]) -> dict[str, Any]:
    """Without what a cached property computed, where that cannot be kept: it computes it anew."""
    if "$" in state:
        raise NotTaggable  # would be taken for a tag
    found = {}
    for name, item in state.items():
        try:
            found[name] = tag(item)
        except NotTaggable:
            if not isinstance(getattr(kind, name, None), functools.cached_property):
                raise
    return found


def filled(value: Any, kind: type, state: Mapping[str, Any]) -> Any:
    """The value, which now holds that, whatever its class makes of setting an attribute."""
    slots = slots_of(kind)
    for name, item in state.items():
        if name in slots:
            slots[name].__set__(value, item)
        else:
            value.__dict__[name] = item
    return value
