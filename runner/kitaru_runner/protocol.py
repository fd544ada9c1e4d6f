"""The journal protocol: what a child and its runner say to each other.

A child holds no credentials and opens no database. It speaks this over an inherited socket pair; the runner alone
writes and fences. The same messages, as plain calls, are the `Journal` that an in-process run talks to.

A frame is two big-endian 32-bit lengths, a UTF-8 JSON header of the first length and a payload of the second. Every
header has `t`, the message's type. A request carries `id`, and its reply the same `id`. Values travel in payloads; a
header that describes several gives each one's `size`, in order.

    child                             runner
    hello {protocol, pid}          -> welcome {exec_id, attempt, flow, ...} payload: inputs
                                      entries {entries: [...], last} payload: their values (repeated until last)
    record {id, entries} payload   -> ok {id, seq}          the entries are durable
    started {key, name, tries, at}                          no reply; rides on the next heartbeat
    wait {id, wait}                -> ok {id, answered} payload: the answer's JSON
    park {id}                      -> ok {id, parked}       parked: the child ends now; else an answer has come
    value {id, seq}                -> ok {id} payload       a recorded value too large to be sent with its entry
    load {id, exec_id, name}       -> ok {id, codec} payload
    finish {id, ...} payload       -> ok {id}               the child ends now
                                      answer {key} payload  at any time
                                      error {id, type, message, hint}  instead of ok; `fenced` ends the child

Standard library only: every child imports this. A number that was released is served for ever.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

PROTOCOL = 1
SERVED_PROTOCOLS = frozenset({1})
CODEC = 1
"""Number of the set of value codecs (codec.py) that a child writes and reads."""

INLINE_BYTES = 1 << 16
"""A recorded value above this is fetched by `value` when it is asked for."""

FRAME = struct.Struct(">II")
MAX_HEADER_BYTES = 64 << 20

Header = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value as bytes, and the name of the codec that reads them."""

    codec: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Saved:
    """One `save(...)`: an artifact that becomes durable with the entry that carries it."""

    name: str
    type: str
    tags: tuple[str, ...]
    value: Encoded


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a journal.

    kind: `c` a checkpoint's outcome, `t` a failed try of one, `w` a wait's answer, `s` a save and `l` a log in the
    flow's body, `d` a warning of divergence.
    """

    kind: str
    key: str
    ended_us: int
    name: str | None = None
    """Where it is not the key's own last part."""
    seq: int = 0
    value: Encoded | None = None
    error: Mapping[str, Any] | None = None
    tries: int | None = None
    place: int | None = None
    """How many calls its scope had made before."""
    type: str | None = None
    inputs: bytes | None = None
    started_us: int | None = None
    saved: tuple[Saved, ...] = ()
    metadata: Mapping[str, Any] | None = None
    size: int | None = None
    """Of a value that was not sent along."""


@dataclass(frozen=True, slots=True)
class WaitRequest:
    key: str
    name: str
    question: str | None
    schema: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    entered_us: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended: a value, or an error as `codec.describe_failure` gives it."""

    value: Encoded | None
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Opening:
    exec_id: str
    attempt: int
    flow: str
    entrypoint: str
    retries: int
    inputs: Encoded
    entries: tuple[Entry, ...]


class Answers(Protocol):
    """Who wants to hear of answers: the engine."""

    def answered(self, key: str, answer: bytes) -> None: ...


class Journal(Protocol):
    """What an engine needs of the record. Every call may raise KitaruFencedError."""

    def record(self, entries: Sequence[Entry]) -> int:
        """Make entries durable, all or none, in this order. The number of the last; they are contiguous."""

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        """Note that a try began; best effort."""

    def open_wait(self, wait: WaitRequest) -> bytes | None:
        """Make a wait known; its answer, as JSON, if it is there already."""

    def park(self) -> bool:
        """Nothing can go on without an answer. True: the process must end; False: it may stay and will be told."""

    def value(self, entry: Entry) -> Encoded:
        """The value of an entry that came without it."""

    def load(self, exec_id: str, name: str) -> Encoded:
        """An artifact, or a checkpoint's output, of any execution of this home and project."""

    def finish(self, outcome: Outcome) -> None:
        """End the execution. The last call."""


def send(connection: socket.socket, header: Mapping[str, Any], payload: bytes = b"") -> None:
    # ASCII: a message of the user's may hold a lone surrogate, which is no UTF-8.
    text = json.dumps(header, separators=(",", ":")).encode()
    frame = FRAME.pack(len(text), len(payload)) + text
    # One system call for the common small frame; no copy of a large payload.
    if len(payload) < INLINE_BYTES:
        connection.sendall(frame + payload)
    else:
        connection.sendall(frame)
        connection.sendall(payload)


class FrameReader:
    """Frames of a stream, in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def read(self) -> tuple[Header, bytes] | None:
        """The next frame; None where the stream ended, at a frame's border or within one."""
        if not self._fill(FRAME.size):
            return None
        header_bytes, payload_bytes = FRAME.unpack_from(self._buffer)
        if header_bytes > MAX_HEADER_BYTES or not self._fill(FRAME.size + header_bytes + payload_bytes):
            return None
        body = FRAME.size + header_bytes
        header = json.loads(self._buffer[FRAME.size : body])
        payload = bytes(memoryview(self._buffer)[body : body + payload_bytes])
        del self._buffer[: body + payload_bytes]
        return header, payload

    def has_frame(self) -> bool:
        """Whether the next frame has come whole. Never blocks; one that is large may be seen late."""
        try:
            self._buffer += self._connection.recv(1 << 16, socket.MSG_DONTWAIT)
        except OSError:
            pass  # nothing more has come; the end is for `read` to see
        if len(self._buffer) < FRAME.size:
            return False
        header_bytes, payload_bytes = FRAME.unpack_from(self._buffer)
        return len(self._buffer) >= FRAME.size + int(header_bytes) + int(payload_bytes)

    def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            try:
                chunk = self._connection.recv(max(1 << 16, size - len(self._buffer)))
            except OSError:
                return False
            if not chunk:
                return False
            self._buffer += chunk
        return True


def pack_entries(entries: Sequence[Entry]) -> tuple[list[Header], bytes]:
    """Entries as a header's list and one payload. Fields that are unset are left out."""
    payload: list[bytes] = []
    return [_pack_entry(entry, payload) for entry in entries], b"".join(payload)


def _pack_entry(entry: Entry, payload: list[bytes]) -> Header:
    packed: Header = {"kind": entry.kind, "key": entry.key, "ended": entry.ended_us}
    for field, value in (
        ("name", entry.name),
        ("seq", entry.seq or None),
        ("error", entry.error),
        ("tries", entry.tries),
        ("place", entry.place),
        ("type", entry.type),
        ("inputs", entry.inputs.hex() if entry.inputs else None),
        ("started", entry.started_us),
        ("metadata", entry.metadata),
        ("size", entry.size),
    ):
        if value is not None:
            packed[field] = value
    if entry.value is not None:
        packed["value"] = _pack_value(entry.value, payload)
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

    def value(described: Header) -> Encoded:
        nonlocal at
        start, at = at, at + int(described["size"])
        return Encoded(described["codec"], payload[start:at])

    for item in packed:
        own = value(item["value"]) if "value" in item else None
        inputs = item.get("inputs")
        yield Entry(
            kind=item["kind"],
            key=item["key"],
            ended_us=item["ended"],
            name=item.get("name"),
            seq=item.get("seq", 0),
            value=own,
            error=item.get("error"),
            tries=item.get("tries"),
            place=item.get("place"),
            type=item.get("type"),
            inputs=bytes.fromhex(inputs) if inputs else None,
            started_us=item.get("started"),
            saved=tuple(
                Saved(s["name"], s["type"], tuple(s["tags"]), value(s["value"])) for s in item.get("saved", ())
            ),
            metadata=item.get("metadata"),
            size=item.get("size"),
        )
