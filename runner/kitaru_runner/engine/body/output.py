"""What a flow prints, line by line into its execution's log, with the checkpoint that printed it.

While an execution is active here, the `write` of sys.stdout and sys.stderr is ours, and nothing else of them is: they
stay the objects that they were, so that whoever holds one (a handler of `logging` made long before, pdb, tqdm) is heard
too, and isatty, encoding and fileno are true. In a `.run()` the text goes on to the terminal first; in the process of a
deployed flow, whose descriptors 1 and 2 are the log itself, the record takes its place.

`logging` is left as the user set it up. Where a handler writes, the record that it holds tells level and logger.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from kitaru_registry.journal.keys import Call
from kitaru_registry.journal.log_lines import members, open_to_append, pack, remark
from kitaru_runner.engine.core.calls import Branch, current
from kitaru_runner.engine.core.forking import end_in_forks

if TYPE_CHECKING:
    import logging

UNFINISHED_CHARACTERS = 1 << 20
"""A line that grows longer before its newline comes is cut there."""


class Stream(Protocol):
    write: Callable[[str], int]


class Descriptor:
    """Closed when nobody holds it any more: so no thread that is about to write meets another file's number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class ExecutionLog:
    """Where the lines of one attempt go."""

    def __init__(self, path: Path | None, attempt: int, descriptor: Descriptor | None = None) -> None:
        """
        Args:
            path: opened at the first line; not used where there is a descriptor.
        """
        self.attempt = attempt
        self._path = path
        self._descriptor = descriptor

    def append(self, records: str) -> None:
        """One write. A log that cannot be written (a full disk) costs the line, never the flow."""
        try:
            descriptor = self._descriptor
            if descriptor is None and self._path is not None:
                descriptor = self._descriptor = Descriptor(open_to_append(self._path))
            if descriptor is not None:
                os.write(descriptor.number, records.encode("ascii"))
        except OSError:
            pass


@dataclass(slots=True)
class OpenLine:
    """A line that has no newline yet."""

    log: ExecutionLog
    branch: Branch | None
    parts: list[str] = field(default_factory=list)
    size: int = 0
    was_cut: bool = False


class Tap:
    """The `write` of one stream while executions are active."""

    def __init__(self, stream: Stream, name: str, *, passes_on: bool) -> None:
        self._stream = stream
        self._name = name
        self._before: Callable[[str], int] = stream.write if passes_on else length_of
        self._open: dict[object, OpenLine] = {}
        self._last_fields: tuple[Call | None, str] = (None, f'"stream":"{name}",')
        self._write = self.write
        stream.write = self._write

    def is_on(self, stream: object) -> bool:
        return stream is self._stream and vars(stream).get("write") is self._write

    def remove(self) -> None:
        """Give the stream its own `write` back, unless somebody has put another one there since."""
        if self.is_on(self._stream):
            del vars(self._stream)["write"]

    def write(self, text: str) -> int:
        if _stacked:
            if get_ident() in _passing:
                return self._before(text)
            written = self._passed_on(text)
        else:
            written = self._before(text)
        branch = current.get()
        key = line_here()
        line = self._open.get(key)
        # `print` writes a line in several pieces: most calls bring one more.
        if (
            line is not None and line.branch is branch and line.size < UNFINISHED_CHARACTERS
            and "\n" not in text and "\r" not in text
        ):  # fmt: skip
            line.parts.append(text)
            line.size += len(text)
            return written
        log = _own if branch is None else _logs.get(branch.attempt.exec_id, _own)
        if log is None:
            return written
        frame = sys._getframe(1)
        record = record_in(frame.f_locals) if frame.f_code.co_name == "emit" else None
        if record is None:
            self._take(text, key, log, branch)
        else:
            self._end_line(key)
            self._append(log, branch, text.removesuffix("\n"), members(**origin_of(record)))
        return written

    def _passed_on(self, text: str) -> int:
        thread = get_ident()
        _passing.add(thread)
        try:
            return self._before(text)
        finally:
            _passing.discard(thread)

    def _take(self, text: str, key: object, log: ExecutionLog, branch: Branch | None) -> None:
        """Write the lines that the text ends, and keep what is left of it."""
        line = self._open.pop(key, None)
        if line is not None and line.branch is not branch:
            self._write_open(line)
            line = None
        if "\n" in text:
            ended, _, text = text.rpartition("\n")
            if line is not None:
                ended = "".join([*line.parts, ended])
            # The newline of a line that was written when it became too long.
            if ended or line is None or not line.was_cut:
                append = self._append_all if "\n" in ended else self._append
                append(log, branch, ended)
            line = None
        if text:
            self._open[key] = self._longer(line or OpenLine(log, branch), text)

    def _longer(self, line: OpenLine, rest: str) -> OpenLine:
        if "\r" in rest:
            # Written over on a terminal: a progress bar would fill the log with what nobody saw for long.
            _, over, last = rest[:-1].rpartition("\r")
            if over:
                line.parts, line.size, rest = [], 0, last + rest[-1]
        line.parts.append(rest)
        line.size += len(rest)
        if line.size > UNFINISHED_CHARACTERS:
            self._write_open(line)
            line.parts, line.size, line.was_cut = [], 0, True
        return line

    def _end_line(self, key: object) -> None:
        line = self._open.pop(key, None)
        if line is not None:
            self._write_open(line)

    def _write_open(self, line: OpenLine) -> None:
        if line.parts:
            self._append(line.log, line.branch, "".join(line.parts))

    def end_lines(self, exec_id: str | None) -> None:
        """Write the lines that have no newline, of one execution or of all."""
        for key, line in list(self._open.items()):
            if exec_id is None or line.branch is None or line.branch.attempt.exec_id == exec_id:
                self._end_line(key)

    def forget(self) -> None:
        """After a fork: what stands unfinished is the parent's to write."""
        self._open.clear()

    def _append(self, log: ExecutionLog, branch: Branch | None, message: str, more: str = "") -> None:
        fields = self._fields(branch) + more
        log.append(pack(seen(message), at_us=time.time_ns() // 1000, attempt=log.attempt, fields=fields))

    def _append_all(self, log: ExecutionLog, branch: Branch | None, lines: str) -> None:
        """In one write: what was printed as one stays together."""
        fields, at_us = self._fields(branch), time.time_ns() // 1000
        records = [pack(seen(line), at_us=at_us, attempt=log.attempt, fields=fields) for line in lines.split("\n")]
        log.append("".join(records))

    def _fields(self, branch: Branch | None) -> str:
        call = None if branch is None else branch.call
        known, fields = self._last_fields
        if known is not call:
            place = "" if call is None else f'"checkpoint":{quoted(call.key)},'
            fields = f'{place}"stream":"{self._name}",'
            self._last_fields = (call, fields)
        return fields


_taps: list[Tap] = []
_logs: dict[str, ExecutionLog] = {}
_own: ExecutionLog | None = None
"""In a process of the execution's own: whatever it prints belongs to its execution, in threads without a branch too."""

_stacked = False
"""Whether more streams than two were tapped, of which one may stand before another, as `redirect_stdout` puts them."""

_passing: set[int] = set()
"""Threads in a `write` that passes text on, perhaps to another stream of ours: it is written once."""

_lock = threading.Lock()


def begin(path: Path, exec_id: str, attempt: int) -> None:
    """Take into the log what the branches of an execution in this process print, beside the terminal."""
    if attempt > 1:
        remark(path, f"attempt {attempt} begins", attempt=attempt)
    with _lock:
        _logs[exec_id] = ExecutionLog(path, attempt)
        tap_streams(passes_on=True)


def begin_own(attempt: int) -> None:
    """Write records from now on to descriptor 1, which is the log of the only execution of this process.

    What `begin` adds for that execution goes there too, and is not passed on to what is the same file.
    """
    global _own
    with _lock:
        # A copy: a flow that points its descriptors elsewhere takes what is written to them, not its own log.
        _own = ExecutionLog(None, attempt, Descriptor(os.dup(1)))
        tap_streams(passes_on=False)


def end(exec_id: str) -> None:
    """Stop what `begin` began; the streams are as they were when no execution is left."""
    end_lines(exec_id)
    with _lock:
        _logs.pop(exec_id, None)
        if not _logs and _own is None:
            untap_streams()


def end_lines(exec_id: str | None = None) -> None:
    """Write what an execution printed without a newline behind it."""
    for tap in list(_taps):
        tap.end_lines(exec_id)


def tap_streams(*, passes_on: bool) -> None:
    """Tap stdout and stderr as they are now. A stream whose `write` cannot be set is left alone."""
    global _stacked
    if not _taps and hasattr(os, "register_at_fork"):
        watch_forks()
        end_in_forks(end_lines)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        taken = any(tap.is_on(stream) for tap in _taps)
        if hasattr(stream, "__dict__") and not taken:
            _taps.append(Tap(stream, name, passes_on=passes_on))
    _stacked = len(_taps) > 2


def untap_streams() -> None:
    global _stacked
    for tap in _taps:
        tap.remove()
    _taps.clear()
    _stacked = False


def watch_forks() -> None:
    global _watches_forks
    if not _watches_forks:
        _watches_forks = True
        os.register_at_fork(after_in_child=forget_lines)


_watches_forks = False


def forget_lines() -> None:
    for tap in _taps:
        tap.forget()
    _passing.clear()


def line_here() -> object:
    """Whose half of a line this is: the thread's, or the asyncio task's that it executes."""
    thread = get_ident()
    asyncio = sys.modules.get("asyncio")
    running_loop = getattr(asyncio, "_get_running_loop", None)  # not there while another thread imports it
    if asyncio is None or running_loop is None:
        return thread
    loop = running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    return thread if task is None else (thread, id(task))


def seen(line: str) -> str:
    """What of a line stays on a terminal."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


def length_of(text: str) -> int:
    if not isinstance(text, str):
        raise TypeError(f"write() argument must be str, not {type(text).__name__}")
    return len(text)


def record_in(local: Any) -> logging.LogRecord | None:
    """The record that the handler which called `write` is to emit."""
    module = sys.modules.get("logging")
    record = local.get("record")
    return record if module is not None and isinstance(record, module.LogRecord) else None


def origin_of(record: logging.LogRecord) -> dict[str, str | int | None]:
    return {"level": record.levelname, "logger": record.name, "file": record.filename, "line": record.lineno}
