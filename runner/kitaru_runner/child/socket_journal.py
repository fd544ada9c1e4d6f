"""The journal at the other end of a socket: each verb a message to the runner, which alone writes."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from kitaru_registry import errors
from kitaru_registry.errors import KitaruBackendError, KitaruError, KitaruFencedError
from kitaru_registry.journal.entries import (
    OF_CALLS,
    Answer,
    ChildRequest,
    Encoded,
    Entry,
    Loaded,
    Opening,
    Outcome,
    WaitRequest,
)
from kitaru_registry.journal.frames import (
    MAX_HEADER_BYTES,
    MAX_RECORD_BYTES,
    Frame,
    FrameReader,
    Header,
    framed,
    send,
    send_framed,
)
from kitaru_registry.journal.interface import Answers, Recorded, nothing
from kitaru_registry.journal.kept_entries import KeptEntries
from kitaru_registry.journal.messages import PROTOCOL
from kitaru_registry.journal.packing import pack_entries, unpack_entries
from kitaru_runner.engine.body import output as logs
from kitaru_runner.engine.core import forking
from kitaru_runner.engine.core.in_flight import InFlightPage

EXIT_DONE = 0
EXIT_ORPHANED = 70
EXIT_FENCED = 71


class Reply:
    """A reply that a thread waits for. Whoever reads the socket brings it, or the turn to read."""

    __slots__ = ("came", "gate", "header", "payload", "recorded")

    def __init__(self, recorded: Recorded = nothing) -> None:
        self.recorded = recorded
        self.gate = threading.Lock()
        self.gate.acquire()
        self.came = False
        self.header: Header = {}
        self.payload = b""

    def wake(self) -> None:
        try:
            self.gate.release()
        except RuntimeError:
            pass  # it is awake already


class SocketJournal:
    """The journal at the other end of the socket (journal.interface).

    The thread that asks reads the socket itself until its reply has come: a thread in between would cost as much as
    the rest of a checkpoint. Of several, one reads for all.
    """

    def __init__(
        self, connection: socket.socket, *, pushes: socket.socket | None = None, page: InFlightPage | None = None
    ) -> None:
        """
        Args:
            pushes: where the runner says what it was not asked; by default on the same connection.
            page: where to show what is under way; by default frames say it.
        """
        self._connection = connection
        self._reader = FrameReader(connection)
        self._pushes = pushes
        self._page = page
        self._send_lock = threading.Lock()
        self._reading = threading.Lock()
        self._replies: dict[int, Reply] = {}
        self._ids = itertools.count(1)
        self._outgoing: deque[Frame] = deque()
        self._last_id: int | None = None
        self._is_over = False
        """The execution's end is recorded: nothing is said any more, and nobody has to be there."""
        self.listener: Answers | None = None
        self.on_cancel: Callable[[], None] = lambda: leave(EXIT_DONE)
        """What to do when the execution is to be cancelled; runs in the thread that listens."""

    def open(self) -> tuple[Opening, Header]:
        """Say hello; what the runner knows of the execution."""
        send(self._connection, {"t": "hello", "protocol": PROTOCOL, "pid": os.getpid()})
        welcome, inputs = self._expect("welcome")
        entries = KeptEntries()
        last = False
        while not last:
            header, payload = self._expect("entries")
            entries.extend(unpack_entries(header["entries"], payload))
            last = header["last"]
        opening = Opening(
            exec_id=welcome["exec_id"],
            attempt=welcome["attempt"],
            flow=welcome["flow"],
            entrypoint=welcome["entrypoint"],
            retries=welcome["retries"],
            inputs=Encoded(welcome["codec"], inputs),
            entries=entries,
            cache=welcome.get("cache"),
            code=welcome.get("code", ""),
            replay=welcome.get("replay"),
            accepted=tuple((scope, place) for scope, place in welcome.get("accepted", ())),
            may_pickle=welcome.get("may_pickle", True),
            strict=welcome.get("strict", False),
        )
        return opening, welcome

    def listen(self) -> None:
        """Hear what comes unasked until the socket ends, which ends this process."""
        if self._pushes is None:
            with self._reading:
                while True:
                    self._read_frame()
        reader = FrameReader(self._pushes)
        while (frame := next_frame(reader)) is not None:
            self._take(*frame)
        if not self._is_over:
            leave(EXIT_ORPHANED)

    def fenced(self) -> None:
        """Another attempt owns the execution, or it has ended: then its threads may go on to nothing."""
        if not self._is_over:
            leave(EXIT_FENCED)

    def _read_frame(self) -> None:
        frame = next_frame(self._reader)
        if frame is None:
            self._lose_runner()
        self._take(*frame)

    def _lose_runner(self) -> NoReturn:
        """
        Raises:
            KitaruFencedError: the execution has ended, and its runner hears nothing any more.
        """
        if not self._is_over:
            leave(EXIT_ORPHANED)
        raise KitaruFencedError("the flow has ended")

    def _take(self, header: Header, payload: bytes) -> None:
        if header["t"] == "answer":
            if self.listener is not None:
                self.listener.answered(header["key"], Answer(payload, header.get("outcome", "answered")))
            return
        if header["t"] == "cancel":
            self.on_cancel()
            return
        reply = self._replies.pop(header["id"])
        if header["id"] == self._last_id and header["t"] == "ok":
            self._is_over = True
        if "seq" in header and header["t"] == "ok":
            reply.recorded(header["seq"])
        reply.header, reply.payload, reply.came = header, payload, True
        reply.wake()

    def _await(self, reply: Reply) -> None:
        while not reply.came:
            if not self._reading.acquire(blocking=False):
                reply.gate.acquire()
                continue
            try:
                # What came together is given out together: each of the others would read, and hand on to the next.
                while not reply.came or self._reader.holds_frame():
                    self._read_frame()
            finally:
                self._reading.release()
            # Somebody else may stand at the gate, and nobody reads any more.
            following = next(iter(list(self._replies.values())), None)
            if following is not None:
                following.wake()

    def record(self, entries: Sequence[Entry], recorded: Recorded = nothing) -> int:
        packed, payload = pack_entries(entries)

        def known(last: int) -> None:
            # First: whoever goes on by what is recorded may end the process.
            if self._page is not None:
                for entry in entries:
                    if entry.kind in OF_CALLS:
                        self._page.end(entry.key, entry.tries or 1)
            recorded(last)

        asked = {"t": "record", "entries": packed}
        return int(self._ask(asked, payload, known, most=MAX_RECORD_BYTES)[0]["seq"])

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        if self._page is not None:
            self._page.begin(key, name, tries, at_us)
            return
        self._post(framed({"t": "started", "key": key, "name": name, "tries": tries, "at": at_us}))

    def left(self, key: str, tries: int) -> None:
        if self._page is not None:
            self._page.end(key, tries)

    def open_wait(self, wait: WaitRequest) -> Answer | None:
        request = {
            "key": wait.key, "name": wait.name, "question": wait.question, "schema": wait.schema,
            "metadata": wait.metadata, "entered": wait.entered_us, "kind": wait.kind, "deadline": wait.deadline_us,
            "any_of": wait.any_of, "child": wait.child,
        }  # fmt: skip
        header, payload = self._ask({"t": "wait", "wait": request})
        return Answer(payload, header["outcome"]) if header["answered"] else None

    def park(self) -> bool:
        if self._ask({"t": "park"})[0]["parked"]:
            leave(EXIT_DONE)
        return False

    def value(self, entry: Entry) -> Encoded:
        header, payload = self._ask({"t": "value", "seq": entry.seq})
        return Encoded(header["codec"], payload)

    def load(self, exec_id: str, name: str, index: int | None = None) -> Loaded:
        header, payload = self._ask({"t": "load", "exec_id": exec_id, "name": name, "index": index})
        return Loaded(Encoded(header["codec"], payload), header["of"], header["ours"])

    def cached(self, key: bytes) -> tuple[Encoded, str] | None:
        header, payload = self._ask({"t": "cached", "key": key.hex()})
        return (Encoded(header["codec"], payload), header["of"]) if header.get("codec") else None

    def child(self, request: ChildRequest) -> tuple[str, int]:
        described = {
            "key": request.key, "place": request.place, "flow": request.flow, "codec": request.inputs.codec,
            "entrypoint": request.entrypoint, "tag": request.tag, "version": request.version,
            "options": request.options, "digest": request.digest.hex() if request.digest else None,
        }  # fmt: skip
        header, _ = self._ask({"t": "child", "child": described}, request.inputs.data)
        return str(header["exec_id"]), int(header["seq"])

    def attend(self, exec_id: str) -> None:
        self._ask({"t": "attend", "exec_id": exec_id})

    def outcome(self, exec_id: str) -> Outcome:
        header, payload = self._ask({"t": "outcome", "exec_id": exec_id})
        value = Encoded(header["codec"], payload) if header.get("codec") else None
        return Outcome(value, header["error"], header["status"])

    def stop(self, key: str) -> None:
        self._ask({"t": "stop", "key": key})
        leave(EXIT_DONE)

    def finish(self, outcome: Outcome) -> bool:
        header: Header = {"t": "finish", "error": outcome.error}
        if outcome.value is not None:
            header["codec"] = outcome.value.codec
        self._ask(header, outcome.value.data if outcome.value else b"", is_last=True)
        # Whether it begins anew or not, this process has done its part.
        return False

    def _ask(
        self, header: Header, payload: bytes = b"", recorded: Recorded = nothing, *, most: int = MAX_HEADER_BYTES,
        is_last: bool = False,
    ) -> tuple[Header, bytes]:  # fmt: skip
        """What the runner replies.

        Raises:
            KitaruUsageError: it is too large to be asked.
            KitaruError: the runner refuses.
        """
        if self._is_over:
            self._lose_runner()
        reply = Reply(recorded)
        header["id"] = id_ = next(self._ids)
        frame = framed(header, payload, most=most)
        self._replies[id_] = reply
        try:
            if is_last:
                self._last_id = id_
            self._post(frame)
        except OSError:
            self._lose_runner()
        self._await(reply)
        if reply.header["t"] == "error":
            raise as_error(reply.header)
        return reply.header, reply.payload

    def _post(self, frame: Frame) -> None:
        """Send a frame. Where another thread is at it, that sends it: to wait for the turn takes as long as to send."""
        self._outgoing.append(frame)
        # Again after each time: who came last may have seen the lock held.
        while self._outgoing and self._send_lock.acquire(blocking=False):
            try:
                send_framed(self._connection, [self._outgoing.popleft() for _ in range(len(self._outgoing))])
            finally:
                self._send_lock.release()

    def _expect(self, kind: str) -> tuple[Header, bytes]:
        frame = next_frame(self._reader)
        if frame is None:
            leave(EXIT_ORPHANED)
        if frame[0]["t"] != kind:
            raise KitaruBackendError(f"the runner said {frame[0]['t']} where {kind} was due")
        return frame


def next_frame(reader: FrameReader) -> tuple[Header, bytes] | None:
    """The next frame; None where there is none any more, or none that can be read."""
    try:
        return reader.read()
    except KitaruBackendError as error:
        print(f"kitaru: {error.message}", file=sys.stderr)
        return None


def as_error(header: Mapping[str, Any]) -> KitaruError:
    kind = getattr(errors, header["type"], KitaruBackendError)
    if kind is errors.KitaruDigestMismatchError:
        kind = KitaruBackendError
    error: KitaruError = kind(header["message"], hint=header.get("hint"))
    return error


def leave(code: int) -> NoReturn:
    """End this process at once: to user code that is a crash, which it must survive anyhow."""
    logs.end_lines()
    forking.flush()
    os._exit(code)
