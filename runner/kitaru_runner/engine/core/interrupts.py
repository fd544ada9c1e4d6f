"""What executes user code at this moment, and how a cancellation, or a timeout, in this process ends it.

A thread cannot be ended from outside, but an exception can be put into it, which Python code raises at its next
instruction, and a call that blocks in C at its end. It must not strike where a thread writes to the journal: so it is
given to threads that are in the user's code alone, and taken back from one that leaves that code before it came.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from kitaru_runner.engine.core.forking import end_fork
from kitaru_runner.engine.core.specs import Work
from kitaru_runner.values.failures import ExecutionCancelled

T = TypeVar("T")


class Executing:
    """The threads that are in the user's code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[int, int] = {}
        self._aside: dict[int, int] = {}
        self._struck: dict[int, type[BaseException]] = {}
        self._stops: list[Callable[[], None]] = []
        self.is_forked = False
        """In a process that was forked while these were: user code that ends there ends that process."""

    def run(self, work: Work) -> Any:
        """What the work's function returns; this thread is in the user's code for so long."""
        me = threading.get_ident()
        # Nobody else writes this thread's own.
        self._threads[me] = self._threads.get(me, 0) + 1
        try:
            return work.function(*work.args, **work.kwargs)
        except BaseException as error:
            if self.is_forked:
                end_fork(error)
            raise
        finally:
            if self.is_forked:
                end_fork()
            with self._lock:
                depth = self._threads.pop(me, 1) - 1
                if depth:
                    self._threads[me] = depth
                struck = me in self._struck
            if struck:
                self._take_back(me)

    def aside(self, write: Callable[..., T], *args: Any) -> T:
        """Do something of Kitaru's own that user code has called, where nothing may strike."""
        me = threading.get_ident()
        if me not in self._threads:
            return write(*args)
        with self._lock:
            depth = self._threads.pop(me)
            if me not in self._struck:
                self._aside[me] = depth
        self._take_back(me)
        try:
            return write(*args)
        finally:
            with self._lock:
                self._threads[me] = self._aside.pop(me)
                if me in self._struck:
                    put(me, self._struck[me])

    def on_strike(self, stop: Callable[[], None]) -> Callable[[], None]:
        """Let `stop` be called too: for what executes in another process. What is returned ends that."""
        with self._lock:
            self._stops.append(stop)

        def forget() -> None:
            with self._lock:
                if stop in self._stops:
                    self._stops.remove(stop)

        return forget

    def strike(self) -> None:
        """Raise ExecutionCancelled in every thread that is in the user's code."""
        with self._lock:
            for thread in self._threads.copy():
                self._put(thread, ExecutionCancelled)
            stops = list(self._stops)
        for stop in stops:
            stop()

    def strike_one(self, thread: int, error: type[BaseException]) -> None:
        """Raise it in that thread, or once that is back from something of Kitaru's own; not if it has ended."""
        with self._lock:
            if thread in self._threads:
                self._put(thread, error)
            elif thread in self._aside:
                self._struck[thread] = error

    def _put(self, thread: int, error: type[BaseException]) -> None:
        self._struck[thread] = error
        put(thread, error)

    def _take_back(self, me: int) -> None:
        with self._lock:
            error = self._struck.pop(me, None)
            if error is None:
                return
            put(me, None)
        raise error


def put(thread: int, error: type[BaseException] | None) -> None:
    given = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)
