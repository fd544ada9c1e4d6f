"""JSON that also carries what JSON has not: `{"$": tag, "v": ...}`, where "v" is what people are shown.

A reader refuses a tag that it does not know. Tags of the first set of codecs name a class as "type"; later ones as
"of", so that a reader of that set, which takes what it does not know for an object with these fields, refuses them too.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any
from uuid import UUID

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Encoded
from kitaru_registry.journal.json_text import PLAIN, encoder
from kitaru_runner.values import binary, exceptions, instances, standard
from kitaru_runner.values.binary import NotTaggable
from kitaru_runner.values.exception_parts import Form
from kitaru_runner.values.pickles import refuse_pickle

canonical = encoder(sort_keys=True)

# RecursionError: it contains itself. ValueError: an int of more digits than Python turns into text.
UNFIT = (NotTaggable, RecursionError, ValueError)

SIMPLE_TAGS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    tuple: ("tuple", lambda v: [tag(item) for item in v], lambda v: tuple(untag(item) for item in v)),
    set: ("set", lambda v: sorted((tag(item) for item in v), key=canonical), lambda v: {untag(item) for item in v}),
    frozenset: (
        "frozenset",
        lambda v: sorted((tag(item) for item in v), key=canonical),
        lambda v: frozenset(untag(item) for item in v),
    ),
    bytes: ("bytes", lambda v: base64.b64encode(v).decode(), base64.b64decode),
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    timedelta: ("timedelta", lambda v: [v.days, v.seconds, v.microseconds], lambda v: timedelta(*v)),
    Decimal: ("decimal", str, Decimal),
    UUID: ("uuid", str, UUID),
    PosixPath: ("path", str, Path),
    PurePosixPath: ("purepath", str, PurePosixPath),
    complex: ("complex", lambda v: [v.real, v.imag], lambda v: complex(*v)),
    float: ("float", repr, float),
}
READERS = {name: read for name, _, read in SIMPLE_TAGS.values()}
CLOCKS = frozenset({datetime, time})


def tag(value: Any) -> Any:
    """
    Raises:
        Exception: one of UNFIT; JSON cannot carry it.
    """
    kind = type(value)
    if kind in PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [tag(item) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value) and "$" not in value:
            return {key: tag(item) for key, item in value.items()}
        return {"$": "dict", "v": [[tag(key), tag(item)] for key, item in value.items()]}
    if kind in SIMPLE_TAGS:
        if kind in CLOCKS and (value.fold or not has_plain_zone(value.tzinfo)):
            return tag_zoned(value, kind)
        name, write, _ = SIMPLE_TAGS[kind]
        return {"$": name, "v": write(value)}
    own = binary.encode(value, kind)
    if own is not None:
        return {"$": "encoded", "type": own.codec, "v": base64.b64encode(own.data).decode()}
    made = standard.tagged(value, kind, tag)
    if made is not None:
        return made
    return tag_exception(value) if isinstance(value, BaseException) else instances.tagged(value, kind, tag)


def tag_exception(value: BaseException) -> dict[str, Any]:
    """As a failure is recorded, where all of it can be."""
    found = exceptions.described_whole(value, FORM)
    if found is None:
        raise NotTaggable
    return {"$": "exception", "v": found}


def has_plain_zone(zone: tzinfo | None) -> bool:
    """Whether an ISO text says all of the zone. CPython reads an offset of less than a second as UTC."""
    if zone is None:
        return True
    if type(zone) is not timezone:
        return False
    offset = zone.utcoffset(None)
    return not offset.microseconds and zone.tzname(None) == timezone(offset).tzname(None)


def tag_zoned(value: Any, kind: type) -> dict[str, Any]:
    return {"$": "zoned", "of": kind.__name__, "v": value.isoformat(), "zone": tag(value.tzinfo), "fold": value.fold}


def untag(tagged: Any) -> Any:
    """
    Raises:
        KitaruUsageError: a newer Kitaru wrote it, or the class of something in it is not here.
    """
    if isinstance(tagged, list):
        return [untag(item) for item in tagged]
    if not isinstance(tagged, dict):
        return tagged
    name = tagged.get("$")
    if name is None:
        return {key: untag(item) for key, item in tagged.items()}
    content = tagged["v"]
    if name == "dict":
        return {untag(key): untag(item) for key, item in content}
    if name in READERS:
        return READERS[name](content)
    if name == "encoded":
        inner = Encoded(tagged["type"], base64.b64decode(content))
        # Who may read a pickle is asked of a value as a whole, and nothing writes one into another.
        refuse_pickle(inner, "a part of this value")
        return binary.decode(inner)
    if name == "exception":
        return exceptions.rebuilt_value(content, FORM)
    if name == "zoned":
        kind: Any = datetime if tagged["of"] == "datetime" else time
        return kind.fromisoformat(content).replace(tzinfo=untag(tagged["zone"]), fold=tagged["fold"])
    read = standard.READERS.get(name) or instances.READERS.get(name)
    if read is None:
        raise KitaruUsageError(f"unknown tag {name} in a value", hint="upgrade Kitaru: a newer one wrote the value")
    return read(tagged, untag)


FORM = Form(tag, untag)
