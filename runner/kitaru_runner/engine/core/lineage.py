"""Which outcomes went into a call: those whose values were passed to it, known by identity."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import islice
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

REMEMBERED_VALUES = 4096
REMEMBERED_BYTES = 64 << 20
REMEMBERED_MEMBERS = 32
"""Of one outcome: the first so many of its items, values or fields."""

SHORTEST_TEXT = 16
"""Shorter texts are interned, or equal by chance: they say nothing of where they came from."""

SHARED = (type(None), bool, int, float, complex, Enum, type, FunctionType, BuiltinFunctionType, ModuleType)
"""Of these there is one object for all who have an equal one."""


# `isinstance(value, list | tuple)` makes the union anew at each call.
TEXTS = (str, bytes)
COLLECTIONS = (list, tuple, set, frozenset)

NUMBERS = frozenset({type(None), bool, int, float})
"""The commonest of these."""


class Lineage:
    """Values that the flow was given, while it may still pass them on. Any thread may ask."""

    def __init__(self) -> None:
        # Each is held, so that its id is not given to another object.
        self._known: OrderedDict[int, tuple[object, str, int]] = OrderedDict()
        self._bytes = 0

    def note(self, value: object, key: str, size: int) -> None:
        """The value, of `size` encoded bytes, is the outcome of `key`; so are its members, one level down."""
        if type(value) in NUMBERS or size > REMEMBERED_BYTES or not is_telling(value):
            return
        self._keep(value, key, size)
        for member in islice(members(value), REMEMBERED_MEMBERS):
            if type(member) not in NUMBERS and is_telling(member):
                self._keep(member, key, 0)
        while len(self._known) > REMEMBERED_VALUES or self._bytes > REMEMBERED_BYTES:
            try:
                _, (_, _, dropped) = self._known.popitem(last=False)
            except KeyError:
                return
            self._bytes -= dropped

    def parents(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """Keys of the outcomes among the arguments, and one level down in lists, mappings, fields and the like."""
        if not self._known:
            return ()
        found: list[str] = []
        for value in (*args, *kwargs.values()):
            if type(value) not in NUMBERS:
                found += self._of(value)
        return tuple(dict.fromkeys(found)) if found else ()

    def _keep(self, value: object, key: str, size: int) -> None:
        before = self._known.pop(id(value), None)
        self._bytes += size - (before[2] if before else 0)
        self._known[id(value)] = (value, key, size)

    def _of(self, value: Any) -> Iterable[str]:
        for item in (value, *members(value)):
            key = self._key_of(item)
            if key is not None:
                yield key

    def _key_of(self, value: object) -> str | None:
        known = self._known.get(id(value))
        return known[1] if known is not None and known[0] is value else None


def is_telling(value: object) -> bool:
    if type(value) in (dict, list):
        return True
    if isinstance(value, SHARED):
        return False
    if isinstance(value, TEXTS):
        return len(value) >= SHORTEST_TEXT
    # There is one empty tuple, and one empty frozenset.
    return bool(value) if isinstance(value, (tuple, frozenset)) else True


def members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, COLLECTIONS):
        return value
    return getattr(value, "__dict__", {}).values()
