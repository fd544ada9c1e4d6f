"""Entries of a journal as frames carry them: a list in the header, and their values in one payload.

Standard library only: every child imports this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kitaru_registry.journal.cutting import cut_failure
from kitaru_registry.journal.entries import COMMON, NOTHING_RARE, Encoded, Entry, Saved
from kitaru_registry.journal.frames import MAX_RECORD_BYTES, Header
from kitaru_registry.journal.json_text import compact

PIECE_ENTRIES = 500
PIECE_BYTES = 8 << 20
"""About so much of header and values go into one frame of entries; what is more goes into the next."""


class Piece(NamedTuple):
    """The contents of one frame of entries."""

    entries: list[Header]
    payload: bytes
    is_last: bool


def in_pieces(entries: Iterable[Entry]) -> Iterator[Piece]:
    """The entries in frames that are not too large, in order; one piece at least."""
    piece: list[Entry] = []
    size = 0
    for entry in entries:
        own = size_of(entry)
        if own > PIECE_BYTES:
            entry = without_excess(entry)
        if piece and (len(piece) == PIECE_ENTRIES or size + own > PIECE_BYTES):
            yield Piece(*pack_entries(piece), is_last=False)
            piece, size = [], 0
        piece.append(entry)
        size += own
    yield Piece(*pack_entries(piece), is_last=True)


def size_of(entry: Entry) -> int:
    """About the bytes that it takes in a frame."""
    size = len(entry.key) + (len(entry.value.data) if entry.value is not None else 0)
    if entry[COMMON:] == NOTHING_RARE:
        return size
    said = (entry.error, entry.metadata, entry.parents)
    return size + sum(len(compact(part)) for part in said if part)


def without_excess(entry: Entry) -> Entry:
    """The entry without what no frame has room for; a process that is its own runner may have recorded such."""
    is_large = entry.metadata is not None and len(compact(entry.metadata)) > MAX_RECORD_BYTES
    return entry._replace(
        error=None if entry.error is None else cut_failure(entry.error), metadata=None if is_large else entry.metadata
    )


COMMON_FIELDS = frozenset({"kind", "key", "ended", "value", "place", "inputs", "started"})
"""All that the header of most entries has."""


def pack_entries(entries: Sequence[Entry]) -> tuple[list[Header], bytes]:
    """Entries as a header's list and one payload. Fields that are unset are left out."""
    payload: list[bytes] = []
    return [_pack_entry(entry, payload) for entry in entries], b"".join(payload)


def _pack_entry(entry: Entry, payload: list[bytes]) -> Header:
    packed: Header = {"kind": entry.kind, "key": entry.key, "ended": entry.ended_us}
    if entry.place is not None:
        packed["place"] = entry.place
    if entry.inputs:
        packed["inputs"] = entry.inputs.hex()
    if entry.started_us is not None:
        packed["started"] = entry.started_us
    if entry.value is not None:
        packed["value"] = _pack_value(entry.value, payload)
    if entry[COMMON:] == NOTHING_RARE:
        return packed
    for field, value in (
        ("name", entry.name),
        ("seq", entry.seq or None),
        ("error", entry.error),
        ("tries", entry.tries),
        ("type", entry.type),
        ("metadata", entry.metadata),
        ("size", entry.size),
        ("cache", entry.cache_key.hex() if entry.cache_key else None),
        ("parents", list(entry.parents) or None),
        ("flags", entry.flags or None),
        ("soft", entry.soft or None),
    ):
        if value is not None:
            packed[field] = value
    if entry.saved:
        packed["saved"] = [
            {"name": s.name, "type": s.type, "tags": list(s.tags), "value": _pack_value(s.value, payload)}
            for s in entry.saved
        ]
    return packed


def _pack_value(value: Encoded, payload: list[bytes]) -> Header:
    payload.append(value.data)
    return {"codec": value.codec, "size": len(value.data)}


def unpack_entries(packed: Sequence[Header], payload: bytes) -> Iterator[Entry]:
    """The inverse of `pack_entries`."""
    at = 0
    for item in packed:
        own, at = _unpack_value(item["value"], payload, at) if "value" in item else (None, at)
        get = item.get
        inputs = get("inputs")
        common = (
            item["kind"], item["key"], item["ended"], own, get("place"), bytes.fromhex(inputs) if inputs else None,
            get("started"),
        )  # fmt: skip
        if item.keys() <= COMMON_FIELDS:
            yield Entry(*common)
            continue
        saved: list[Saved] = []
        for described in get("saved", ()):
            value, at = _unpack_value(described["value"], payload, at)
            saved.append(Saved(described["name"], described["type"], tuple(described["tags"]), value))
        cache_key = get("cache")
        yield Entry(
            *common,
            name=get("name"),
            seq=get("seq", 0),
            error=get("error"),
            tries=get("tries"),
            type=get("type"),
            saved=tuple(saved),
            metadata=get("metadata"),
            size=get("size"),
            cache_key=bytes.fromhex(cache_key) if cache_key else None,
            parents=tuple(get("parents", ())),
            flags=get("flags", 0),
            soft=get("soft", False),
        )


def _unpack_value(described: Header, payload: bytes, at: int) -> tuple[Encoded, int]:
    """A value, and where the next one begins."""
    end = at + int(described["size"])
    return Encoded(described["codec"], payload[at:end]), end
