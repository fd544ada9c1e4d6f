"""A thread that takes turns with others, and what those turns are asked for by the loops and threads of a flow."""

from __future__ import annotations

import sysconfig
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from random import Random
from types import FrameType
from typing import Protocol

from kitaru_registry.clock import now_us
from kitaru_runner.engine.core.blocking import frames_of_threads
from kitaru_runner.engine.core.calls import Branch
from kitaru_runner.values.failures import is_ours

STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]
THIRD_PARTY = sysconfig.get_paths()["purelib"]


class Turns(Protocol):
    """Of a schedule, what is asked by those who go on by it."""

    ended: bool

    def start(self, run: Callable[[], None], name: str, *, daemon: bool = False) -> threading.Thread: ...

    def adopt(self, thread: threading.Thread, start: Callable[[], None]) -> None: ...

    def point(self) -> None: ...

    def until_from_outside(self, there: Callable[[], bool], timeout: float | None, *, outside: bool) -> None: ...

    def block(self, line: Line, there: Callable[[], bool], seconds: float | None) -> bool: ...

    def turns_all(self, threads: Iterable[object]) -> bool: ...

    @property
    def for_loops(self) -> tuple[Turns, Random]: ...


class Line:
    """A thread that takes turns with others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.go: SimpleQueue[None] = SimpleQueue()
        self.there: Callable[[], bool] = always
        self.due_us: int | None = None
        self.interrupted = False
        self.outside = False
        """What it waits for may come from outside of this process."""
        self.blocks = False
        """It waits for a thread by means of the flow's own, not by Kitaru's."""
        self.machine_due: float | None = None
        """When it stops to, in the machine's time."""
        self.is_idle = False
        """Nothing of the flow's is under way in it: a pool's thread without work."""
        self.is_blind = False
        """It is about to start a thread, which is no point to hand on at."""
        self.is_away = False
        """It blocks where nobody sees it, so the turn was taken from it."""
        self.is_main = False
        """It runs the flow's body."""
        self.is_left = False
        """It takes turns no more: the attempt is over."""
        self.is_standing = False
        self.branch: Branch | None = None

    def may_go_on(self) -> bool:
        if self.is_away:
            return False
        if self.machine_due is not None and time.monotonic() >= self.machine_due:
            return True
        return self.interrupted or (self.due_us is not None and now_us() >= self.due_us) or self.there()

    def where(self, ident: int) -> str:
        """Its name, and at which line of whose code it stands."""
        said = self.name
        if self.branch is not None and self.branch.call is not None:
            said += f" in checkpoint {self.branch.call.key}"
        frame = frames_of_threads().get(ident)
        while frame is not None and not is_users(frame):
            frame = frame.f_back
        if frame is not None:
            said += f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        return said


def always() -> bool:
    return True


def is_users(frame: FrameType) -> bool:
    return not is_ours(frame) and not is_of_standard_library(frame)


def is_of_standard_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(("<frozen", STANDARD_LIBRARY)) and not file.startswith(THIRD_PARTY)
