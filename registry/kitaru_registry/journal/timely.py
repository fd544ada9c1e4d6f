"""Frames of a process that may die, or be out of time, in the middle of one."""

from __future__ import annotations

import select
import socket
import time
from io import BytesIO

from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.journal.frames import FRAME, MAX_HEADER_BYTES, Header
from kitaru_registry.journal.json_text import parse


class TimelyReader:
    """Reads what a process says, for as long as it lives.

    The end of its stream does not tell: a process that it has forked may hold that.
    """

    def __init__(self, connection: socket.socket, death: int) -> None:
        """
        Args:
            death: a descriptor of the process (pidfd), which can be read when it has ended.
        """
        self._connection = connection
        self._death = death

    def read(self, deadline: float | None) -> tuple[Header, bytes] | None:
        """The next frame; None where none comes any more, or not by the deadline, a `time.monotonic()`.

        Raises:
            KitaruBackendError: its header is too large to be read.
        """
        sizes = self._exactly(FRAME.size, deadline)
        if sizes is None:
            return None
        header_bytes, payload_bytes = FRAME.unpack(sizes)
        if header_bytes > MAX_HEADER_BYTES:
            raise KitaruBackendError(
                f"it sent names, errors and metadata of {header_bytes:,} bytes; {MAX_HEADER_BYTES:,} is the most"
            )
        header = self._exactly(header_bytes, deadline)
        payload = None if header is None else self._exactly(payload_bytes, deadline)
        return None if header is None or payload is None else (parse(str(header, "utf-8")), payload)

    def _exactly(self, size: int, deadline: float | None) -> bytes | None:
        """So many bytes, received into their place: memory that grows is copied again and again."""
        if not size:
            return b""
        whole = BytesIO()
        whole.seek(size - 1)
        whole.write(b"\0")
        at = 0
        with whole.getbuffer() as view:
            while at < size:
                received = self._receive(view[at:], deadline)
                if not received:
                    return None
                at += received
        return whole.getvalue()

    def _receive(self, into: memoryview, deadline: float | None) -> int:
        """How much came of what is next; 0 where nothing does."""
        while True:
            try:
                return self._connection.recv_into(into, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._until_ready(deadline):
                    return 0
            except OSError:
                return 0

    def _until_ready(self, deadline: float | None) -> bool:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._death, select.POLLIN)
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0) * 1000
        return self._connection.fileno() in (descriptor for descriptor, _ in poll.poll(left))
