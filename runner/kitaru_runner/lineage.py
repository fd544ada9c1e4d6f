"""Which outcomes went into a call: those whose values were passed to it, known by identity."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

REMEMBERED_VALUES = 4096
REMEMBERED_BYTES = 64 << 20
SHORTEST_TEXT = 16
"""Shorter texts are interned, or equal by chance: they say nothing of where they came from."""


class Lineage:
    """Values that the flow was given, while it may still pass them on. Any thread may ask."""

    def __init__(self) -> None:
        # Each is held, so that its id is not given to another object.
        self._known: OrderedDict[int, tuple[object, str, int]] = OrderedDict()
        self._bytes = 0

    def note(self, value: object, key: str, size: int) -> None:
        """The value, of `size` encoded bytes, is the outcome of `key`."""
        if not is_telling(value) or size > REMEMBERED_BYTES:
            return
        before = self._known.pop(id(value), None)
        self._bytes += size - (before[2] if before else 0)
        self._known[id(value)] = (value, key, size)
        while len(self._known) > REMEMBERED_VALUES or self._bytes > REMEMBERED_BYTES:
            try:
                _, (_, _, dropped) = self._known.popitem(last=False)
            except KeyError:
                return
            self._bytes -= dropped

    def parents(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """Keys of the outcomes among the arguments, and one level down in lists, tuples, sets and mappings."""
        if not self._known:
            return ()
        return tuple(dict.fromkeys(key for value in (*args, *kwargs.values()) for key in self._of(value)))

    def _of(self, value: Any) -> Iterable[str]:
        for item in (value, *members(value)):
            known = self._known.get(id(item))
            if known is not None and known[0] is item:
                yield known[1]


def is_telling(value: object) -> bool:
    if value is None or isinstance(value, bool | int | float | complex):
        return False
    return len(value) >= SHORTEST_TEXT if isinstance(value, str | bytes) else True


def members(value: Any) -> Iterable[Any]:
    if isinstance(value, list | tuple | set | frozenset):
        return value
    return value.values() if isinstance(value, dict) else ()
