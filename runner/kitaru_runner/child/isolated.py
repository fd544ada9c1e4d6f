"""The process of one try under `@checkpoint(runtime="isolated")`: it imports the function, calls it, says what came.

Its parent (isolated.py) is the process that runs the flow. They exchange frames (journal.frames) over a socket pair:

    parent                                 this process
    call {exec_id, key, ...} payload: arguments ->
                                        <- begun {}                         the function is imported, and called now
                                        <- load {exec_id, name, index}      kitaru.load()
    value {codec} payload, or error {error} ->
                                        <- ended {entry} payload: the outcome, as an entry of the journal

It ends with its parent, and its own processes with it: the kernel kills its process group when the parent's end of a
pipe is closed, however that came about. Standard library, and codecs.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruContextError, KitaruNotFoundError, KitaruUsageError
from kitaru_registry.journal.entries import Encoded, Entry, Kind, Loaded, Opening
from kitaru_registry.journal.frames import MAX_HEADER_BYTES, MAX_RECORD_BYTES, FrameReader, Header, framed, send_framed
from kitaru_registry.journal.giving_up import OWN_CANCELLATION, says_given_up
from kitaru_registry.journal.interface import Journal
from kitaru_registry.journal.keys import Call
from kitaru_registry.journal.packing import pack_entries
from kitaru_runner.child.lifeline import end_group_with
from kitaru_runner.child.loader import import_file
from kitaru_runner.engine.core import forking
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.calls import Branch, active, current
from kitaru_runner.engine.core.specs import is_coroutine_function
from kitaru_runner.values import codec
from kitaru_runner.values.failures import describe_failure, rebuild

PR_SET_PDEATHSIG = 1


class Parent:
    """The process that runs the flow."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = FrameReader(connection)
        self._lock = threading.Lock()

    def read(self) -> tuple[Header, bytes]:
        frame = self._reader.read()
        if frame is None:
            os._exit(0)  # nobody is left to tell
        return frame

    def begun(self) -> None:
        self._send({"t": "begun"})

    def tell(self, entry: Entry) -> None:
        packed, payload = pack_entries([entry])
        self._send({"t": "ended", "entries": packed}, payload, most=MAX_RECORD_BYTES)

    def load(self, exec_id: str, name: str, index: int | None) -> Loaded:
        with self._lock:
            self._send({"t": "load", "exec_id": exec_id, "name": name, "index": index})
            header, payload = self.read()
        if header["t"] == "error":
            raise rebuild(header["error"])
        return Loaded(Encoded(header["codec"], payload), header["artifact_id"], header["is_ours"])

    def _send(self, header: Header, payload: bytes = b"", *, most: int = MAX_HEADER_BYTES) -> None:
        frame = framed(header, payload, most=most)
        try:
            send_framed(self._connection, [frame])
        except OSError:
            os._exit(0)


class IsolatedAttempt(Attempt):
    """What an attempt is to code inside a checkpoint, as far as it reaches into a process of its own."""

    def __init__(self, parent: Parent, exec_id: str, key: str, *, may_pickle: bool) -> None:
        opening = Opening(exec_id, 0, "", "", 0, Encoded("json", b"null"), (), may_pickle=may_pickle)
        super().__init__(cast("Journal", parent), opening)
        self._key = key

    def admit(self, name: str, what: str = "") -> NoReturn:
        called = f"{what} {name}".lstrip()
        raise KitaruContextError(
            f"{called} was called inside checkpoint {self._key}, which is isolated: its process has no journal",
            hint=f"call {name}.function(...), the plain function of a checkpoint; "
            'or take runtime="isolated" away, or do it in the flow\'s body',
        )


def function_of(header: Header, function: Encoded | None) -> Callable[..., Any]:
    """The function to call: by value, or by the module and name under which the parent found it.

    Raises:
        KitaruNotFoundError: imported here, the module does not define it.
        Exception: whatever the module raises.
    """
    # First, also for a function by value, which may name what is in it.
    found: Any = load_module(header["module"], header["file"]) if header["module"] else None
    if function is not None:
        by_value: Callable[..., Any] = codec.decode(function)
        return by_value
    try:
        for part in header["qualname"].split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise KitaruNotFoundError(
            f"{header['module']} does not define {header['qualname']} when it is imported",
            hint="define it at the top of its file, above what starts the flow, under no `if`",
        ) from error
    called: Callable[..., Any] = getattr(found, "function", found)
    return called


def load_module(name: str, file: str | None) -> Any:
    """The module as the parent has it: by its file, and flows that it starts when it is imported are inert."""
    if file is None:
        return importlib.import_module(name)
    parent = name.rpartition(".")[0]
    if parent:
        try:
            importlib.import_module(parent)
        except ModuleNotFoundError as error:
            # A loader of its own may have made up the package, as pytest's does.
            if error.name is None or not f"{parent}.".startswith(f"{error.name}."):
                raise
    return import_file(name, Path(file))


def arguments_of(header: Header, payload: bytes) -> tuple[Encoded | None, list[Encoded]]:
    """The function, where it comes by value, and the arguments."""
    found = []
    at = 0
    for name, size in header["values"]:
        found.append(Encoded(name, payload[at : at + size]))
        at += size
    return (None, found) if header["qualname"] else (found[0], found[1:])


def execute(parent: Parent, header: Header, payload: bytes) -> Entry:
    """Make the try: its outcome, or a failure (`t`: one that may be tried again), with what was saved and logged."""
    call = Call(header["key"], header["name"], "", 0)
    attempt = IsolatedAttempt(parent, header["exec_id"], call.key, may_pickle=header["may_pickle"])
    branch = Branch(attempt, call=call)
    current.set(branch)
    forking.watch(attempt)
    active.enter(caller_is_plain=False)
    try:
        by_value, encoded = arguments_of(header, payload)
        function = function_of(header, by_value)
        args = [codec.decode(value) for value in encoded]
        named = header["named"]
        first = len(args) - len(named)
        parent.begun()
        value = called(function, args[:first], dict(zip(named, args[first:], strict=True)))
    except BaseException as error:
        if forking.is_left_to_parent(attempt):
            forking.end_fork(error)
        if isinstance(error, SystemExit):
            raise
        # Only an Exception is tried again: the others end whatever calls, in a process of its own too.
        return entry_of(branch, Kind.TRY if isinstance(error, Exception) else Kind.CALL, error=error)
    if forking.is_left_to_parent(attempt):
        forking.end_fork()
    try:
        return entry_of(branch, Kind.CALL, value=codec.encode(value))
    except Exception as error:  # no codec carries it: the checkpoint did not succeed
        return entry_of(branch, Kind.CALL, error=error)


def tell(parent: Parent, ended: Entry) -> None:
    """Tell the outcome; where it is too large to be told, that."""
    try:
        parent.tell(ended)
    except KitaruUsageError as error:
        parent.tell(Entry(Kind.CALL, ended.key, ended.ended_us, error=describe_failure(error, checkpoint=ended.key)))


def called(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    if not is_coroutine_function(function):
        return function(*args, **kwargs)
    import asyncio

    return asyncio.run(function(*args, **kwargs))


def entry_of(
    branch: Branch, kind: str, *, value: Encoded | None = None, error: BaseException | None = None
) -> Entry:  # fmt: skip
    assert branch.call is not None
    key = branch.call.key
    described = describe_failure(error, checkpoint=key) if error is not None else None
    if described is not None and says_given_up(described):
        described = {**described, OWN_CANCELLATION: True}  # nobody gives up in this process
    return Entry(
        kind,
        key,
        now_us(),
        value=value,
        error=described,
        saved=tuple(branch.left.saved),
        metadata=dict(branch.left.metadata),
        parents=tuple(branch.left.loaded),
    )


def end_with_parent(pid: int, lifeline: int) -> None:
    """Let the kernel kill this process and its own when the parent ends, and this one also with its thread there.

    Args:
        lifeline: the reading end of a pipe, whose other end the parent alone holds.
    """
    end_group_with(lifeline)
    if sys.platform == "linux":
        import ctypes

        # The pipe alone would not do where the parent was forked: a fork holds its end too.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Not select(), which takes no descriptor above 1023: the parent may have as many open.
    closed = select.poll()
    closed.register(lifeline)
    if os.getppid() != pid or closed.poll(0):
        os._exit(0)


def main() -> None:
    """`python -m kitaru_runner.child.isolated CONNECTION LIFELINE PARENT_PID`, the leader of a session of its own."""
    descriptor, lifeline, pid = map(int, sys.argv[1:4])
    end_with_parent(pid, lifeline)
    forking.close_what_was_given(but=lifeline)
    parent = Parent(socket.socket(fileno=descriptor))
    header, payload = parent.read()
    sys.path[:] = header["path"]
    sys.argv[:] = header["argv"]
    # Found as `kitaru_runner.child.isolated` by what a function imports, this module must not begin again.
    sys.modules["kitaru_runner.child.isolated"] = sys.modules["__main__"]
    ended = execute(parent, header, payload)
    forking.flush()
    tell(parent, ended)
    # Threads that the function left behind do not keep the try from ending.
    os._exit(0)


if __name__ == "__main__":
    main()
