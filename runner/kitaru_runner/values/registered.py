"""Codecs that users registered: a type's values as bytes of their own, instead of a pickle."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Encoded
from kitaru_registry.names import told

T = TypeVar("T")

NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")

OWN_TYPES = frozenset({type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset})
"""Kitaru's codecs carry these, within other values too."""


@dataclass(frozen=True, slots=True)
class Codec:
    name: str
    kind: type
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


by_type: dict[type, Codec] = {}
by_name: dict[str, Codec] = {}


def register_codec(
    kind: type[T], *, name: str, encode: Callable[[T], bytes], decode: Callable[[bytes], T]
) -> None:  # fmt: skip
    """Carry values of exactly this type as what `encode` makes of them; also within lists, dataclasses and the like.

    Call it where the flow's module is imported, so that every process of the flow knows the codec. Equal values should
    give equal bytes: an artifact's digest and a cache's key are made of them.

    Args:
        name: stands beside the bytes, for ever: `acme.image`, with a namespace of your own before a dot. If the
            bytes' form changes, take another name and keep the old one registered for reading.
        decode: gives a value equal to what was encoded.

    Raises:
        KitaruUsageError: a name without a namespace, or of another type's codec; a type that Kitaru carries itself.
    """
    if not isinstance(kind, type) or kind in OWN_TYPES:
        raise KitaruUsageError(
            f"register_codec({told(kind)}): no codec of its own is possible", hint="give a class of yours"
        )
    if not isinstance(name, str) or not NAME.fullmatch(name) or name.startswith("kitaru."):
        raise KitaruUsageError(
            f"register_codec(name={told(name)}) has no namespace",
            hint="write name='acme.image': small letters, a dot between",
        )
    if not callable(encode) or not callable(decode):
        raise KitaruUsageError(
            f"register_codec(name={name!r}): encode and decode are functions", hint="give two functions"
        )
    known = by_name.get(name)
    if known is not None and path_of(known.kind) != path_of(kind):
        raise KitaruUsageError(
            f"codec {name} is registered for {path_of(known.kind)} already",
            hint=f"take another name for {path_of(kind)}",
        )
    by_type[kind] = by_name[name] = Codec(name, kind, encode, decode)


def encode(value: object) -> Encoded:
    """
    Raises:
        KitaruUsageError: the codec failed, or gave no bytes.
    """
    codec = by_type[type(value)]
    try:
        data = codec.encode(value)
    except Exception as error:
        raise broken(codec, f"encode raised {type(error).__name__}: {error}") from error
    if not isinstance(data, bytes):
        raise broken(codec, f"encode gave a {type(data).__name__}, no bytes")
    return Encoded(codec.name, data)


def decode(name: str, data: bytes) -> Any:
    """
    Raises:
        KitaruUsageError: no such codec is registered here, or it failed.
    """
    codec = by_name.get(name)
    if codec is None:
        raise KitaruUsageError(
            f"the value was written by codec {name}, which is not registered here",
            hint=f"import the module that calls kitaru.register_codec(..., name={name!r}) first",
        )
    try:
        return codec.decode(data)
    except Exception as error:
        raise broken(codec, f"decode raised {type(error).__name__}: {error}") from error


def broken(codec: Codec, what: str) -> KitaruUsageError:
    return KitaruUsageError(f"codec {codec.name} of {path_of(codec.kind)}: {what}", hint="mend the codec")


def path_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
