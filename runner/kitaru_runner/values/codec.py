"""Values as bytes, and back.

A codec is chosen by the value's exact type, so that reading gives a value equal in value and type:

    json       None, bool, int, finite float, str, list, dict with str keys
    str bytes  the text or the bytes themselves
    tagged     JSON that also carries tuple, set, frozenset, other dicts, bytes, datetime and its kin, Decimal, UUID,
               Path, complex, non-finite float (tagged.py), more of the standard library, numpy's numbers (standard.py),
               enums, named tuples, dataclasses, pydantic models, objects (instances.py): {"$": tag, "v": ...}
    numpy      .npy, no object arrays
    pandas     DataFrame, Series, Index of common types (pandas_values.py)
    NAME.NAME  what `kitaru.register_codec` was given (registered.py)
    pickle-3.N cloudpickle, last; read by the same Python minor alone

`kitaru_registry.journal.display` shows these without running anybody's code.
"""

from __future__ import annotations

import json
import math
from typing import Any

from kitaru_registry.journal.entries import Encoded
from kitaru_registry.journal.json_text import PLAIN, compact, parse
from kitaru_runner.values import binary, instances
from kitaru_runner.values import registered as custom
from kitaru_runner.values.pickles import may_pickle, pickled
from kitaru_runner.values.tagged import UNFIT, tag, untag


def encode(value: object) -> Encoded:
    """The value's bytes.

    Raises:
        KitaruUsageError: no codec carries it (a socket, a lock, a generator, ...).
    """
    kind = type(value)
    if kind is str:
        # A lone surrogate is no UTF-8; JSON escapes carry it.
        try:
            return Encoded("str", value.encode())  # type: ignore[attr-defined]  # kind is str
        except UnicodeEncodeError:
            return Encoded("json", json.dumps(value).encode())
    if kind is bytes:
        return Encoded("bytes", value)  # type: ignore[arg-type]  # kind is bytes
    own = binary.encode(value, kind) if kind not in custom.OWN_TYPES else None
    if own is not None:
        return own
    try:
        if is_json(value):
            return Encoded("json", compact(value).encode())
        return Encoded("tagged", compact(tag(value)).encode())
    except UNFIT:
        return pickled(value) if may_pickle() else by_content(value)


def by_content(value: object) -> Encoded:
    """What would be pickled, were that not forbidden: objects that are equal to themselves alone as what they hold.

    Raises:
        KitaruUsageError: it has no other form, or one such object is in it twice.
    """
    with instances.equal_or_not():
        try:
            return Encoded("tagged", compact(tag(value)).encode())
        except UNFIT:
            return pickled(value)


def decode(encoded: Encoded) -> Any:
    """The value of what `encode` made.

    Raises:
        KitaruUsageError: another Python minor pickled it, or this Kitaru does not know the codec.
    """
    match encoded.codec:
        case "json":
            return parse(str(encoded.data, "utf-8"))
        case "str":
            return encoded.data.decode()
        case "bytes":
            return encoded.data
        case "tagged":
            return untag(parse(str(encoded.data, "utf-8")))
        case _:
            return binary.decode(encoded)


def is_json(value: object) -> bool:
    kind = type(value)
    if kind in PLAIN:
        return True
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]  # kind is float
    if kind is list:
        return all(map(is_json, value))  # type: ignore[call-overload]  # kind is list
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]  # kind is dict
            if type(key) is not str or not (type(item) in PLAIN or is_json(item)):
                return False
        return True
    return False
