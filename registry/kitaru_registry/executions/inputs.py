"""What executions were given: large parts are files in values/, one for all executions that were given the same.

A part's bytes are those that a checkpoint's outcome has which is the same value, so what a flow hands from a checkpoint
to its children is on disk once. The row holds the rest, and the names of the parts:

    {"given": {"data": null, "n": 2}, "parts": [[["data"], "bytes", "<sha256, hex>", 10000000]]}
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kitaru_registry.database.opening import Database
from kitaru_registry.executions.values import IN_ROW_BYTES, values_of
from kitaru_registry.journal.display import as_json
from kitaru_registry.records.values import Values

DOCUMENTS = ("json", "tagged")
"""Codecs whose bytes are one JSON object, name to value."""

POSITIONAL = "*args"
"""The name under which values that were given by position are listed."""

Path = tuple[str | int, ...]


class Part(NamedTuple):
    """A value of the inputs; the path is empty where the inputs are one value that nobody reads without code."""

    path: Path
    codec: str
    digest: str
    size: int


class Kept(NamedTuple):
    """What a row holds of inputs whose large parts are files."""

    shown: dict[str, Any]
    data: bytes
    digests: tuple[bytes, ...]


def keep(values: Values, codec: str, data: bytes, shown: Mapping[str, Any]) -> Kept | None:
    """The row of these inputs; their large parts are on disk when this returns. None: they are a row as they are.

    To be called while `naming`.
    """
    if len(data) <= IN_ROW_BYTES:
        return None
    given: Any = None
    pieces: dict[Path, tuple[str, bytes]] = {(): (codec, data)}
    if codec in DOCUMENTS:
        given = json.loads(data)
        pieces = large_pieces(given, is_tagged=codec == "tagged")
    if not pieces:
        return None
    cut: dict[str, Any] = json.loads(json.dumps(shown))
    parts = [Part(path, kind, values.put(piece).hex(), len(piece)) for path, (kind, piece) in pieces.items()]
    for part in parts:
        given = put_at(given, part.path, None)
        if part.path:
            put_at(cut, part.path, as_json(part.codec, None, part.size))
    digests = {bytes.fromhex(part.digest) for part in parts}
    return Kept(cut, compact({"given": given, "parts": parts}), tuple(sorted(digests)))


def load(database: Database, row: Any) -> bytes:
    """The bytes that an execution was given, of a row or a claim of it.

    Raises:
        KitaruDigestMismatchError, KitaruBackendError: a part was changed, or is gone.
    """
    if not row.inputs_in_parts:
        return bytes(row.inputs_data)
    kept, values = json.loads(row.inputs_data), values_of(database)
    given = kept["given"]
    for part in parts_of(kept):
        data = values.get(bytes.fromhex(part.digest))
        if not part.path:
            return data
        given = put_at(given, part.path, node_of(part.codec, data))
    return compact(given)


def shown(values: Values, row: Any, *, limit: int) -> dict[str, Any]:
    """The inputs as JSON; parts above `limit` bytes by their size alone."""
    given: dict[str, Any] = json.loads(json.dumps(row.inputs))
    for part in parts_of(json.loads(row.inputs_data)) if row.inputs_in_parts else ():
        if part.path and part.size <= limit:
            put_at(given, part.path, as_json(part.codec, values.get(bytes.fromhex(part.digest))))
    return given


def parts_of(kept: Mapping[str, Any]) -> Iterator[Part]:
    for path, codec, digest, size in kept["parts"]:
        yield Part(tuple(path), codec, digest, size)


def large_pieces(given: Mapping[str, Any], *, is_tagged: bool) -> dict[Path, tuple[str, bytes]]:
    """Path to codec and bytes, of the values that no row is to hold."""
    places: dict[Path, Any] = {(name,): value for name, value in given.items()}
    listed = places.pop((POSITIONAL,), None)
    if isinstance(listed, list):
        places |= {(POSITIONAL, number): value for number, value in enumerate(listed)}
    elif listed is not None:
        places[POSITIONAL,] = listed
    found = {path: piece_of(node, is_tagged=is_tagged) for path, node in places.items()}
    return {path: piece for path, piece in found.items() if len(piece[1]) > IN_ROW_BYTES}


def piece_of(node: Any, *, is_tagged: bool) -> tuple[str, bytes]:
    """Codec and bytes of a value that stands in a document, as an outcome of its own would have them."""
    if isinstance(node, str):
        try:
            return "str", node.encode()
        except UnicodeEncodeError:
            return "json", compact(node)
    if is_tagged and isinstance(node, dict) and "$" in node:
        if node["$"] == "bytes":
            return "bytes", base64.b64decode(node["v"])
        if node["$"] == "encoded":
            return node["type"], base64.b64decode(node["v"])
    return ("tagged" if is_tagged and has_tags(node) else "json"), compact(node)


def node_of(codec: str, data: bytes) -> Any:
    """What stands in the document for such a value: `piece_of`, the other way."""
    if codec == "str":
        return data.decode()
    if codec in DOCUMENTS:
        return json.loads(data)
    text = base64.b64encode(data).decode()
    return {"$": "bytes", "v": text} if codec == "bytes" else {"$": "encoded", "type": codec, "v": text}


def has_tags(node: Any) -> bool:
    if isinstance(node, dict):
        return "$" in node or any(map(has_tags, node.values()))
    return isinstance(node, list) and any(map(has_tags, node))


def put_at(document: Any, path: Path, value: Any) -> Any:
    """The document with that value at the path, where it has such a place."""
    if not path:
        return value
    *way, last = path
    inner = document
    for step in way:
        inner = inner.get(step) if isinstance(inner, dict) else None
    if isinstance(inner, dict) or (isinstance(inner, list) and isinstance(last, int) and last < len(inner)):
        inner[last] = value  # type: ignore[index]  # an int, where it is a list
    return document


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
