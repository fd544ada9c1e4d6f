"""Tries in processes of their own, seen from the process that runs the flow (`runtime="isolated"`).

A process is started for one try, and killed with its process group when the try is over: by its outcome, its timeout,
its caller's cancellation, or the end of the attempt. What dies by a signal is a try that failed; the flow goes on.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kitaru_registry.errors import KitaruBackendError, KitaruContextError, KitaruCrashError, KitaruUsageError
from kitaru_registry.journal.entries import Encoded, Entry
from kitaru_registry.journal.frames import Header, send
from kitaru_registry.journal.packing import unpack_entries
from kitaru_registry.journal.timely import TimelyReader
from kitaru_runner.engine.checkpoints.loads import fetch
from kitaru_runner.engine.core.specs import Work, timed_out
from kitaru_runner.values import codec
from kitaru_runner.values.failures import describe_failure

if TYPE_CHECKING:
    import subprocess

    from kitaru_registry.journal.keys import Call
    from kitaru_runner.engine.core.attempt import Attempt

START_SECONDS = 300.0
"""To import a function, which the timeout of its tries does not count."""

EXIT_SECONDS = 5.0


class Processes:
    """The isolated tries of one attempt, so that all of them can be ended."""

    def __init__(self, attempt: Attempt) -> None:
        self._lock = threading.Lock()
        self._tries: set[IsolatedTry] = set()
        self._over = False
        attempt.halting.hear(lambda _: self.end())

    def add(self, own: IsolatedTry) -> None:
        with self._lock:
            self._tries.add(own)
            over = self._over
        if over:
            own.end()

    def discard(self, own: IsolatedTry) -> None:
        with self._lock:
            self._tries.discard(own)

    def end(self) -> None:
        """Kill those that there are; none is started any more."""
        with self._lock:
            self._over = True
            tries = list(self._tries)
        for own in tries:
            own.end()


class IsolatedTry:
    """One try; `execute` in one thread, `end` in any."""

    def __init__(self, attempt: Attempt, call: Call, work: Work) -> None:
        self._attempt = attempt
        self._call = call
        self._work = work
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._death = -1
        self._ended = False

    def execute(self) -> Entry:
        """What came of it: an entry with its value, or its failure, and what it saved and logged.

        The thread that calls stays with the process: the kernel ends that with this thread.

        Raises:
            KitaruTimeoutError: its time was over; it is dead.
            KitaruCrashError: it died by itself.
            KitaruUsageError: an argument cannot be sent to it.
            KitaruBackendError: it could not be started.
        """
        header, payload = request_of(self._attempt, self._call, self._work)
        ours, theirs = socket.socketpair()
        self._attempt.its(Processes).add(self)
        try:
            with ours:
                lifeline = self._start(theirs)
                try:
                    return self._exchange(ours, header, payload)
                finally:
                    self._kill()
                    os.close(lifeline)
                    os.close(self._death)
        finally:
            self._attempt.its(Processes).discard(self)

    def end(self) -> None:
        """Kill it, or keep it from being started; `execute` then raises what halted the attempt."""
        with self._lock:
            self._ended = True
            self._kill_group()

    def _start(self, theirs: socket.socket) -> int:
        """Start the process; the end of the pipe that is to be held for as long as it may live."""
        import subprocess

        read_end, write_end = os.pipe()
        command = [*interpreter(), "-m", "kitaru_runner.child.isolated"]
        command += [str(theirs.fileno()), str(read_end), str(os.getpid())]
        try:
            with self._lock:
                if self._ended:
                    self._left()
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), read_end), start_new_session=True
                )
                self._death = os.pidfd_open(self._process.pid)
        except BaseException as error:
            os.close(write_end)
            if isinstance(error, OSError):
                raise KitaruBackendError(f"the process of {self._call.key} could not be started: {error}") from error
            raise
        finally:
            theirs.close()
            os.close(read_end)
        return write_end

    def _exchange(self, ours: socket.socket, header: Header, payload: bytes) -> Entry:
        reader = TimelyReader(ours, self._death)
        deadline: float | None = time.monotonic() + START_SECONDS
        try:
            send(ours, header, payload)
        except OSError:
            self._gone(deadline)
        while True:
            frame = reader.read(deadline)
            if frame is None:
                self._gone(deadline)
            match frame[0]["t"]:
                case "begun":
                    timeout = self._work.spec.timeout_seconds
                    deadline = None if timeout is None else time.monotonic() + timeout
                case "load":
                    self._load(ours, frame[0])
                case _:
                    (entry,) = unpack_entries(frame[0]["entries"], frame[1])
                    return entry

    def _load(self, ours: socket.socket, asked: Header) -> None:
        attempt = self._attempt
        header: Header
        try:
            loaded = fetch(attempt, asked["exec_id"], asked["name"], asked["index"])
        except Exception as error:
            attempt.check_halted()
            header, payload = {"t": "error", "error": describe_failure(error)}, b""
        else:
            header, payload = {"t": "value", "codec": loaded.value.codec}, loaded.value.data
            header = {**header, "artifact_id": loaded.artifact_id, "is_ours": loaded.is_ours}
        try:
            send(ours, header, payload)
        except OSError:
            pass  # the next read finds out why

    def _gone(self, deadline: float | None) -> NoReturn:
        """Its side of the socket is closed, or its time is over."""
        with self._lock:
            ended = self._ended
        if ended:
            self._left()
        if deadline is not None and time.monotonic() >= deadline:
            raise timed_out(self._work.spec, self._call.key)
        raise crashed(self._call, *self._status())

    def _left(self) -> NoReturn:
        self._attempt.check_halted()
        raise KitaruContextError(f"{self._call.key} was left behind by its flow, which has ended")

    def _status(self) -> tuple[int | None, int | None]:
        """Its exit code, and the signal that killed it; neither where it goes on, without its socket."""
        assert self._process is not None
        poll = select.poll()
        poll.register(self._death, select.POLLIN)
        if not poll.poll(EXIT_SECONDS * 1000):
            return None, None
        try:
            # It stays to be waited for: until then its number is not given to another, and its group can be killed.
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # the flow waits for any process
            return None, None
        assert ended is not None
        return (ended.si_status, None) if ended.si_code == os.CLD_EXITED else (None, ended.si_status)

    def _kill(self) -> None:
        """Leave nothing of it: what it started itself goes with it."""
        with self._lock:
            self._kill_group()
            if self._process is not None:
                self._process.wait()

    def _kill_group(self) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def interpreter() -> list[str]:
    """This Python, with this process's ways of finding modules and writing bytecode."""
    options = ["-P"]
    if sys.flags.no_user_site:
        options.append("-s")
    if sys.dont_write_bytecode:
        options.append("-B")
    return [sys.executable, *options]


def request_of(attempt: Attempt, call: Call, work: Work) -> tuple[Header, bytes]:
    """The frame that asks for the call.

    Raises:
        KitaruUsageError: no codec carries the function, or an argument.
    """
    function, args = unwrapped(work.function, work.args)
    header: Header = {"t": "call", "exec_id": attempt.exec_id, "may_pickle": attempt.opening.may_pickle}
    header |= {"key": call.key, "name": call.name, "path": sys.path}
    header |= {"argv": sys.argv, "named": list(work.kwargs)}
    header |= address_of(function)
    values = [argument(value, call) for value in (*args, *work.kwargs.values())]
    if header["qualname"] is None:
        values.insert(0, by_value(function, call))
    header["values"] = [(value.codec, len(value.data)) for value in values]
    return header, b"".join(value.data for value in values)


def unwrapped(function: Callable[..., Any], args: Sequence[Any]) -> tuple[Callable[..., Any], Sequence[Any]]:
    """A method as its function, with the object as its first argument."""
    called: Any = function
    while isinstance(called, functools.partial):
        called, args = called.func, (*called.args, *args)
    return called, args


def address_of(function: Callable[..., Any]) -> Header:
    """Module and file; and the qualified name, where another process finds the function or its checkpoint by that."""
    name = getattr(function, "__module__", None)
    module = sys.modules.get(name or "")
    file = getattr(module, "__file__", None)
    file = str(Path(file).resolve()) if file and file.endswith(".py") else None
    qualname = name_in(module, function)
    if name == "__main__" and (file is None or qualname is None):
        return {"module": None, "file": None, "qualname": None}
    if name == "__main__" and file is not None:
        name = vars(module).get("__kitaru_name__", Path(file).stem)
    return {"module": name if module is not None else None, "file": file, "qualname": qualname}


def name_in(module: object, function: Callable[..., Any]) -> str | None:
    """The qualified name by which the module gives the function, or its checkpoint."""
    qualname: str = getattr(function, "__qualname__", "<")
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return qualname if getattr(found, "function", found) is function else None


def argument(value: object, call: Call) -> Encoded:
    try:
        return codec.encode(value)
    except KitaruUsageError as error:
        raise KitaruUsageError(
            f"{call.key} is isolated, and an argument cannot be sent to its process: {error.message}",
            hint="pass plain data, and open files and connections inside of the checkpoint",
        ) from error


def by_value(function: Callable[..., Any], call: Call) -> Encoded:
    try:
        return codec.encode(function)
    except KitaruUsageError as error:
        raise KitaruUsageError(
            f"{call.key} is isolated, and its function cannot be sent to another process: {error.__cause__}",
            hint="define it at the top of a module, where that process can import it",
        ) from error


def crashed(call: Call, status: int | None, number: int | None) -> KitaruCrashError:
    """Say how the process of a try ended."""
    if number is None:
        how = "closed its connection to the flow" if status is None else f"ended with exit code {status}"
        return KitaruCrashError(
            f"the process of checkpoint {call.key} {how}",
            hint="what it wrote last may say why; @checkpoint(retries=...) tries it again",
            exit_status=status,
        )
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    why = {"SIGKILL": "the kernel does that when memory runs out; ", "SIGSEGV": "native code went wrong; "}
    return KitaruCrashError(
        f"the process of checkpoint {call.key} was killed by {name}",
        hint=f"{why.get(name, '')}@checkpoint(retries=...) tries it again",
        signal=name,
    )
