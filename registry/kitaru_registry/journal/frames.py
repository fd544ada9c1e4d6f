"""Frames on a stream: a JSON header and a payload; and a reader that looks before it sleeps.

A frame is two big-endian 32-bit lengths, a UTF-8 JSON header of the first length and a payload of the second. Every
header has `t`, the message's type, and at most 64 MiB. Standard library only: every child imports this.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable, Mapping
from io import BytesIO
from time import monotonic
from typing import Any

from kitaru_registry.errors import KitaruBackendError, KitaruUsageError
from kitaru_registry.journal.json_text import compact, parse

INLINE_BYTES = 1 << 16
"""A recorded value above this is fetched by `value` when it is asked for."""

FRAME = struct.Struct(">II")

MAX_HEADER_BYTES = 64 << 20

MAX_RECORD_BYTES = 32 << 20
"""Of the header of a `record`: with its number and more, each entry goes into a header of its own later."""

MAX_PAYLOAD_BYTES = (1 << 32) - 1

SPIN_SECONDS = 0.001
"""How long a reader looks for a frame before it sleeps, where the last one came as soon: longer than a usual commit."""

spinning = threading.Lock()
"""Held by the thread of this process that looks so."""

Header = dict[str, Any]

Frame = tuple[bytes, bytes]
"""As it is sent: its lengths and its header; its payload."""


def framed(header: Mapping[str, Any], payload: bytes = b"", *, most: int = MAX_HEADER_BYTES) -> Frame:
    """A frame, ready to be sent.

    Raises:
        KitaruUsageError: the header has more bytes than `most`, or the payload more than a frame can have.
    """
    # ASCII: a message of the user's may hold a lone surrogate, which is no UTF-8.
    text = compact(header).encode()
    if len(text) > most or len(payload) > MAX_PAYLOAD_BYTES:
        raise too_large(header["t"], len(text), len(payload), most)
    return FRAME.pack(len(text), len(payload)) + text, payload


def too_large(kind: str, header_bytes: int, payload_bytes: int, most: int) -> KitaruUsageError:
    if header_bytes > most:
        return KitaruUsageError(
            f"what goes with this is too large: names, errors and metadata of {header_bytes:,} bytes in one {kind}; "
            f"{most:,} is the most",
            hint="keep what is large as a value: return it, or kitaru.save(name, value)",
        )
    return KitaruUsageError(
        f"a value of {payload_bytes:,} bytes is too large; {MAX_PAYLOAD_BYTES:,} is the most",
        hint="write it to a file or a store of your own, and keep its name",
    )


def send(connection: socket.socket, header: Mapping[str, Any], payload: bytes = b"") -> None:
    send_framed(connection, [framed(header, payload)])


def send_all(connection: socket.socket, frames: Iterable[tuple[Mapping[str, Any], bytes]]) -> None:
    """Send frames, all or none.

    Raises:
        KitaruUsageError: one is too large; none was sent.
        OSError: nobody listens any more.
    """
    send_framed(connection, [framed(header, payload) for header, payload in frames])


def send_framed(connection: socket.socket, frames: Iterable[Frame]) -> None:
    """Send frames: those that are small in one system call, and a large payload without a copy of it."""
    small = b""
    for head, payload in frames:
        small += head
        if len(payload) < INLINE_BYTES:
            small += payload
        else:
            connection.sendall(small)
            connection.sendall(payload)
            small = b""
    if small:
        connection.sendall(small)


class FrameReader:
    """Frames of a stream, in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._at = 0
        """Where in the buffer the next frame begins."""
        self._comes_soon = False

    def read(self) -> tuple[Header, bytes] | None:
        """The next frame; None where the stream ended, at a frame's border or within one.

        Raises:
            KitaruBackendError: it is none, or too large to be read: nothing that follows can be.
        """
        if len(self._buffer) - self._at < FRAME.size and not self._fill(FRAME.size):
            return None
        header_bytes, payload_bytes = FRAME.unpack_from(self._buffer, self._at)
        if header_bytes > MAX_HEADER_BYTES:
            raise KitaruBackendError(
                f"the journal protocol's other side sent names, errors and metadata of {header_bytes:,} bytes at once; "
                f"{MAX_HEADER_BYTES:,} is the most"
            )
        # Of a large payload, what has come with the header; the rest below.
        wanted = FRAME.size + header_bytes + (payload_bytes if payload_bytes < INLINE_BYTES else 0)
        if len(self._buffer) - self._at < wanted and not self._fill(wanted):
            return None
        body = self._at + FRAME.size + header_bytes
        header = parse(str(self._buffer[self._at + FRAME.size : body], "utf-8"))
        payload = self._buffer[body : body + payload_bytes]
        self._at = body + len(payload)
        if len(payload) < payload_bytes:
            whole = self._rest(payload, payload_bytes)
            return None if whole is None else (header, whole)
        return header, payload

    def _rest(self, begun: bytes, size: int) -> bytes | None:
        """A large payload, received into its place: memory that grows is copied again and again."""
        whole = BytesIO(begun)
        whole.seek(size - 1)
        whole.write(b"\0")
        at = len(begun)
        with whole.getbuffer() as view:
            while at < size:
                try:
                    received = self._connection.recv_into(view[at:])
                except OSError:
                    return None
                if not received:
                    return None
                at += received
        # These are its own bytes: to make them of a bytearray takes longer than to receive them.
        return whole.getvalue()

    def has_frame(self) -> bool:
        """Whether the next frame has come whole. Never blocks; one that is large may be seen late."""
        try:
            self._take(self._connection.recv(1 << 16, socket.MSG_DONTWAIT))
        except OSError:
            pass  # nothing more has come; the end is for `read` to see
        return self.holds_frame()

    def holds_frame(self) -> bool:
        """Whether the next frame came whole together with the last one."""
        there = len(self._buffer) - self._at
        if there < FRAME.size:
            return False
        header_bytes, payload_bytes = FRAME.unpack_from(self._buffer, self._at)
        return there >= FRAME.size + int(header_bytes) + int(payload_bytes)

    def _fill(self, size: int) -> bool:
        while (missing := size - len(self._buffer) + self._at) > 0:
            try:
                chunk = self._receive(max(1 << 16, missing))
            except OSError:
                return False
            if not chunk:
                return False
            self._take(chunk)
        return True

    def _receive(self, size: int) -> bytes:
        """What comes next; looked for again and again for a moment, where the last came within that.

        To put a process to sleep and to wake it costs as much as a short checkpoint.
        """
        began = monotonic()
        # One at a time in a process: others would only take the interpreter from each other.
        if self._comes_soon and spinning.acquire(blocking=False):
            try:
                while monotonic() - began < SPIN_SECONDS:
                    try:
                        return self._connection.recv(size, socket.MSG_DONTWAIT)
                    except BlockingIOError:
                        pass
            finally:
                spinning.release()
        chunk = self._connection.recv(size)
        self._comes_soon = monotonic() - began < SPIN_SECONDS
        return chunk

    def _take(self, chunk: bytes) -> None:
        # Most often all that came before has been read: then nothing is copied.
        self._buffer = self._buffer[self._at :] + chunk if self._at < len(self._buffer) else chunk
        self._at = 0
