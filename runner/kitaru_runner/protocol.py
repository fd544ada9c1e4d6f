"""The journal protocol: what a child and its runner say to each other.

A child holds no credentials and opens no database. It speaks this over an inherited socket pair; the runner alone
writes and fences. The same messages, as plain calls, are the `Journal` that an in-process run talks to.

A frame is two big-endian 32-bit lengths, a UTF-8 JSON header of the first length and a payload of the second. Every
header has `t`, the message's type, and at most 64 MiB. A request carries `id`, and its reply the same `id`. Values
travel in payloads; a header that describes several gives each one's `size`, in order.

    child                             runner
    hello {protocol, pid}          -> welcome {exec_id, attempt, flow, ...} payload: inputs
                                      entries {entries: [...], last} payload: their values (repeated until last)
    record {id, entries} payload   -> ok {id, seq}          the entries are durable
    started {key, name, tries, at}                          no reply; rides on the next heartbeat
    wait {id, wait}                -> ok {id, answered, outcome?} payload: the answer's JSON
    park {id}                      -> ok {id, parked}       parked: the child ends now; else an answer has come, or
                                                            is about to
    value {id, seq}                -> ok {id} payload       a recorded value too large to be sent with its entry
    load {id, exec_id, name, index?} -> ok {id, codec, of, ours} payload   an artifact, its id, and whose it is
    cached {id, key}               -> ok {id, codec?, of?} payload   an outcome under that cache key, in any execution
    child {id, child} payload      -> ok {id, exec_id, seq} a child execution exists, and is recorded
    attend {id, exec_id}           -> ok {id}               one that was made before is seen to
    outcome {id, exec_id}          -> ok {id, status, error, codec?} payload   how an execution stands
    stop {id, key}                 -> ok {id}               end here: the next call is not recorded; the child ends now
    finish {id, ...} payload       -> ok {id}               the child ends now
                                      answer {key, outcome?} payload   at any time
                                      cancel {}               at any time: the child ends, in a second at the latest
                                      error {id, type, message, hint}  instead of ok; `fenced` ends the child

Protocol 2 added `cached`, `child`, `attend`, `outcome`, `stop`, `cancel`, fields, and the `outcome` of an answer
(`answered`, `expired`, `aborted`): a child that speaks 1 never sees them. To cancel, such a one is killed.

Standard library only: every child imports this. A number that was released is served for ever.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from time import monotonic
from typing import Any, NamedTuple, Protocol

from kitaru_registry.errors import KitaruBackendError, KitaruUsageError
from kitaru_runner.json_text import compact, parse

PROTOCOL = 2
SERVED_PROTOCOLS = frozenset({1, 2})
CODEC = 2
"""Number of the set of value codecs (codec.py) that a child writes; it reads every set before it too."""

ENDED = "e"
"""Kind of the entry that says that a timer or a thread of the flow's own came to its end."""

PAUSE = "/pause@"
"""In the key of the timer between two tries of a checkpoint, after that one's."""

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


class Encoded(NamedTuple):
    """A value as bytes, and the name of the codec that reads them."""

    codec: str
    data: bytes


class Saved(NamedTuple):
    """One `save(...)`: an artifact that becomes durable with the entry that carries it."""

    name: str
    type: str
    tags: tuple[str, ...]
    value: Encoded


@dataclass(frozen=True, slots=True)
class Loaded:
    """An artifact of any execution, as bytes."""

    value: Encoded
    artifact_id: str
    is_ours: bool
    """Whether what is pickled may be read: the home is this user's own, or the same snapshot wrote it."""


REPLAY_NEVER = 1
"""A flag: a replay reuses this outcome wherever it stands, and never executes the checkpoint."""
DIGEST_ONLY = 2
"""A flag: the value was not kept, only its digest."""
GIVEN = 4
"""A flag: the outcome was given for a replay, and is used whatever the arguments are."""
ARGUMENT_CHANGED = 8
"""A flag: the call changed its arguments, which is an error; `KEY!changed` says which."""


class Entry(NamedTuple):
    """One row of a journal.

    kind: `c` a checkpoint's outcome, `t` a failed try of one, `w` a wait's, a sleep's or a child execution's outcome,
    `s` a save and `l` a log in the flow's body, `n` a noted value (now, random, uuid4), `x` a child execution,
    `d` a warning of divergence.
    """

    kind: str
    key: str
    ended_us: int
    value: Encoded | None = None
    place: int | None = None
    """How many calls its scope had made before."""
    inputs: bytes | None = None
    started_us: int | None = None
    # What most checkpoints have ends here.
    name: str | None = None
    """Where it is not the key's own last part."""
    seq: int = 0
    error: Mapping[str, Any] | None = None
    tries: int | None = None
    type: str | None = None
    saved: tuple[Saved, ...] = ()
    metadata: Mapping[str, Any] | None = None
    size: int | None = None
    """Of a value that was not sent along."""
    cache_key: bytes | None = None
    parents: tuple[str, ...] = ()
    """Keys of the outcomes that were passed to this call."""
    flags: int = 0
    soft: bool = False
    """Recorded behind a failure that was superseded: used where the same call is made again, otherwise passed over."""


COMMON = 7
"""So many fields, the first, are all that most entries have."""

NOTHING_RARE = Entry("", "", 0)[COMMON:]


@dataclass(frozen=True, slots=True)
class WaitRequest:
    key: str
    name: str
    question: str | None
    schema: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    entered_us: int
    kind: str = "input"
    """`input`, `sleep`, or `child`: a child execution's end."""
    deadline_us: int | None = None
    any_of: str | None = None
    """The key that the first answer of a group goes to; the others are closed."""
    child: str | None = None
    """The child execution's id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a wait."""

    data: bytes
    """The answer as JSON; of no meaning unless answered."""
    outcome: str = "answered"
    """`answered`, `expired`, `aborted`"""
    key: str = ""
    """Of the call that got it, once it has one."""


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A child execution to be: of a flow of the same code (`entrypoint`), or of a deployed one (tag or version)."""

    key: str
    place: int
    flow: str
    inputs: Encoded
    entrypoint: str | None = None
    tag: str | None = None
    version: str | None = None
    options: Mapping[str, Any] | None = None
    """What `@flow(...)` and `.run(...)` say: retries, cache, finish_timeout."""
    digest: bytes | None = None
    """Of the inputs, to notice other ones on a replay."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended: a value, or an error as `codec.describe_failure` gives it."""

    value: Encoded | None
    error: Mapping[str, Any] | None
    status: str = "ended"
    """Of a child execution that was asked for: its status."""


@dataclass(frozen=True, slots=True)
class Opening:
    exec_id: str
    attempt: int
    flow: str
    entrypoint: str
    retries: int
    inputs: Encoded
    entries: Sequence[Entry]
    cache: bool | None = None
    """What the execution says of `cache=`; None: as each checkpoint says."""
    code: str = ""
    """Digest of the code that runs, for cache keys; empty where it is not known."""
    replay: Mapping[str, Any] | None = None
    """Of a replay: what it was made from, and whether only recorded outcomes may be used."""
    accepted: tuple[tuple[str, int], ...] = ()
    """Scope and place from which a divergence was accepted."""
    may_pickle: bool = True
    """Whether values that only pickle carries may be recorded, and read from other executions."""
    strict: bool = False
    """A recorded call that is made with other arguments is a divergence, unless this is a replay."""


class Answers(Protocol):
    """Who wants to hear of answers: whoever stands at waits."""

    def answered(self, key: str, answer: Answer) -> None: ...


Recorded = Callable[[int], None]
"""Hears the number of the last of some entries. It does not wait, and calls no code of the user's."""


def nothing(last: int) -> None:
    """Nobody is to hear of it."""


class Journal(Protocol):
    """What an attempt needs of the record. Every call may raise KitaruFencedError."""

    def record(self, entries: Sequence[Entry], recorded: Recorded = nothing) -> int:
        """Make entries durable, all or none, in this order. The number of the last; they are contiguous.

        Args:
            recorded: is given that number as soon as there is one, by whichever thread learns of it first.
        """

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        """Note that a try began; best effort."""

    def left(self, key: str, tries: int) -> None:
        """Note that a try ended, and that nothing will be recorded of it; best effort."""

    def open_wait(self, wait: WaitRequest) -> Answer | None:
        """Make a wait known; its answer if it is there already."""

    def park(self) -> bool:
        """Nothing can go on without an answer. True: the process must end; False: it may stay and will be told."""

    def value(self, entry: Entry) -> Encoded:
        """The value of an entry that came without it."""

    def load(self, exec_id: str, name: str, index: int | None = None) -> Loaded:
        """An artifact, or a checkpoint's output, of any execution of this home and project."""

    def cached(self, key: bytes) -> tuple[Encoded, str] | None:
        """A value recorded under that cache key, and the execution and checkpoint that recorded it."""

    def child(self, request: ChildRequest) -> tuple[str, int]:
        """Make a child execution, recorded as an entry `x`; its id, and the entry's number."""

    def attend(self, exec_id: str) -> None:
        """See to it that somebody works on a child execution that was made before."""

    def outcome(self, exec_id: str) -> Outcome:
        """How an execution stands, or how it ended."""

    def stop(self, key: str) -> None:
        """End the execution before the call of that key, which nothing is recorded of. The last call."""

    def finish(self, outcome: Outcome) -> bool:
        """End the execution; whether it begins anew, as the flow's own retries say. The last call."""


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
