"""Values as bytes, and back. The only file that imports cloudpickle.

A codec is chosen by the value's exact type, so that reading gives a value equal in value and type:

    json       None, bool, int, finite float, str, list, dict with str keys
    str bytes  the text or the bytes themselves
    tagged     JSON that also carries tuple, set, frozenset, other dicts, bytes, datetime and its kin, Decimal, UUID,
               Path, complex, Enum, Flag, dataclass, pydantic model, non-finite float: {"$": tag, "v": ...}
    numpy      .npy, no object arrays
    pandas     DataFrame, Series, Index of common types (frames.py)
    NAME.NAME  what `kitaru.register_codec` was given (custom.py)
    pickle-3.N cloudpickle, last; read by the same Python minor alone

`kitaru_registry.executions.display` shows these without running anybody's code.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import io
import json
import math
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from hashlib import blake2b
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any
from uuid import UUID

from kitaru_registry.errors import KitaruUsageError
from kitaru_runner import custom
from kitaru_runner.context import current
from kitaru_runner.json_text import compact, encoder, parse
from kitaru_runner.protocol import Encoded

PICKLE = f"pickle-{sys.version_info.major}.{sys.version_info.minor}"

canonical = encoder(sort_keys=True)

PLAIN = frozenset({str, int, bool, type(None)})
"""Types that JSON carries whatever the value is."""


class NotTaggable(Exception):
    """The value holds something that the tagged codec does not carry."""


# RecursionError: it contains itself. ValueError: an int of more digits than Python turns into text.
UNFIT = (NotTaggable, RecursionError, ValueError)


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
    own = encode_own(value, kind) if kind not in custom.OWN_TYPES else None
    if own is not None:
        return own
    try:
        if is_json(value):
            return Encoded("json", compact(value).encode())
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
        case "numpy":
            return importlib.import_module("numpy").load(io.BytesIO(encoded.data), allow_pickle=False)
        case "pandas":
            return frames().decode(encoded.data)
        case codec if codec == PICKLE:
            return importlib.import_module("cloudpickle").loads(encoded.data)
        case codec if codec.startswith("pickle-"):
            raise KitaruUsageError(
                f"the value was pickled by Python {codec.removeprefix('pickle-')}, "
                f"and this is {PICKLE.removeprefix('pickle-')}",
                hint="read it with the Python that wrote it, or return a type with a codec: docs/concepts.md, values",
            )
        case codec if "." in codec:
            return custom.decode(codec, encoded.data)
        case codec:
            raise KitaruUsageError(f"unknown codec {codec}", hint="upgrade Kitaru: a newer one wrote the value")


def encode_own(value: object, kind: type) -> Encoded | None:
    """The bytes of a value whose type has a codec to itself: numpy, pandas, one that was registered."""
    if kind in custom.by_type:
        return custom.encode(value)
    if is_numpy(value):
        return Encoded("numpy", numpy_bytes(value))
    if is_pandas(kind):
        try:
            return Encoded("pandas", frames().encode(value))
        except NotTaggable:
            return None
    return None


def is_pandas(kind: type) -> bool:
    return "pandas" in sys.modules and kind.__module__.partition(".")[0] == "pandas"


def frames() -> Any:
    """Loaded at need: flows without pandas never see it."""
    return importlib.import_module("kitaru_runner.frames")


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


def is_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


def numpy_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    importlib.import_module("numpy").save(buffer, value, allow_pickle=False)
    return buffer.getvalue()


INSTEAD = {
    "coroutine": "await it; a flow that is no async def calls an asynchronous checkpoint by .submit(...).result()",
    "generator": "return a list of its values",
    "async_generator": "return a list of its values",
    "CheckpointFuture": "return its result()",
}
"""What to write where there is no codec, by the type's name."""


def pickled(value: object) -> Encoded:
    branch = current.get()
    if branch is not None and not branch.engine.opening.may_pickle:
        raise pickles_forbidden(f"a value of type {type_name(type(value))}")
    try:
        return Encoded(PICKLE, importlib.import_module("cloudpickle").dumps(value))
    except Exception as error:
        raise KitaruUsageError(
            f"no codec carries a value of type {type_name(type(value))}: {error}",
            hint=INSTEAD.get(
                type(value).__name__,
                "return plain data, a dataclass or a pydantic model; open files and connections where they are used",
            ),
        ) from error


def is_pickle(encoded: Encoded) -> bool:
    return encoded.codec.startswith("pickle-")


def refuse_pickle(encoded: Encoded, what: str) -> None:
    """
    Raises:
        KitaruUsageError: it is pickled, and `[values] pickle = "forbid"`.
    """
    if is_pickle(encoded):
        raise pickles_forbidden(what)


def pickles_forbidden(what: str) -> KitaruUsageError:
    return KitaruUsageError(
        f'only pickle carries {what}, and [values] pickle = "forbid"',
        hint="use plain data, a dataclass or a pydantic model, or register a codec: kitaru.register_codec(...)",
    )


def distrust_pickle(encoded: Encoded, what: str) -> None:
    """
    Raises:
        KitaruUsageError: it is pickled: reading it runs code of whoever wrote it.
    """
    if is_pickle(encoded):
        raise KitaruUsageError(
            f"{what} is pickled, and another user's home holds it: reading it would run that user's code",
            hint="if you trust whoever wrote it: trust_pickle=True",
        )


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


def tag(value: Any) -> Any:
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
        name, write, _ = SIMPLE_TAGS[kind]
        if getattr(value, "fold", 0) or not has_plain_zone(getattr(value, "tzinfo", None)):
            raise NotTaggable
        return {"$": name, "v": write(value)}
    return tag_typed(value, kind)


def has_plain_zone(zone: tzinfo | None) -> bool:
    """Whether an ISO text says all of the zone. CPython reads an offset of less than a second as UTC."""
    if zone is None:
        return True
    if type(zone) is not timezone:
        return False
    offset = zone.utcoffset(None)
    return not offset.microseconds and zone.tzname(None) == timezone(offset).tzname(None)


def tag_typed(value: Any, kind: type) -> Any:
    own = encode_own(value, kind)
    if own is not None:
        return {"$": "encoded", "type": own.codec, "v": base64.b64encode(own.data).decode()}
    if find_type(type_name(kind)) is not kind:
        raise NotTaggable
    if isinstance(value, Flag):
        return {"$": "flag", "type": type_name(kind), "v": value.value}
    if isinstance(value, Enum):
        return {"$": "enum", "type": type_name(kind), "v": value.name}
    # One that is a list or an exception too holds more than its fields.
    if dataclasses.is_dataclass(kind) and kind.__new__ is object.__new__:
        fields = {field.name for field in dataclasses.fields(kind)}
        state = getattr(value, "__dict__", None)
        if state is not None and set(state) != fields:
            raise NotTaggable
        return {"$": "dataclass", "type": type_name(kind), "v": {n: tag(getattr(value, n)) for n in sorted(fields)}}
    if is_pydantic(kind):
        return tag_model(value, kind)
    raise NotTaggable


def tag_model(value: Any, kind: type) -> Any:
    """The model's JSON form, where reading it gives the same model."""
    try:
        content = value.model_dump(mode="json", round_trip=True, warnings=False)
        dumped = {"$": "pydantic", "type": type_name(kind), "v": content}
        back = untag(dumped)
        same = back == value and is_same(back.model_dump(warnings=False), value.model_dump(warnings=False))
    except Exception as error:
        raise NotTaggable from error
    if not same:
        raise NotTaggable
    return dumped


def is_same(one: Any, other: Any) -> bool:
    """Equal in value and type, all the way down: `1 == 1.0`, and an enum's member may equal its text."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(item, other[key]) for key, item in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def untag(tagged: Any) -> Any:
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
    return untag_typed(name, tagged["type"], content)


def untag_typed(name: str, type_path: str, content: Any) -> Any:
    if name == "encoded":
        return decode(Encoded(type_path, base64.b64decode(content)))
    kind = find_type(type_path)
    if kind is None:
        raise KitaruUsageError(
            f"the value's type {type_path} cannot be imported here", hint="read it where the flow's code is importable"
        )
    if name == "enum":
        return kind[content]  # type: ignore[index]  # an Enum class
    if name == "flag":
        return kind(content)  # by its bits: a combination may have no name
    if name == "pydantic":
        return kind.model_validate_json(json.dumps(content))  # type: ignore[attr-defined]  # a pydantic model
    value: Any = object.__new__(kind)
    for field, item in content.items():
        object.__setattr__(value, field, untag(item))
    return value


def is_pydantic(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and hasattr(pydantic, "TypeAdapter") and issubclass(kind, pydantic.BaseModel)


def type_name(kind: type) -> str:
    """`module:qualified.name`; a script's `__main__` under the name that a deploy gives its module."""
    module = kind.__module__
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__kitaru_name__", module)
    return f"{module}:{kind.__qualname__}"


def find_type(path: str) -> type | None:
    module_name, _, qualname = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) else None


OPAQUE = b"?"


def digest_inputs(arguments: Mapping[str, object]) -> bytes:
    """16 bytes that are equal for equal arguments; one that has no canonical form counts by its type alone.

    With such a one, `?` follows.
    """
    forms, mark = [], b""
    for name, value in arguments.items():
        try:
            form = str(value) if type(value) is int else canonical_form(value)
        except UNFIT:
            form, mark = f"opaque:{type(value)}", OPAQUE
        forms.append(f"{name}={form}\0")
    said = "".join(forms).encode("utf-8", "surrogatepass")
    return blake2b(said, digest_size=16).digest() + mark


def canonical_form(value: object) -> str:
    own = encode_own(value, type(value)) if type(value) not in custom.OWN_TYPES else None
    return canonical(tag(value)) if own is None else f"{own.codec}:{blake2b(own.data).hexdigest()}"


def is_opaque(inputs: bytes) -> bool:
    """Whether arguments of that digest may differ from others of the same."""
    return inputs.endswith(OPAQUE) and len(inputs) > 16


def same_inputs(one: bytes, other: bytes) -> bool:
    return one[:16] == other[:16]
