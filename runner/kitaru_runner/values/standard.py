"""Values of the standard library, of numpy and of pydantic's core that are made by a call: what is in that call.

{"$": "made", "of": "ipaddress:IPv4Address", "v": "127.0.0.1"}
"""

from __future__ import annotations

import base64
import importlib
import re
import sys
from collections.abc import Callable
from datetime import UTC, timezone
from typing import Any, NamedTuple

from kitaru_registry.errors import KitaruUsageError
from kitaru_runner.values.binary import NotTaggable
from kitaru_runner.values.named_types import find_type, type_name

Tag = Callable[[Any], Any]


class Made(NamedTuple):
    """How a value of a type is said, and how it is made again."""

    say: Callable[[Any], Any]
    """What can be tagged."""
    make: Callable[[Any, Any], Any] = lambda kind, said: kind(said)
    """From the type, and what was said."""


def zone_key(zone: Any) -> str:
    if zone.key is None:
        raise NotTaggable
    return str(zone.key)


def named_offset(zone: timezone) -> list[Any]:
    offset = zone.utcoffset(None)
    return [offset] if zone == UTC or repr(zone) == repr(timezone(offset)) else [offset, zone.tzname(None)]


def called(kind: Any, said: Any) -> Any:
    return kind(*said)


def offset_seconds(zone: Any) -> int:
    return int(zone.utcoffset(None).total_seconds())


TEXT = Made(str)
MADE: dict[str, Made] = {
    "builtins:bytearray": Made(lambda v: base64.b64encode(v).decode(), lambda kind, v: kind(base64.b64decode(v))),
    "array:array": Made(lambda v: [v.typecode, v.tolist()], called),
    "builtins:range": Made(lambda v: [v.start, v.stop, v.step], called),
    "builtins:slice": Made(lambda v: [v.start, v.stop, v.step], called),
    "collections:OrderedDict": Made(lambda v: [list(item) for item in v.items()]),
    "collections:Counter": Made(dict),
    "collections:deque": Made(lambda v: [list(v), v.maxlen], called),
    "collections:defaultdict": Made(lambda v: [v.default_factory, dict(v)], called),
    "datetime:timezone": Made(named_offset, called),
    "fractions:Fraction": TEXT,
    "pathlib:PureWindowsPath": TEXT,
    "re:Pattern": Made(lambda v: [v.pattern, v.flags], lambda kind, v: re.compile(*v)),
    "types:SimpleNamespace": Made(lambda v: dict(vars(v)), lambda kind, v: kind(**v)),
    "zoneinfo:ZoneInfo": Made(zone_key),
    "pydantic_core._pydantic_core:TzInfo": Made(offset_seconds),
    "pydantic_core._pydantic_core:Url": TEXT,
    "pydantic_core._pydantic_core:MultiHostUrl": TEXT,
    **{f"ipaddress:IPv{number}{what}": TEXT for number in (4, 6) for what in ("Address", "Interface", "Network")},
}
MODULES = frozenset(path.partition(":")[0] for path in MADE)


def tagged(value: Any, kind: type, tag: Tag) -> dict[str, Any] | None:
    """The value as what makes it; None: it is none of these."""
    if kind.__module__ in MODULES:
        path = type_name(kind)
        made = MADE.get(path)
        if made is not None:
            return {"$": "made", "of": path, "v": tag(made.say(value))}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return numpy_scalar(value, kind, tag)
    return None


def read_made(tagged: dict[str, Any], untag: Tag) -> Any:
    """
    Raises:
        KitaruUsageError: this Kitaru, or this environment, does not know the type.
    """
    path = tagged["of"]
    made, kind = MADE.get(path), find_type(path)
    if made is None or kind is None:
        raise KitaruUsageError(f"a value of type {path} cannot be made here", hint="read it where its flow runs")
    return made.make(kind, untag(tagged["v"]))


EXACT_KINDS = "biufcSU"
"""Of dtypes whose items Python has too; dates are read from their number."""


def numpy_scalar(value: Any, kind: Any, tag: Tag) -> dict[str, Any]:
    """With its dtype, which says its type; checked, because an item may not say all of it."""
    dtype = value.dtype
    item = value.view("i8").item() if dtype.kind in "mM" else value.item() if dtype.kind in EXACT_KINDS else value
    if isinstance(item, type(value)) and dtype.kind not in "mM":
        raise NotTaggable
    found = {"$": "scalar", "of": dtype.str, "v": tag(item)}
    made: Any = read_scalar(found, lambda said: item)
    if type(made) is not kind or bytes(made.data) != bytes(value.data):
        raise NotTaggable
    return found


def read_scalar(tagged: dict[str, Any], untag: Tag) -> Any:
    numpy = importlib.import_module("numpy")
    dtype = numpy.dtype(tagged["of"])
    if dtype.kind in "mM":
        return numpy.array(untag(tagged["v"]), dtype="i8").view(dtype)[()]
    return numpy.array(untag(tagged["v"]), dtype=dtype)[()]


READERS = {"made": read_made, "scalar": read_scalar}
